"""Work stealing: an idle replica takes over work of its model that waits for another replica.

It reads the tables, not the other replica's queue: work that was not claimed for `help_seconds` is sent to its own
shard. The original message then finds nothing to claim, which costs one look. So the work of a busy, dying or dead
replica continues, and so does work whose message the broker lost, long before the sweeper sends it again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

import sqlalchemy as sa

from cord_worker import metrics
from cord_worker.coordination.fault_points import FaultPoint
from cord_worker.coordination.messaging.messenger import Messenger
from cord_worker.coordination.stuck_threads import working
from cord_worker.coordination.transactions import commit
from cord_worker.errors import StoreError
from cord_worker.store.database import Database
from cord_worker.store.work import sweep
from cord_worker.store.work.values import Due

logger = logging.getLogger(__name__)

_LONGEST_PAUSE = 8.0
"""Longest pause between two looks, in multiples of `help_seconds`; reached while there is nothing to help with."""


class Helper:
    """A thread that looks for waiting work of `model` while `room()` (candidates that could be taken) is positive."""

    def __init__(
        self,
        database: Database,
        messenger: Messenger,
        *,
        model: str,
        queue: str,
        help_seconds: float,
        room: Callable[[], int],
    ) -> None:
        self._database = database
        self._messenger = messenger
        self._model = model
        self._queue = queue
        self._seconds = help_seconds
        self._room = room
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name="helper", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._thread.join(timeout=5.0)

    def stop(self) -> None:
        """Stops taking over work."""
        self._ended.set()

    def _work(self) -> None:
        pause = self._seconds
        while not self._ended.wait(pause):
            try:
                with working("the helper"):
                    helped = self._help()
            except StoreError as error:
                logger.warning("cannot help: %s", error)
                helped = 0
            except Exception:  # a replica that stops helping leaves work undone: continue, whatever happened
                logger.exception("cannot help")
                helped = 0
            pause = self._seconds if helped else min(pause * 2, self._seconds * _LONGEST_PAUSE)

    def _help(self) -> int:
        room = self._room()
        if room <= 0:
            return 0

        def due(connection: sa.Connection) -> list[Due]:
            return sweep.due_model_work(connection, [self._model], self._seconds, limit=room)

        owed = commit(self._database, FaultPoint.HELP, due, retry_seconds=0.0)
        self._messenger.send(owed, queue=self._queue)
        metrics.HELPED.inc(len(owed))
        return len(owed)
