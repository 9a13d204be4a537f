"""Sending messages: which task on which queue, and what happens when the broker is away."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from kombu.exceptions import ChannelError, OperationalError

from cord_worker.errors import BrokerError
from cord_worker.store.sweep import Due, Kind

if TYPE_CHECKING:
    from celery import Celery

logger = logging.getLogger(__name__)

COORDINATOR_QUEUE = "coordinator"
_SENTINEL = "cord.sentinel"
_MOST_TOGETHER = 256


def model_queue(fingerprint: str) -> str:
    """Queue of the model with this fingerprint; a worker with other weights never listens to it."""
    return f"model.{fingerprint}"


class Messenger:
    """Sends what is owed. A message that cannot be sent is left to the sweeper: the tables remember it."""

    def __init__(self, app: Celery) -> None:
        self._app = app
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
            self.send(owed)

    def send(self, messages: Iterable[Due]) -> None:
        """Publishes `messages` over one connection; never raises because the broker is away."""
        owed = list(messages)
        if not owed:
            return
        try:
            with self._app.producer_pool.acquire(block=True) as producer:
                for due in owed:
                    self._app.send_task(
                        f"cord.{due.kind}", kwargs=_arguments(due), queue=_queue(due), producer=producer
                    )
        except OperationalError as error:
            logger.warning("broker away, %d messages left to the sweeper: %s", len(owed), error)

    def lengths(self, queues: Iterable[str]) -> Mapping[str, int]:
        """Messages waiting in each queue (those that a worker has fetched are not counted).

        Raises BrokerError where the broker is away.
        """
        try:
            with self._app.connection_for_read() as connection, connection.channel() as channel:
                lengths = {}
                for queue in queues:
                    try:
                        lengths[queue] = channel.queue_declare(queue, passive=True).message_count
                    except ChannelError:
                        lengths[queue] = 0
                return lengths
        except (OperationalError, *self._connection_errors()) as error:
            raise BrokerError(f"the broker cannot be reached: {error}") from error

    def was_emptied(self) -> bool:
        """Whether the broker lost everything since the last call: its sentinel key is missing. Sets it anew.

        Brokers without keys (RabbitMQ) keep their messages on disk and are never called emptied.
        Raises BrokerError where the broker is away.
        """
        try:
            with self._app.connection_for_write() as connection, connection.channel() as channel:
                client = getattr(channel, "client", None)
                if client is None:
                    return False
                return bool(client.set(_SENTINEL, "1", nx=True))
        except (OperationalError, *self._connection_errors()) as error:
            raise BrokerError(f"the broker cannot be reached: {error}") from error

    def _connection_errors(self) -> tuple[type[BaseException], ...]:
        connection = self._app.connection_for_read()
        return (*connection.connection_errors, *connection.channel_errors)


def _queue(due: Due) -> str:
    return COORDINATOR_QUEUE if due.model is None else model_queue(due.model)


def _arguments(due: Due) -> dict[str, int | None]:
    arguments: dict[str, int | None] = {"problem_id": due.problem_id, "step": due.step}
    if due.kind is Kind.PROPOSE:
        arguments["teacher_id"] = due.teacher_id
    return arguments
