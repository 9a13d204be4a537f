"""Watches a run by repeated snapshots at little cost, and reads the overview of all runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from cord_worker.config import RunConfig
from cord_worker.errors import ConfigError
from cord_worker.operations.eta import EtaClock, TotalsCache
from cord_worker.operations.fleet import COORDINATOR, fleet_models, names_by_path
from cord_worker.operations.waits import waits
from cord_worker.progress import ProgressView, Snapshot, named_conditions, named_workers
from cord_worker.store.database import Database
from cord_worker.store.reports.backlog import BacklogRow, read_backlog
from cord_worker.store.reports.base_scores import BaseScores, read_base_scores
from cord_worker.store.reports.invalid_reasons import invalid_reasons
from cord_worker.store.reports.status import (
    CacheRow,
    Counts,
    LiveWorkers,
    RunResults,
    TeacherTotals,
    TenthRow,
    Totals,
    WorkerCondition,
    live_workers,
    no_problems,
    prefix_cache,
    problems_by_run,
    read_counts,
    read_teacher_totals,
    read_totals,
    results_by_run,
    shown_state,
    teacher_selection,
    worker_conditions,
)
from cord_worker.store.runs.runs import RunRow, get_run, list_runs, resolve_run
from cord_worker.store.runs.spending import Spending, read_spending

_IDLE_SECONDS = 5.0
"""After this time without a result, the backlog is read."""


@dataclass(frozen=True, slots=True)
class _CheapReadings:
    """What every snapshot reads. `backlog` is empty unless the run is idle. `is_beginning`: the command starts workers
    itself, and there has been no result since its watch began."""

    run: RunRow
    counts: Counts
    workers: list[LiveWorkers]
    conditions: list[WorkerCondition]
    backlog: list[BacklogRow]
    is_beginning: bool


@dataclass(frozen=True, slots=True)
class _CostlyReadings:
    """What takes long to read, and is read less often; `spending` is None without a spending limit."""

    totals: Totals
    invalid_reasons: Mapping[str, Mapping[str, int]]
    spending: Spending | None


class RunWatch:
    """Takes snapshots of one run. `run_id` is its key; `names` has the names of its models by fingerprint.

    `starts_workers`: the command starts missing workers itself, so the snapshots do not report them as missing.
    """

    def __init__(
        self, database: Database, run: RunRow, *, worker_timeout_seconds: float, starts_workers: bool = False
    ) -> None:
        self._database = database
        self.run_id = run.id
        self._timeout = worker_timeout_seconds
        self._starts_workers = starts_workers
        self._watch_began = time.monotonic()
        self._seen_models: set[str | None] = set()
        self.names = _model_names(run)
        self._clock = EtaClock()
        self._costly = TotalsCache(lambda: database.run(self._read_costly))

    def snapshot(self) -> Snapshot:
        """The state of the run. Raises StoreError if the database is gone."""
        cheap = self._database.run(self._read_cheap)
        unfinished = cheap.counts.total - cheap.counts.final
        costly = self._costly.get(fresh=not unfinished)
        if not costly.totals.proposed and cheap.counts.steps_per_second:
            costly = self._costly.get(fresh=True)  # the run has just begun, so this reads little
        totals = costly.totals
        eta = self._clock.observe(cheap.counts, totals.mean_steps)
        if eta is None and cheap.run.state == "active" and not self._starts_workers:
            # The clock needs several snapshots. Until then the time left is estimated from recently finished work. A
            # command that starts workers does not do this: if it continues a run, the pause would count as work.
            eta = totals.seconds_left(cheap.counts)
        needs_workers = unfinished and cheap.run.state == "active"
        missing = _missing(cheap.workers, self.names) if needs_workers and not self._starts_workers else []
        conditions = named_conditions(cheap.conditions, self.names)
        self._seen_models.update(worker.model for worker in cheap.workers)
        return Snapshot(
            run=cheap.run.name,
            state=shown_state(cheap.run.state, cheap.counts.problems),
            counts=cheap.counts,
            totals=totals,
            invalid_reasons=costly.invalid_reasons,
            spending=costly.spending,
            pause_reason=cheap.run.pause_reason if cheap.run.state == "paused" else None,
            workers=named_workers(cheap.workers, self.names),
            missing=missing,
            eta_seconds=None if missing else eta,
            conditions=conditions,
            is_beginning=cheap.is_beginning,
            waiting=waits(
                cheap.backlog,
                cheap.workers,
                conditions,
                self.names,
                are_starting=self._starts_workers,
                seen=self._seen_models,
            ),
        )

    def _read_costly(self, connection: sa.Connection) -> _CostlyReadings:
        totals, run = read_totals(connection, self.run_id), get_run(connection, self.run_id)
        is_limited = run.max_tokens is not None or run.max_cost is not None
        return _CostlyReadings(
            totals,
            invalid_reasons(connection, self.run_id) if totals.candidates["invalid"] else {},
            read_spending(connection, run) if is_limited else None,
        )

    def _read_cheap(self, connection: sa.Connection) -> _CheapReadings:
        run, counts = get_run(connection, self.run_id), read_counts(connection, self.run_id)
        seconds_watched = time.monotonic() - self._watch_began
        is_beginning = self._starts_workers and counts.idle_seconds >= seconds_watched
        if self._starts_workers:
            # If the command continues a run, the time before its watch began is a pause, not idle time.
            counts = replace(counts, idle_seconds=min(counts.idle_seconds, seconds_watched))
        is_idle = run.state == "active" and (
            is_beginning or counts.idle_seconds > _IDLE_SECONDS or not counts.steps_per_second
        )
        return _CheapReadings(
            run=run,
            counts=counts,
            backlog=read_backlog(connection, self.run_id) if is_idle else [],
            workers=live_workers(connection, self._timeout),
            conditions=worker_conditions(connection, self._timeout),
            is_beginning=is_beginning,
        )


def missing_workers(connection: sa.Connection, name: str, worker_timeout_seconds: float) -> list[str]:
    """Roles and models that the run needs and that have no living process; none if the run is not active or is
    finished."""
    run = resolve_run(connection, name)
    counts = read_counts(connection, run.id)
    if run.state != "active" or counts.final == counts.total:
        return []
    return _missing(live_workers(connection, worker_timeout_seconds), _model_names(run))


def _missing(live: Sequence[LiveWorkers], names: Mapping[str, str]) -> list[str]:
    present = {worker.model for worker in live}  # a coordinator's model is None
    coordinator = [] if None in present else [COORDINATOR]
    return coordinator + [name for model, name in names.items() if model not in present]


def _model_names(run: RunRow) -> Mapping[str, str]:
    try:
        config = RunConfig.from_stored(run.config)
        return fleet_models(config if run.trimmed_from is None else config.for_answers)
    except ConfigError:
        # A run of another version: its workers are shown with the paths of their models.
        return {}


@dataclass(frozen=True, slots=True)
class Overview:
    """A run in the list of runs. The `state` of an active run without unfinished problems is `finished`. `pause_reason`
    says which spending limit paused the run."""

    name: str
    state: str
    pause_reason: str | None
    priority: int
    config_fingerprint: str
    created_at: datetime
    problems: Mapping[str, int]
    results: RunResults
    trimmed_from: str | None
    trim_above: float | None

    def to_json(self) -> dict[str, Any]:
        """For scripts; keys are stable."""
        return {
            "run": self.name,
            "state": self.state,
            "pause_reason": self.pause_reason,
            "priority": self.priority,
            "config_fingerprint": self.config_fingerprint,
            "created_at": self.created_at.isoformat(),
            "problems": {"total": sum(self.problems.values()), **self.problems},
            "mean_score": self.results.mean_score,
            "accuracy": self.results.accuracy,
            "undecided": self.results.undecided,
            "trimmed_from": self.trimmed_from,
            "trim_above": self.trim_above,
        }


@dataclass(frozen=True, slots=True)
class TeacherSelection:
    """How often each teacher was selected, in the whole run and by tenth of the decoding position. Also the hit rates
    of the prefix caches, and the base scores."""

    run: str
    teachers: Sequence[TeacherTotals]
    tenths: Sequence[TenthRow]
    caches: Sequence[CacheRow]
    base_scores: BaseScores

    def to_json(self) -> dict[str, Any]:
        """For scripts; keys are stable."""
        return {
            "run": self.run,
            "teachers": [
                {**asdict(teacher), "request_seconds": round(teacher.request_seconds, 3)} for teacher in self.teachers
            ],
            "tenths": [asdict(row) for row in self.tenths],
            "prefix_cache": [{**asdict(row), "hit_rate": row.hit_rate} for row in self.caches],
            "base_scores": asdict(self.base_scores),
        }


def list_overviews(connection: sa.Connection) -> list[Overview]:
    """All runs, oldest first."""
    problems = problems_by_run(connection)
    results = results_by_run(connection)
    return [
        Overview(
            run.name,
            shown_state(run.state, problems.get(run.id, {})),
            run.pause_reason if run.state == "paused" else None,
            run.priority,
            run.config_fingerprint,
            run.created_at,
            problems.get(run.id, no_problems()),
            results.get(run.id, RunResults(None, None)),
            run.trimmed_from,
            run.trim_above,
        )
        for run in list_runs(connection)
    ]


def read_teacher_selection(connection: sa.Connection, run_name: str | None) -> TeacherSelection:
    """The teacher selection of the run with this name, by default the newest. Raises RunNotFound."""
    run = resolve_run(connection, run_name)
    names = names_by_path(run)
    return TeacherSelection(
        run=run.name,
        teachers=read_teacher_totals(connection, run.id),
        tenths=teacher_selection(connection, run.name),
        caches=[replace(row, model=names.get(row.model, row.model)) for row in prefix_cache(connection, run.name)],
        base_scores=read_base_scores(connection, run.id),
    )


def watch_run(
    watched: RunWatch,
    view: ProgressView,
    *,
    interval_seconds: float,
    on_round: Callable[[], None] = lambda: None,
    on_snapshot: Callable[[Snapshot], None] = lambda _: None,
    rest: Callable[[float], None] = time.sleep,
) -> Snapshot:
    """Shows the run until every problem is final; returns the last snapshot. `on_round` is called before each snapshot,
    `on_snapshot` after one that is not the last, `rest` between two of them."""
    while True:
        on_round()
        snapshot = watched.snapshot()
        view.show(snapshot)
        if snapshot.is_final:
            return snapshot
        on_snapshot(snapshot)
        rest(interval_seconds)
