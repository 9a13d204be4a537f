"""Sending messages: which task on which queue, and what happens when the broker is away."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from kombu.exceptions import ChannelError, OperationalError

from cord_worker import metrics
from cord_worker.coordination.faults import FaultPoint, sending
from cord_worker.coordination.shards import Shards
from cord_worker.errors import BrokerError
from cord_worker.local.limits import tell
from cord_worker.service_urls import is_amqp
from cord_worker.store.sweep import Due, Kind

if TYPE_CHECKING:
    from celery import Celery

logger = logging.getLogger(__name__)

COORDINATOR_QUEUE = "coordinator"
SENT_AT = "cord_sent_at"
"""Header of a message: when it was sent, in seconds since the epoch."""
_SENTINEL = "cord.sentinel"
_MOST_TOGETHER = 256


PRIORITIES = {Kind.SCORE: 0, Kind.JUDGE: 0, Kind.ANSWER: 3, Kind.VERDICT: 3, Kind.PROPOSE: 6}
"""Urgency within one queue, 0 first: a score or a judgment may complete a step; an answer, and the verdict on one,
frees a place for another problem."""


def queue_name(app: Celery, queue: str) -> str:
    """What `queue` is called at the broker: RabbitMQ knows no prefix of all keys, so each queue has it."""
    return f"{app.conf.get('cord_queue_prefix', '')}{queue}"


class Messenger:
    """Sends what is owed. A message that cannot be sent is left to the sweeper: the tables remember it."""

    def __init__(self, app: Celery, shards: Shards) -> None:
        self._app = app
        self._shards = shards
        self._is_amqp = is_amqp(str(app.conf.broker_url))
        self._posted: queue.SimpleQueue[Due] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._send_posted, name="messenger", daemon=True)
        self._thread.start()

    def post(self, messages: Iterable[Due]) -> None:
        """Sends `messages` soon, from a thread of its own: a slow or absent broker never holds up a commit."""
        for due in messages:
            self._posted.put(due)

    def _send_posted(self) -> None:
        while True:
            owed = [self._posted.get()]
            while len(owed) < _MOST_TOGETHER and not self._posted.empty():
                owed.append(self._posted.get())
            try:
                self.send(owed)
            except Exception as error:  # noqa: BLE001 - the thread goes on; the sweeper sends what is owed
                tell(logger, error, f"{len(owed)} messages are left to the sweeper")

    def send(self, messages: Iterable[Due], *, queue: str | None = None) -> None:
        """Publishes `messages` over one connection, each to the replica that its problem prefers, or all to `queue`.

        Never raises because the broker is away.
        """
        owed = list(messages)
        if not owed:
            return
        try:
            with self._app.producer_pool.acquire(block=True) as producer:
                for due in owed:
                    with sending(FaultPoint.of_send(due.kind)), metrics.timed(due.kind, "publish"):
                        self._app.send_task(
                            f"cord.{due.kind}",
                            kwargs={"problem_id": due.problem_id, "step": due.step},
                            queue=queue_name(self._app, queue or self._queue(due)),
                            priority=self._priority(due.kind),
                            headers={SENT_AT: time.time()},
                            producer=producer,
                        )
        except OperationalError as error:
            logger.warning("broker away, %d messages left to the sweeper: %s", len(owed), error)

    def _queue(self, due: Due) -> str:
        return COORDINATOR_QUEUE if due.model is None else self._shards.queue_of(due.model, due.problem_id)

    def _priority(self, kind: Kind) -> int:
        urgency = PRIORITIES.get(kind, 0)
        return 9 - urgency if self._is_amqp else urgency

    def lengths(self, queues: Iterable[str]) -> Mapping[str, int]:
        """Messages waiting in each queue (those that a worker has fetched are not counted).

        On Redis the queue is not asked for passively: kombu 5.6 looks for it without the key prefix and finds none.
        Raises BrokerError where the broker is away.
        """
        try:
            with self._app.connection_for_read() as connection:
                return {queue: self._length(connection, queue) for queue in queues}
        except (OperationalError, *self._connection_errors()) as error:
            raise BrokerError(f"the broker cannot be reached: {error}") from error

    def _length(self, connection: Any, queue: str) -> int:
        # RabbitMQ closes a channel on which a queue was asked for that does not exist.
        with connection.channel() as channel:
            try:
                declared = channel.queue_declare(queue_name(self._app, queue), passive=self._is_amqp)
                return int(declared.message_count)
            except ChannelError:
                return 0

    def was_emptied(self) -> bool:
        """Whether the broker lost everything since the last call: its sentinel key is missing. Sets it anew.

        Brokers without keys (RabbitMQ) keep their messages on disk and are never called emptied.
        Raises BrokerError where the broker is away.
        """
        try:
            with self._app.connection_for_write() as connection, connection.channel() as channel:
                client = getattr(channel, "client", None)
                if client is None or client.exists(_SENTINEL):
                    return False
                with sending(FaultPoint.MARK_BROKER):
                    return bool(client.set(_SENTINEL, "1", nx=True))
        except (OperationalError, *self._connection_errors()) as error:
            raise BrokerError(f"the broker cannot be reached: {error}") from error

    def discard(self, queue: str) -> None:
        """Empties a queue that nobody listens to any more. Raises BrokerError where the broker is away."""
        try:
            with (
                self._app.connection_for_write() as connection,
                connection.channel() as channel,
                sending(FaultPoint.DISCARD_QUEUE),
            ):
                channel.queue_purge(queue_name(self._app, queue))
        except ChannelError:
            return
        except (OperationalError, *self._connection_errors()) as error:
            raise BrokerError(f"the broker cannot be reached: {error}") from error

    def _connection_errors(self) -> tuple[type[BaseException], ...]:
        connection = self._app.connection_for_read()
        return (*connection.connection_errors, *connection.channel_errors)
