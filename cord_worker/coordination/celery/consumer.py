"""Celery's consumer, made to survive its broker: after any failure it reconnects, until the process is asked to end.

Celery ends a worker at the first error that is not a lost connection ("Unrecoverable error"): a message that it cannot
read, a key of the wrong type, a Redis that is a replica, a queue that RabbitMQ knows with other arguments. Here a
loaded model stays loaded: the connection is dropped, the reason is given once, in the log and in `cordctl status`, and
the consumer connects again after a pause, which is short at first. Only a signal, or this application's own decision,
ends the process.

Needed with Celery 5.6.3 and 5.7.0, whose `start` continues only after connection errors. Without this module, a worker
of Celery 5.7.0 ends if Redis restarts while tasks are in flight ("'NoneType' object has no attribute 'hostname'");
`tests/chaos/test_recovery.py` restarts Redis six times. Remove this module when Celery retries after every error and
can disable its remote-control commands.

`incoming_messages` reads what is received; what is not a message of this service is dropped. Flower's questions are
answered, but its commands are not obeyed: `cordctl drain` ends a worker.
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

from cord_worker.coordination.broker.broker_check import broker_address, probe_reading, short_reason
from cord_worker.coordination.broker.incoming_messages import BadMessage, read_message
from cord_worker.coordination.broker.redis_transport import drop_message
from cord_worker.coordination.celery.tasks import PROCESS, served_tasks
from cord_worker.coordination.log_once import LogOnce

logger = logging.getLogger(__name__)

_MIN_PAUSE_SECONDS = 0.1
_MAX_PAUSE_SECONDS = 2.0
_SHUTDOWN_CHECK_SECONDS = 0.1
"""While it waits to reconnect, the consumer looks this often whether the process is asked to end."""
_EVENTS_READ_SECONDS = 1.0
"""The read timeout of the connection for events."""
_STABLE_SECONDS = 5.0
"""After a connection that lasted this long, the pause before the next one is the shortest again."""
_MAX_LOGGED_BYTES = 200
_DISABLED_COMMANDS = (
    "add_consumer", "autoscale", "cancel_consumer", "election", "pool_grow", "pool_restart", "pool_shrink",
    "rate_limit", "revoke", "revoke_by_stamped_headers", "shutdown", "terminate", "time_limit",
)  # fmt: skip
"""Remote-control commands of Celery that this application does not obey."""


class Consumer(consumer.Consumer):  # type: ignore[misc]
    """A Celery consumer. No message ends it, and no state of the broker."""

    class Blueprint(consumer.Consumer.Blueprint):  # type: ignore[misc]
        """Celery's steps, without the sixty exchanges and queues for delayed messages: this application sends none."""

        default_steps = tuple(
            step for step in consumer.Consumer.Blueprint.default_steps if "delayed_delivery" not in str(step)
        )

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._log_once = LogOnce(logger)
        self._pause = _MIN_PAUSE_SECONDS
        self._ready_at: float | None = None
        self._lost_at: float | None = None
        for command in _DISABLED_COMMANDS:
            Panel.data.pop(command, None)

    def start(self) -> None:
        """Consumes until the process is asked to end, over one connection after the other."""
        while self.blueprint.state not in (CLOSE, TERMINATE):
            maybe_shutdown()
            self.restart_count += 1
            try:
                self.blueprint.start(self)
            except Exception as error:
                logger.debug("the connection to the broker is dropped", exc_info=True)
                if self.blueprint.state not in (CLOSE, TERMINATE):
                    self._drop_connection(error)
                    self._wait()

    def on_ready(self) -> None:
        """Notes that the broker is there."""
        self._ready_at = time.monotonic()
        if self._lost_at is not None:
            self._log_once.log_recovery("broker", f"the broker is back after {self._ready_at - self._lost_at:.1f} s")
            self._lost_at = None
        PROCESS.describe_broker(None)
        super().on_ready()

    def _drop_connection(self, error: BaseException) -> None:
        """Drops the connection and everything that waited for it."""
        now = time.monotonic()
        if self._ready_at is not None and now - self._ready_at > _STABLE_SECONDS:
            self._pause = _MIN_PAUSE_SECONDS
        self._ready_at = None
        self._lost_at = self._lost_at or now
        url = str(self.app.conf.broker_url)
        brief, place = short_reason(error, url), broker_address(url)
        self._log_once.log("broker", f"waiting for the broker at {place}: {brief}", level=logging.ERROR)
        PROCESS.describe_broker(f"waits for its broker at {place}: {brief}")
        _ignoring_errors(self._collect)
        _ignoring_errors(self.on_close)
        _ignoring_errors(lambda: self.blueprint.restart(self))
        if self.hub is not None:
            _ignoring_errors(self.hub.reset)
            _ignoring_errors(self.hub.timer.clear)
            _ignoring_errors(self.hub.on_tick.clear)

    def _collect(self) -> None:
        if self.connection is not None:
            self.connection.collect()

    def _wait(self) -> None:
        """Waits before the next connection, longer each time, unless the process is asked to end."""
        until = time.monotonic() + self._pause * random.uniform(0.5, 1.0)
        while (left := until - time.monotonic()) > 0:
            maybe_shutdown()
            time.sleep(min(left, _SHUTDOWN_CHECK_SECONDS))
        self._pause = min(2 * self._pause, _MAX_PAUSE_SECONDS)

    def ensure_connected(self, conn: Any) -> Any:
        """`conn`, connected in one attempt; `start` makes the further attempts."""
        conn.ensure_connection(max_retries=0, reraise_as_library_errors=False)
        return conn

    def connect(self) -> Any:
        """Connects to the broker, and checks that it hands out messages."""
        connection = self.connection_for_read(heartbeat=self.amqheartbeat)
        try:
            probe_reading(connection)
            if self.hub:
                connection.transport.register_with_event_loop(connection.connection, self.hub)
        except BaseException:
            _ignoring_errors(connection.collect)
            raise
        return connection

    def connection_for_write(self, url: str | None = None, heartbeat: float | None = None) -> Any:
        """A connection for events. It waits for no confirmation and only briefly for an answer: if RabbitMQ is out of
        memory or disk, it confirms no messages, and does not answer when a connection is closed."""
        options = {"confirm_publish": False, "read_timeout": _EVENTS_READ_SECONDS}
        return self.ensure_connected(
            self.app.connection_for_write(url=url, heartbeat=heartbeat, transport_options=options)
        )

    def shutdown(self) -> None:
        """Ends the connection, whatever state it is in."""
        _ignoring_errors(super().shutdown)

    def create_task_handler(self, *arguments: Any, **options: Any) -> Callable[[Any], None]:
        """The function that Celery calls for each message: it reads the message, and drops it or builds it again from
        what was read and gives that to Celery."""
        receive = super().create_task_handler(*arguments, **options)
        known = served_tasks(self.strategies)
        lost = (*self.connection_errors, *self.channel_errors)

        def handle(message: Any) -> None:
            try:
                work = read_message(
                    message.headers, message.body, message.content_type, message.content_encoding, known
                )
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
                self._drop(message, BadMessage(f"{type(error).__name__} when it was received"))

        return handle

    def _drop(self, message: Any, error: BadMessage) -> None:
        queue = (message.delivery_info or {}).get("routing_key")
        body = message.body if isinstance(message.body, bytes | str) else b""
        drop_message(f"queue {queue!r}", error, body[:_MAX_LOGGED_BYTES])
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


def _ignoring_errors(work: Callable[[], object]) -> None:
    """Does `work` on something that is already broken; its failure does not matter."""
    try:
        work()
    except Exception:
        logger.debug("an error while a connection to the broker was dropped", exc_info=True)
