"""Reads what `cordctl watch` shows, at little cost, and changes the run that it watches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from cord_worker.operations import run_control
from cord_worker.operations.eta import TotalsCache
from cord_worker.operations.fleet import COORDINATOR
from cord_worker.operations.run_status import watch_of
from cord_worker.progress.live_state import LiveState, ModelState
from cord_worker.store.database import Database
from cord_worker.store.reports.backlog import BacklogRow, read_backlog
from cord_worker.store.reports.recent import RecentFailure, RecentRates, newest_failures, recent_caches, recent_rates
from cord_worker.store.reports.status import LiveWorkers, live_workers
from cord_worker.store.runs.lifecycle import prioritise_run
from cord_worker.store.runs.runs import get_run

_MAX_FAILURES = 20
_MIN_SECONDS = 2.0
"""Least pause between two readings of the rates."""


@dataclass(frozen=True, slots=True)
class _Recent:
    rates: RecentRates
    caches: Mapping[str, float]
    failures: Sequence[RecentFailure]


class LiveWatch:
    """Reads one run repeatedly. Calls of `look` must not overlap; another thread may change the run meanwhile."""

    def __init__(self, database: Database, run_name: str | None, *, worker_timeout_seconds: float) -> None:
        """The run with this name, by default the newest. Raises RunNotFound."""
        self._database = database
        self._timeout = worker_timeout_seconds
        self._watched = watch_of(database, run_name, worker_timeout_seconds=worker_timeout_seconds)
        self._backlog = TotalsCache(lambda: database.run(self._read_backlog))
        self._recent = TotalsCache(lambda: database.run(self._read_recent), min_seconds=_MIN_SECONDS)

    def look(self) -> LiveState:
        """The run now. Raises StoreError if the database is gone or the run was removed."""
        snapshot = self._watched.snapshot()
        priority, live = self._database.run(self._read_priority_and_workers)
        recent = self._recent.get(fresh=snapshot.is_final)
        return LiveState(
            at=datetime.now().astimezone(),
            snapshot=snapshot,
            priority=priority,
            models=_models(self._watched.names, live, self._backlog.get(fresh=snapshot.is_final), recent.caches),
            rates=recent.rates,
            failures=recent.failures,
        )

    def pause(self) -> str:
        """Pauses the run; returns a sentence. Raises StoreError, RunConflict if it was cancelled."""
        return run_control.pause(self._database, self.run_name()).lines()[0]

    def resume(self) -> str:
        """Continues the run; returns a sentence. Raises StoreError, RunConflict if it was cancelled."""
        name = self.run_name()
        return run_control.resume(self._database, name, worker_timeout_seconds=self._timeout).lines()[0]

    def set_priority(self, number: int) -> str:
        """Sets the run's priority; returns a sentence. Raises StoreError."""
        name = self.run_name()
        before = self._database.run(lambda connection: prioritise_run(connection, name, number))
        return f"run {name} has priority {number} (before: {before})"

    def run_name(self) -> str:
        """The run's name now. Raises StoreError if it was removed."""
        return self._database.run(lambda connection: get_run(connection, self._watched.run_id)).name

    def _read_priority_and_workers(self, connection: sa.Connection) -> tuple[int, list[LiveWorkers]]:
        return get_run(connection, self._watched.run_id).priority, live_workers(connection, self._timeout)

    def _read_backlog(self, connection: sa.Connection) -> list[BacklogRow]:
        return read_backlog(connection, self._watched.run_id)

    def _read_recent(self, connection: sa.Connection) -> _Recent:
        run_id = self._watched.run_id
        return _Recent(
            recent_rates(connection, run_id),
            recent_caches(connection, run_id),
            newest_failures(connection, run_id, _MAX_FAILURES),
        )


def _models(
    names: Mapping[str, str], live: Sequence[LiveWorkers], backlog: Sequence[BacklogRow], caches: Mapping[str, float]
) -> list[ModelState]:
    """The run's models in the configuration's order, then other models in its backlog, then the coordinator."""
    found = dict[str | None, str](names.items())
    found |= {one.model: one.path or one.model for one in backlog if one.model is not None and one.model not in found}
    found[None] = COORDINATOR
    return [
        ModelState(
            name=name,
            workers=sum(one.count for one in live if one.model == model),
            ready=sum(one.ready for one in live if one.model == model),
            waiting=sum(one.waiting for one in backlog if one.model == model and one.kind != "admission"),
            leased=sum(one.in_work for one in backlog if one.model == model),
            cached=caches.get(model or ""),
        )
        for model, name in found.items()
    ]
