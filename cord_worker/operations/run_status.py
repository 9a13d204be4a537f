"""Reads the status of a run: its progress, all living processes, and why problems failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cord_worker.operations.run_watch import RunWatch
from cord_worker.progress import Snapshot
from cord_worker.store.database import Database
from cord_worker.store.reports.failure_causes import FailureCause, failure_causes
from cord_worker.store.runs.processes import LiveProcess, live_processes
from cord_worker.store.runs.runs import resolve_run

_MAX_CAUSES = 5


@dataclass(frozen=True, slots=True)
class StatusReport:
    """A run at one moment: its progress, all living processes, and the most frequent causes of failed problems. `names`
    are the names of the run's models by fingerprint."""

    snapshot: Snapshot
    processes: Sequence[LiveProcess]
    causes: Sequence[FailureCause]
    names: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """For scripts; keys are stable."""
        return {
            **self.snapshot.to_json(),
            "processes": [one.to_json(self.names) for one in self.processes],
            "failures": [asdict(cause) for cause in self.causes],
        }


def watch_of(database: Database, run_name: str | None, *, worker_timeout_seconds: float) -> RunWatch:
    """A `RunWatch` of the run with this name, by default the newest. Raises RunNotFound."""
    run = database.run(lambda connection: resolve_run(connection, run_name))
    return RunWatch(database, run, worker_timeout_seconds=worker_timeout_seconds)


def report_on(
    database: Database, watched: RunWatch, snapshot: Snapshot, *, worker_timeout_seconds: float
) -> StatusReport:
    """The status of the watched run, with its newest `snapshot`."""
    causes = database.run(lambda connection: failure_causes(connection, watched.run_id, _MAX_CAUSES))
    processes = database.run(lambda connection: live_processes(connection, worker_timeout_seconds))
    return StatusReport(snapshot, processes, causes, watched.names)
