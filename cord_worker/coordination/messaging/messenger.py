"""Sends messages: which message goes to which queue, and what happens while the broker is away."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from kombu.exceptions import ChannelError, OperationalError
from redis import ResponseError

from cord_worker import metrics
from cord_worker.coordination.broker.broker_check import broker_address, check_broker, short_reason
from cord_worker.coordination.broker.incoming_messages import SENT_AT
from cord_worker.coordination.broker.redis_transport import is_wrong_type
from cord_worker.coordination.fault_points import FaultPoint, send_point
from cord_worker.coordination.log_once import LogOnce
from cord_worker.coordination.messaging.routing import Shards
from cord_worker.coordination.stuck_threads import working
from cord_worker.coordination.transactions import sending
from cord_worker.display_text import counted
from cord_worker.errors import BrokerError
from cord_worker.local.limits import log_error
from cord_worker.service_url_checks import is_amqp
from cord_worker.store.schema import kinds
from cord_worker.store.work.values import Claimed, Due, Outcome

if TYPE_CHECKING:
    from celery import Celery

logger = logging.getLogger(__name__)

COORDINATOR_QUEUE = "coordinator"
_OWNER = "cord.owner"
"""Key that names the database whose messages the broker carries. If the broker loses the messages, it loses this key
too."""
_MAX_BATCH = 256
_PROBE_SECONDS = 2.0
"""While the broker takes no messages, and there are none to send, it is checked at this interval."""
_SEND_OPTIONS = {"confirm_timeout": 3.0, "retry_policy": {"max_retries": 1}}
"""RabbitMQ confirms a message within this time, unless it is out of memory or disk; then the sweeper sends it later."""


def urgency_of(message: str) -> int:
    """Urgency of `message` (its name) within one queue, 0 first.

    Scores and selection judgments come first, because they may complete a step. Then come final answers and answer
    judgments, which make room for another problem, then proposals, then rescores. Messages to coordinators all have 0:
    their queue is served in order of arrival.
    """
    return next((kind.urgency for kind in kinds.KINDS if kind.name == message), 0)


def queue_name(app: Celery, queue: str) -> str:
    """Name of `queue` at the broker. RabbitMQ has no common prefix of all keys, so each queue name starts with it."""
    return f"{app.conf.get('cord_queue_prefix', '')}{queue}"


class Messenger:
    """Sends what is owed. A message that cannot be sent is left to the sweeper: the tables remember it.

    `describe` is called with the reason why the broker takes no messages, as a sentence without its subject, and with
    None once it takes them again.
    """

    def __init__(self, app: Celery, shards: Shards, describe: Callable[[str | None], None] = lambda _: None) -> None:
        self._app = app
        self._shards = shards
        self._describe = describe
        self._url = str(app.conf.broker_url)
        self._is_amqp = is_amqp(self._url)
        connection = app.connection_for_write()
        self._connection_errors = (OperationalError, *connection.connection_errors, *connection.channel_errors)
        self._log_once = LogOnce(logger)
        self._lock = threading.Lock()
        self._unsent = 0
        self._is_refused = False
        self._posted: queue.SimpleQueue[Due] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._send_posted, name="messenger", daemon=True)
        self._thread.start()

    def post(self, messages: Iterable[Due]) -> None:
        """Sends `messages` soon, from the messenger's own thread: a slow or absent broker never delays a commit."""
        for due in messages:
            self._posted.put(due)

    def post_due(self, result: Claimed | Outcome) -> None:
        """Posts the messages that are due after the commit of `result`."""
        self.post(result.due)

    def _send_posted(self) -> None:
        while True:
            owed = self._next_posted()
            try:
                with working("the messenger"):
                    if owed:
                        self.send(owed)
                    elif self._is_refused:
                        self._probe()
            except Exception as error:  # noqa: BLE001 - the thread continues; the sweeper sends what is owed
                left = f"{counted(len(owed), 'message')} left to the sweeper"
                log_error(logger, error, left if owed else "the broker could not be checked")

    def _next_posted(self) -> list[Due]:
        """The next messages that were posted; waits for the first one, and returns none if it does not come soon."""
        try:
            owed = [self._posted.get(timeout=_PROBE_SECONDS)]
        except queue.Empty:
            return []
        while len(owed) < _MAX_BATCH and not self._posted.empty():
            owed.append(self._posted.get())
        return owed

    def _probe(self) -> None:
        """Checks whether the broker takes messages again; otherwise an idle process would not notice."""
        with suppress(BrokerError):
            check_broker(self._url, str(self._app.conf.broker_transport_options.get("global_keyprefix", "")))
            self._note_success()

    def send(self, messages: Iterable[Due], *, queue: str | None = None) -> bool:
        """Publishes `messages` over one connection, each to the replica that its problem prefers, or all to `queue`.

        Returns whether the broker took them all. Does not raise if it is away.
        """
        owed = list(messages)
        if not owed:
            return True
        try:
            with self._app.producer_pool.acquire(block=True) as producer:
                try:
                    for due in owed:
                        self._publish(producer, due, queue)
                except self._connection_errors:
                    # The connection may lead to a server that no longer exists.
                    with suppress(Exception):
                        producer.connection.collect()
                    raise
        except self._connection_errors as error:
            reason = self._note_refusal(error, len(owed))
            self._log_once.log("broker", f"messages are left to the sweeper, the broker takes none: {reason}")
            return False
        self._note_success()
        return True

    def _note_refusal(self, error: BaseException, unsent: int = 0) -> str:
        """Notes that the broker cannot be used, and says why."""
        reason = short_reason(error, self._url)
        with self._lock:
            self._unsent += unsent
            self._is_refused = True
            self._describe(f"cannot send messages to its broker at {broker_address(self._url)}: {reason}")
        return reason

    def _note_success(self) -> None:
        with self._lock:
            unsent, self._unsent = self._unsent, 0
            if self._is_refused:
                self._is_refused = False
                self._describe(None)
        if unsent:
            self._log_once.log_recovery("broker", f"the broker takes messages again; {unsent} were left to the sweeper")

    def _publish(self, producer: Any, due: Due, queue: str | None) -> None:
        with sending(send_point(due.kind)), metrics.timed(due.kind, "publish"):
            self._app.send_task(
                f"cord.{due.kind}",
                kwargs={"problem_id": due.problem_id, "step": due.step},
                queue=queue_name(self._app, queue or self._queue(due)),
                priority=self._priority(due.kind),
                headers={SENT_AT: time.time()},
                producer=producer,
                **(_SEND_OPTIONS if self._is_amqp else {}),
            )

    def _queue(self, due: Due) -> str:
        return COORDINATOR_QUEUE if due.model is None else self._shards.queue_of(due.model, due.problem_id)

    def _priority(self, kind: str) -> int:
        urgency = urgency_of(kind)
        # RabbitMQ serves high priorities first, kombu's queues in Redis low ones.
        return 9 - urgency if self._is_amqp else urgency

    def lengths(self, queues: Iterable[str]) -> Mapping[str, int]:
        """Messages waiting in each queue (those that a worker has fetched are not counted).

        On Redis the queue is declared, not only looked up (`passive`): kombu (5.6.2, 5.7.0) looks it up without the key
        prefix and finds none. Raises BrokerError if the broker is away.
        """
        try:
            with self._app.connection_for_read() as connection:
                return {queue: self._length(connection, queue) for queue in queues}
        except self._connection_errors as error:
            raise BrokerError(f"the broker cannot be used: {self._note_refusal(error)}") from error

    def _length(self, connection: Any, queue: str) -> int:
        # Its own channel: RabbitMQ closes a channel that asks for a queue which does not exist.
        with connection.channel() as channel:
            try:
                declared = channel.queue_declare(queue_name(self._app, queue), passive=self._is_amqp)
                return int(declared.message_count)
            except ChannelError:
                return 0

    def exchange_owner(self, owner: str) -> str | None:
        """Writes `owner` (the identity of the database) into the broker, and returns what was written there before.

        None says that the broker has lost everything since the last call. A broker without keys (RabbitMQ) keeps its
        messages on disk and cannot tell; then the result is `owner`. Raises BrokerError if the broker is away.
        """
        try:
            with self._app.connection_for_write() as connection, connection.channel() as channel:
                client = getattr(channel, "client", None)
                if client is None:
                    return owner
                before = _read_text(client, f"{channel.global_keyprefix}{_OWNER}")
                if before != owner:
                    with sending(FaultPoint.MARK_BROKER):
                        client.set(_OWNER, owner)
                return before
        except self._connection_errors as error:
            raise BrokerError(f"the broker cannot be used: {self._note_refusal(error)}") from error

    def discard(self, queue: str) -> None:
        """Empties a queue that no process reads any more. Raises BrokerError if the broker is away."""
        try:
            with (
                self._app.connection_for_write() as connection,
                connection.channel() as channel,
                sending(FaultPoint.DISCARD_QUEUE),
            ):
                channel.queue_purge(queue_name(self._app, queue))
        except ChannelError:
            return
        except self._connection_errors as error:
            raise BrokerError(f"the broker cannot be used: {self._note_refusal(error)}") from error


def _read_text(client: Any, key: str) -> str | None:
    """The text in this key of Redis; None if there is none, or a value of another type.

    Kombu (5.6.2, 5.7.0) prefixes the keys of SET, but not those of GET.
    """
    try:
        value = client.get(key)
    except ResponseError as error:
        if is_wrong_type(error):
            return None
        raise
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
