"""Celery's consumer, made to survive its broker: after any failure it reconnects, until the process is asked to end.

Celery ends a worker at the first error that is not a lost connection ("Unrecoverable error"): a message that it cannot
read, a key of the wrong type, a Redis that is a replica, a queue that RabbitMQ knows with other arguments. Here a
loaded model stays loaded: the connection is dropped, the reason is given once, in the log and in `cordctl status`, and
the consumer connects again after a pause, which is short at first. Only a signal, or this application's own decision,
ends the process.

Needed with Celery 5.6.3 and 5.7.0, whose `start` goes on after errors of the connection only. 5.7.0 itself ends where
Redis restarts with tasks in flight ("'NoneType' object has no attribute 'hostname'"); `tests/chaos/test_recovery.py`
restarts it six times. It can go when Celery tries again after every error and can be told to obey no orders.

What is received is read by `incoming`; what is no message of ours is dropped. Questions of Flower are answered, orders
are not: `cordctl drain` is how a worker is asked to end.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import Any

from celery.bootsteps import CLOSE, TERMINATE
from celery.worker import consumer
from celery.worker.control import Panel
from celery.worker.state import maybe_shutdown

from cord_worker.coordination.broker.broker_check import brief_of, place_of, probe_reading
from cord_worker.coordination.broker.incoming_messages import BadMessage, read_work
from cord_worker.coordination.broker.redis_transport import drop
from cord_worker.coordination.celery.tasks import PROCESS, served
from cord_worker.coordination.log_once import Said

logger = logging.getLogger(__name__)

_SHORTEST_PAUSE = 0.1
_LONGEST_PAUSE = 2.0
_LOOK_SECONDS = 0.1
_GOODBYE_SECONDS = 1.0
_LASTING_SECONDS = 5.0
"""A connection that served this long was a good one: after it the next one is tried at once."""
_MOST_MESSAGE_BYTES = 200
_ORDERS = (
    "add_consumer", "autoscale", "cancel_consumer", "election", "pool_grow", "pool_restart", "pool_shrink",
    "rate_limit", "revoke", "revoke_by_stamped_headers", "shutdown", "terminate", "time_limit",
)  # fmt: skip
"""Remote-control commands of Celery that this application does not obey."""


class Consumer(consumer.Consumer):  # type: ignore[misc]
    """Celery's consumer, which neither a message nor a state of the broker can end."""

    class Blueprint(consumer.Consumer.Blueprint):  # type: ignore[misc]
        """Its steps, without the sixty exchanges and queues for delayed messages: this application sends none."""

        default_steps = tuple(
            step for step in consumer.Consumer.Blueprint.default_steps if "delayed_delivery" not in str(step)
        )

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._said = Said(logger)
        self._pause = _SHORTEST_PAUSE
        self._ready_at: float | None = None
        self._lost_at: float | None = None
        for order in _ORDERS:
            Panel.data.pop(order, None)

    def start(self) -> None:
        """Consumes until the process is asked to end, over one connection after the other."""
        while self.blueprint.state not in (CLOSE, TERMINATE):
            maybe_shutdown()
            self.restart_count += 1
            try:
                self.blueprint.start(self)
            except Exception as error:
                logger.debug("the connection to the broker is given up", exc_info=True)
                if self.blueprint.state not in (CLOSE, TERMINATE):
                    self._give_up(error)
                    self._wait()

    def on_ready(self) -> None:
        """Notes that the broker is there."""
        self._ready_at = time.monotonic()
        if self._lost_at is not None:
            self._said.over("broker", f"the broker is back after {self._ready_at - self._lost_at:.1f} s")
            self._lost_at = None
        PROCESS.describe_broker(None)
        super().on_ready()

    def _give_up(self, error: BaseException) -> None:
        """Drops the connection and everything that waited for it."""
        now = time.monotonic()
        if self._ready_at is not None and now - self._ready_at > _LASTING_SECONDS:
            self._pause = _SHORTEST_PAUSE
        self._ready_at = None
        self._lost_at = self._lost_at or now
        url = str(self.app.conf.broker_url)
        brief, place = brief_of(error, url), place_of(url)
        self._said.say("broker", f"waiting for the broker at {place}: {brief}", level=logging.ERROR)
        PROCESS.describe_broker(f"waits for its broker at {place}: {brief}")
        _quietly(self._collect)
        _quietly(self.on_close)
        _quietly(lambda: self.blueprint.restart(self))
        if self.hub is not None:
            _quietly(self.hub.reset)
            _quietly(self.hub.timer.clear)
            _quietly(self.hub.on_tick.clear)

    def _collect(self) -> None:
        if self.connection is not None:
            self.connection.collect()

    def _wait(self) -> None:
        """Waits before the next connection, longer each time, unless the process is asked to end."""
        until = time.monotonic() + self._pause * random.uniform(0.5, 1.0)
        while (left := until - time.monotonic()) > 0:
            maybe_shutdown()
            time.sleep(min(left, _LOOK_SECONDS))
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)

    def ensure_connected(self, conn: Any) -> Any:
        """`conn`, connected in one attempt; `start` makes the further attempts."""
        conn.ensure_connection(max_retries=0, reraise_as_library_errors=False)
        return conn

    def connect(self) -> Any:
        """A connection to a broker that hands out messages."""
        connection = self.connection_for_read(heartbeat=self.amqheartbeat)
        try:
            probe_reading(connection)
            if self.hub:
                connection.transport.register_with_event_loop(connection.connection, self.hub)
        except BaseException:
            _quietly(connection.collect)
            raise
        return connection

    def connection_for_write(self, url: str | None = None, heartbeat: float | None = None) -> Any:
        """A connection for events that waits for no answer: a RabbitMQ that is out of memory or disk confirms no
        messages, and does not answer when a connection is closed."""
        options = {"confirm_publish": False, "read_timeout": _GOODBYE_SECONDS}
        return self.ensure_connected(
            self.app.connection_for_write(url=url, heartbeat=heartbeat, transport_options=options)
        )

    def shutdown(self) -> None:
        """Ends the connection, whatever state it is in."""
        _quietly(super().shutdown)

    def create_task_handler(self, *arguments: Any, **options: Any) -> Callable[[Any], None]:
        """The function for each message: it reads it and gives it to Celery, rebuilt, or drops it."""
        receive = super().create_task_handler(*arguments, **options)
        known = served(self.strategies)
        lost = (*self.connection_errors, *self.channel_errors)

        def handle(message: Any) -> None:
            try:
                work = read_work(message.headers, message.body, message.content_type, message.content_encoding, known)
            except BadMessage as error:
                self._drop(message, error)
                return
            message.headers, message.body = work.headers(), work.body()
            try:
                receive(message)
            except lost:
                raise
            except Exception as error:  # no message may end the process
                logger.debug("a message could not be received", exc_info=True)
                self._drop(message, BadMessage(f"{type(error).__name__} at its receipt"))

        return handle

    def _drop(self, message: Any, error: BadMessage) -> None:
        queue = (message.delivery_info or {}).get("routing_key")
        body = message.body if isinstance(message.body, bytes | str) else b""
        drop(f"queue {queue!r}", error, body[:_MOST_MESSAGE_BYTES])
        if not message.acknowledged:
            message.ack()

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """Drops a message that is not JSON."""
        self._drop(message, BadMessage(f"it cannot be decoded ({type(exc).__name__})"))

    def on_unknown_message(self, body: Any, message: Any) -> None:
        """Drops a message that is not a task."""
        del body
        self._drop(message, BadMessage("it is not a task"))

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:
        """Drops a message whose task is unknown."""
        del body, exc
        self._drop(message, BadMessage("its task is unknown"))

    def on_invalid_task(self, body: Any, message: Any, exc: Exception) -> None:
        """Drops a message that Celery refuses."""
        del body
        self._drop(message, BadMessage(f"Celery refuses it ({type(exc).__name__})"))


def _quietly(work: Callable[[], object]) -> None:
    """Does `work` on something that is already broken; its failure does not matter."""
    try:
        work()
    except Exception:
        logger.debug("while a connection to the broker was given up", exc_info=True)
