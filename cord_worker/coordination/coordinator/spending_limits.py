"""Pauses runs that have reached a spending limit (`run.max_tokens`, `run.max_cost`).

The leading sweeper checks in its round. What a run has spent is read from the tables, so a check takes longer in a run
of many problems. After a check that took T seconds, the run is not checked for 20 T: checks take at most a twentieth
of the time.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import sqlalchemy as sa

from cord_worker.coordination.fault_points import FaultPoint
from cord_worker.coordination.transactions import commit, read
from cord_worker.store.database import Database
from cord_worker.store.runs.runs import RunRow
from cord_worker.store.runs.spending import limited_runs, pause_if_limit_reached

logger = logging.getLogger(__name__)

_REST = 20.0
"""Length of the pause after a check, as a multiple of the time that the check took."""


class SpendingLimits:
    """Remembers when each run is to be checked again; `clock` returns seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._due: dict[int, float] = {}

    def check(self, database: Database) -> None:
        """Pauses every run that has reached a limit, if its check is due."""
        limited = read(database, limited_runs)
        self._due = {run_id: due for run_id, due in self._due.items() if run_id in limited}
        for run_id in limited:
            if self._clock() >= self._due.get(run_id, 0.0):
                self._check(database, run_id)

    def _check(self, database: Database, run_id: int) -> None:
        def pause(connection: sa.Connection) -> list[RunRow]:
            paused = pause_if_limit_reached(connection, run_id)
            return [] if paused is None else [paused]

        began = self._clock()
        for run in commit(database, FaultPoint.SPENDING_LIMIT, pause):
            logger.warning("run %s is paused: %s", run.name, run.pause_reason)
        ended = self._clock()
        self._due[run_id] = ended + _REST * (ended - began)
