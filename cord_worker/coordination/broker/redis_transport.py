"""Kombu's Redis transport, made robust against any content of Redis and any state of the server.

All of this is needed with kombu 5.6.2, and all but one with 5.7.0; both are tested. Each item says until when.

- One client object per channel, until kombu keeps one. Kombu makes a new one for every message and every look at a
  queue, and redis-py fills two tables of a few hundred entries each time: a fifth of what a message costs. Clients
  share their channel's pool of connections anyway, and may be used from several threads.
- `incoming_messages` reads the content of a queue before kombu does, and drops what is not a message. Needed until
  kombu's `_brpop_read` and `_get` raise `Empty` for it.
- A key of ours that holds another type is renamed to `cord.set-aside.KEY`, over an earlier key of that name, so that
  the queue continues. Needed always: Redis may be shared. Kombu 5.7 keeps bindings in further keys.
- A refusal by Redis (it is a replica, read-only, out of memory, asks for another password, forbids a command) counts as
  a lost connection: Celery and kombu reconnect, perhaps to another server of that name. Needed until kombu's
  `connection_errors` hold these errors.
- A channel that was closed, while another thread still uses it, counts as a lost connection. Needed until kombu raises
  one of its `connection_errors` for it instead of an AttributeError.
- The event loop asks for messages as long as it runs. Kombu stops that for good when one of its two connections is
  lost and the other is not, for example if Redis restarts while the second is opened and its second attempt succeeds.
  The worker then lives on and receives nothing, while its queues fill. Needed with kombu 5.6: from 5.7.0 on, its
  `_on_disconnect` no longer removes `on_poll_start`. `ensure_polling` notices such a *deaf* channel, whatever the
  cause.
- Messages without an acknowledgement are not put back when a channel closes (`do_restore`), because recovery comes from
  the tables. Needed always: kombu 5.7.0 would put them back over a client that is gone, which ends the worker.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from queue import Empty
from typing import Any, TypeVar

import redis
from kombu.transport import TRANSPORT_ALIASES, _transport_cache
from kombu.transport import redis as kombu_redis
from kombu.utils.encoding import bytes_to_str

from cord_worker import metrics
from cord_worker.coordination.broker.incoming_messages import BadMessage, excerpt, read_envelope
from cord_worker.coordination.log_once import LogOnce

logger = logging.getLogger(__name__)

T = TypeVar("T")

SET_ASIDE = "cord.set-aside."
"""Prefix that a key of a wrong type gets."""
_BINDINGS = ("_kombu.binding.", "_kombu.binding_permanent.")
"""Prefixes of kombu's sets of bindings; the second comes with kombu 5.7."""
_DEADLINES = "_kombu.binding_deadlines"
"""Kombu 5.7's sorted set of the times until which the bindings of an exchange are kept."""
_POLLING_CHECK_SECONDS = 5.0
_log_once = LogOnce(logger)


def is_wrong_type(error: BaseException) -> bool:
    """Whether Redis says that a key holds another type than the command needs."""
    return isinstance(error, redis.ResponseError) and "WRONGTYPE" in str(error)


def expected_type(key: str) -> bytes | None:
    """The type that a key (without prefix) of this application has; None for unknown keys."""
    if key.startswith(_BINDINGS):
        return b"set"
    if key == _DEADLINES:
        return b"zset"
    queue = key.partition(kombu_redis.Channel.sep)[0]
    return b"list" if queue == "coordinator" or queue.startswith("model.") else None


def rename_wrong_types(client: Any, prefix: str, keys: Iterable[str], wanted: bytes) -> list[str]:
    """Renames those `keys` (without `prefix`) that hold a type other than `wanted`; returns them."""
    found = []
    for key in keys:
        # Whole keys, because kombu's clients add no prefix in TYPE and RENAME.
        whole, aside = f"{prefix}{key}", f"{prefix}{SET_ASIDE}{key}"
        kind = client.execute_command("TYPE", whole)
        if kind in (wanted, b"none"):
            continue
        with suppress(redis.ResponseError):  # another process was faster
            client.execute_command("RENAME", whole, aside)
        found.append(key)
        _log_once.log(
            f"type {key}",
            f"the key {whole!r} of the broker was a {kind.decode('ascii', 'replace')}, not a {wanted.decode()}: it is "
            f"called {aside!r} now",
        )
    return found


def drop_message(what: str, error: BadMessage, message: object) -> None:
    """Counts and logs a dropped message; `what` says where it came from."""
    metrics.BAD_MESSAGES.inc()
    _log_once.log("message", f"a message of {what} was dropped, because {error}: {excerpt(message)}")


class RedisChannel(kombu_redis.Channel):  # type: ignore[misc]
    """Kombu's channel with the changes that this module lists."""

    do_restore = False
    _shared: tuple[Any, Any] = (None, None)
    polls = 0
    """How often it has asked for messages."""

    @property
    def state(self) -> Any:
        """Kombu's record of exchanges."""
        return self._while_open(lambda: super(RedisChannel, self).state)

    def _connparams(self, *arguments: Any, **options: Any) -> dict[str, Any]:
        return self._while_open(lambda: super(RedisChannel, self)._connparams(*arguments, **options))

    @property
    def is_deaf(self) -> bool:
        """Whether it has queues and may consume, but waits for no message."""
        return bool(self.active_queues) and self.qos.can_consume() and not self._in_poll

    def _while_open(self, work: Callable[[], T]) -> T:
        """Does `work`. Raises redis.ConnectionError if it fails because the channel was closed."""
        try:
            return work()
        except AttributeError:
            if self.connection is None:
                raise redis.ConnectionError("its channel was closed") from None
            raise

    @contextmanager
    def conn_or_acquire(self, client: Any = None) -> Iterator[Any]:
        """`client`, or the shared one."""
        if client:
            yield client
            return
        pool, shared = self._shared
        if pool is not self.pool:
            pool, shared = self._shared = (self.pool, self._create_client())
        yield shared

    def _brpop_start(self, *arguments: Any, **options: Any) -> None:
        """Asks for messages, and counts it in `polls`."""
        self.polls += 1
        super()._brpop_start(*arguments, **options)

    def _brpop_read(self, **options: Any) -> bool:
        """Delivers the message that BRPOP has popped. Raises Empty if there was none."""
        try:
            found = self.client.parse_response(self.client.connection, "BRPOP", **options)
        except self.connection_errors as error:
            if is_wrong_type(error) and self._rename_wrong_types(*self.active_queues):
                raise Empty from None
            self.client.connection.disconnect()
            raise
        finally:
            self._in_poll = None
        if not found:
            raise Empty
        key, item = found
        queue = bytes_to_str(key).rsplit(self.sep, 1)[0]
        self._queue_cycle.rotate(queue)
        self.connection._deliver(self._read(item, queue), queue)
        return True

    def _get(self, queue: str) -> dict[str, Any]:
        with self.conn_or_acquire() as client:
            for priority in self.priority_steps:
                item = client.rpop(self._q_for_pri(queue, priority))
                if item:
                    return self._read(item, queue)
        raise Empty

    def _read(self, item: bytes, queue: str) -> dict[str, Any]:
        try:
            return read_envelope(item)
        except BadMessage as error:
            drop_message(f"queue {queue!r}", error, item)
            raise Empty from None

    def _receive_one(self, c: Any) -> Any:
        """Delivers a broadcast (Flower's questions). Raises Empty if there was none."""
        try:
            return super()._receive_one(c)
        except (Empty, *self.connection_errors):
            raise
        except Exception as error:  # a broadcast may hold anything
            logger.debug("a broadcast could not be read", exc_info=True)
            metrics.BAD_MESSAGES.inc()
            _log_once.log("broadcast", f"a broadcast that Celery cannot read was dropped: {excerpt(repr(error))}")
            raise Empty from None

    def _put(self, queue: str, message: Any, **options: Any) -> None:
        self._with_right_types(queue, lambda: super(RedisChannel, self)._put(queue, message, **options))

    def _size(self, queue: str) -> int:
        return int(self._with_right_types(queue, lambda: super(RedisChannel, self)._size(queue)))

    def _purge(self, queue: str) -> int:
        return int(self._with_right_types(queue, lambda: super(RedisChannel, self)._purge(queue)))

    def _queue_bind(self, exchange: str, routing_key: str, pattern: str, queue: str) -> None:
        # Work is sent to queues by their names alone (no bindings), so that a full Redis can still be read.
        if exchange != queue:
            self._with_right_types(
                queue, lambda: super(RedisChannel, self)._queue_bind(exchange, routing_key, pattern, queue), exchange
            )

    def get_table(self, exchange: str) -> list[tuple[str, ...]]:
        """The bindings of an exchange."""
        return list(self._with_right_types("", lambda: super(RedisChannel, self).get_table(exchange), exchange))

    def _with_right_types(self, queue: str, work: Callable[[], T], exchange: str | None = None) -> T:
        """Does `work`. If a key of this queue or exchange has a wrong type, renames the key and does `work` again."""
        try:
            return work()
        except redis.ResponseError as error:
            if not is_wrong_type(error) or not self._rename_wrong_types(queue, exchange=exchange):
                raise
        return work()

    def _rename_wrong_types(self, *queues: str, exchange: str | None = None) -> list[str]:
        with self.conn_or_acquire() as client:
            lists = (self._q_for_pri(queue, priority) for queue in queues if queue for priority in self.priority_steps)
            found = rename_wrong_types(client, self.global_keyprefix, lists, b"list")
            if exchange is not None:
                bindings = (f"{name}{exchange}" for name in _BINDINGS)
                found += rename_wrong_types(client, self.global_keyprefix, bindings, b"set")
                found += rename_wrong_types(client, self.global_keyprefix, [_DEADLINES], b"zset")
            return found

    def basic_reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Puts the message back if `requeue` and if that is possible; the tables owe the work in any case."""
        try:
            super().basic_reject(delivery_tag, requeue=requeue)
        except self.connection_errors as error:
            logger.debug("a message could not be put back: %s", error)
            super().basic_reject(delivery_tag, requeue=False)

    def queue_delete(self, queue: str, *arguments: Any, **options: Any) -> Any:
        """Deletes a queue; while the channel closes, errors of the connection are ignored."""
        try:
            return super().queue_delete(queue, *arguments, **options)
        except self.connection_errors:
            if not self._closing:
                raise

    def close(self) -> None:
        """Ends every connection of this channel, whatever state the server is in."""
        try:
            super().close()
        except Exception:  # the pending answer may be anything
            logger.debug("a channel was not closed properly", exc_info=True)
            self._in_poll = None
            with suppress(Exception):
                super().close()
        self._disconnect_pools()
        self._close_clients()


class RedisTransport(kombu_redis.Transport):  # type: ignore[misc]
    """Kombu's Redis transport with `RedisChannel`, which asks for messages until its event loop is reset."""

    Channel = RedisChannel
    connection_errors = kombu_redis.Transport.connection_errors + kombu_redis.Transport.channel_errors

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        """Asks for messages at every tick of `loop`, whichever connections are lost: a connection that waited for
        messages is opened again at the next tick, or raises the error that ends the loop."""
        super().register_with_event_loop(connection, loop)
        self.cycle._on_connection_disconnect = lambda lost: loop.remove(lost._sock) if lost._sock else None
        deaf: dict[RedisChannel, int] = {}
        loop.call_repeatedly(_POLLING_CHECK_SECONDS, lambda: self.ensure_polling(deaf))

    def ensure_polling(self, deaf: dict[RedisChannel, int]) -> None:
        """Raises redis.ConnectionError if a channel was deaf at the last check, is so now, and has not polled since.

        `deaf` holds the deaf channels of the last check, each with its `polls`. (A busy channel may be between a
        message and the next poll at every check.)
        """
        before, now = dict(deaf), {channel: channel.polls for channel in self.cycle._channels if channel.is_deaf}
        deaf.clear()
        deaf.update(now)
        if before.items() & now.items():
            raise redis.ConnectionError("no messages were asked for")


def register() -> None:
    """Makes every Redis URL of this process (also over TLS or a socket) use this transport."""
    for scheme in ("redis", "rediss"):
        TRANSPORT_ALIASES[scheme] = f"{__name__}:{RedisTransport.__name__}"
        _transport_cache.pop(scheme, None)  # a lookup before this call has cached kombu's own transport
