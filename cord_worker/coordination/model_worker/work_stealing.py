"""Work stealing: an idle replica takes over work of its model that waits for another replica.

It reads the tables, not the other replica's queue: work that was not claimed for `steal_seconds` is sent to the
idle replica's shard. The original message then finds nothing to claim, which costs one look. So the work of a busy,
dying or dead replica continues, and so does work whose message the broker lost, long before the sweeper sends it again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import TracebackType
from typing import Self

import sqlalchemy as sa

from cord_worker import metrics
from cord_worker.coordination.fault_points import FaultPoint
from cord_worker.coordination.messaging.messenger import Messenger
from cord_worker.coordination.periodic_thread import PeriodicThread
from cord_worker.coordination.stuck_threads import working
from cord_worker.coordination.transactions import commit
from cord_worker.store.database import Database
from cord_worker.store.work import sweep
from cord_worker.store.work.values import Due

logger = logging.getLogger(__name__)

_MAX_PAUSE = 8.0
"""Longest pause between two looks, in multiples of `steal_seconds`; reached while there is nothing to take over."""


class WorkStealer:
    """A thread that looks for waiting work of `model` while `room()` (candidates that could be taken) is positive."""

    def __init__(
        self,
        database: Database,
        messenger: Messenger,
        *,
        model: str,
        queue: str,
        steal_seconds: float,
        room: Callable[[], int],
    ) -> None:
        self._database = database
        self._messenger = messenger
        self._model = model
        self._queue = queue
        self._seconds = steal_seconds
        self._room = room
        self._thread = PeriodicThread(
            "work-stealing", self._look, steal_seconds, failure="no work is taken over now", logger=logger
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._thread.join()

    def stop(self) -> None:
        """Stops taking over work."""
        self._thread.stop()

    def _look(self) -> None:
        taken = 0
        try:
            with working("work stealing"):
                taken = self._take_over()
        finally:
            longer = min(self._thread.seconds * 2, self._seconds * _MAX_PAUSE)
            self._thread.seconds = self._seconds if taken else longer

    def _take_over(self) -> int:
        room = self._room()
        if room <= 0:
            return 0

        def due(connection: sa.Connection) -> list[Due]:
            return sweep.due_model_work(connection, [self._model], self._seconds, limit=room)

        owed = commit(self._database, FaultPoint.STEAL_WORK, due, retry_seconds=0.0)
        self._messenger.send(owed, queue=self._queue)
        metrics.STOLEN_TASKS.inc(len(owed))
        return len(owed)
