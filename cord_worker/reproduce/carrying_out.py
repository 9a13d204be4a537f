"""Carries out all planned runs with the service. Every model is loaded once, and finished work is kept."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from cord_worker.config import RunConfig, Settings
from cord_worker.display_text import counted
from cord_worker.local.supervisor import EventKind, Supervisor
from cord_worker.operations.database import ensure_schema, open_database
from cord_worker.operations.enqueue import DatasetSource, enqueue_dataset
from cord_worker.operations.fleet import process_specs
from cord_worker.operations.services import RunServices, services_for
from cord_worker.reproduce.planned_runs import STUDENTS, PlannedRun, exam
from cord_worker.reproduce.students import StudentTrainer
from cord_worker.store.database import Database
from cord_worker.store.reports.measurements import pace_of
from cord_worker.store.runs.runs import list_runs

_INTERVAL_SECONDS = 0.5
_FEW = 300
"""When all begun runs together have fewer unfinished problems than this, another run begins."""
_PROGRESS_SECONDS = 15.0
_STOP_MARGIN_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Workplace:
    """Where and how the runs are carried out: the reproduction's folder, the settings of the service, functions that
    print a message (`echo`) and raise KeyboardInterrupt after a signal, and the most problems per run."""

    folder: Path
    settings: Settings
    echo: Callable[[str], None]
    check_interrupted: Callable[[], None]
    problems: int | None = None
    started: float = field(default_factory=time.monotonic)

    def limited(self, planned: PlannedRun) -> PlannedRun:
        """The run, with at most `problems` problems."""
        return planned.limited_to(self.problems)

    def say(self, text: str) -> None:
        """Prints a line, with the time since the start."""
        minutes, seconds = divmod(int(time.monotonic() - self.started), 60)
        self.echo(f"[{minutes}:{seconds:02d}] {text}")


def carry_out(
    planned_runs: Sequence[PlannedRun], place: Workplace, trainer: StudentTrainer | None = None
) -> list[PlannedRun]:
    """Works until every problem of every run is final; runs that are already final are left alone.

    With a `trainer`, students are trained meanwhile on the runs of STUDENTS, and their exams are run too. Returns the
    runs and the exams. Raises CordError if it cannot continue. A KeyboardInterrupt is raised after the processes have
    stopped.
    """
    with services_for(place.settings, place.say) as services:
        ensure_schema(services.endpoints.database_url)
        with open_database(place.settings, url=services.endpoints.database_url) as database:
            work = _Work(services, database, place, trainer)
            try:
                for planned in planned_runs:
                    work.add(place.limited(planned))
                work.run()
            finally:
                work.close()
            return work.planned_runs


class _Work:
    """The remaining work, with one coordinator and one worker for each model, which all runs share."""

    def __init__(
        self, services: RunServices, database: Database, place: Workplace, trainer: StudentTrainer | None
    ) -> None:
        self.planned_runs: list[PlannedRun] = []
        self._services = services
        self._database = database
        self._place = place
        self._trainer = trainer
        self._waiting: deque[tuple[PlannedRun, RunConfig]] = deque()
        self._working: dict[str, tuple[int, PlannedRun]] = {}
        self._supervisor = Supervisor([], grace_seconds=place.settings.grace_seconds + _STOP_MARGIN_SECONDS)

    def add(self, planned: PlannedRun) -> None:
        """Adds a run and the processes that it needs. A run that is done already only starts its student's training."""
        self.planned_runs.append(planned)
        path = planned.write(self._place.folder)
        if self._is_finished(planned):
            self._train_student(planned)
            return
        config = RunConfig.load(path)
        self._waiting.append((planned, config))
        endpoints, state = self._services.endpoints, self._services.state.path
        for spec in process_specs(config, path, self._place.settings, endpoints, state):
            self._supervisor.add(spec)

    def run(self) -> None:
        """Works until nothing is left."""
        if self._waiting:
            names = ", ".join(planned.run for planned, _ in self._waiting)
            self._place.say(f"{len(self._waiting)} of {counted(len(self.planned_runs), 'run')} to do: {names}")
        self._supervisor.start()
        shown_at = time.monotonic()
        while self._waiting or self._working or (self._trainer is not None and self._trainer.is_busy):
            self._place.check_interrupted()
            _check_processes(self._supervisor, self._place.say)
            self._add_exams()
            left = self._unfinished()
            # The next run begins when few problems of the earlier runs are left, so that batches stay full.
            if self._waiting and sum(left.values()) < _FEW:
                self._begin(*self._waiting.popleft())
                continue
            if time.monotonic() - shown_at >= _PROGRESS_SECONDS and left:
                shown_at = time.monotonic()
                self._place.say(f"{self._progress(left)}; {counted(len(self._waiting), 'run')} still to begin")
            time.sleep(_INTERVAL_SECONDS)

    def close(self) -> None:
        """Ends the processes."""
        if self._trainer is not None:
            self._trainer.close()
        self._supervisor.stop()

    def _begin(self, planned: PlannedRun, config: RunConfig) -> None:
        source = DatasetSource(self._place.folder / planned.dataset, limit=planned.problems)
        enqueued = enqueue_dataset(self._database, source, config, planned.run)
        self._working[planned.run] = (enqueued.report.run_id, planned)

    def _unfinished(self) -> dict[str, int]:
        """Unfinished problems of each active run; runs that are done are dropped."""
        left = {}
        for name, (run_id, planned) in list(self._working.items()):
            count = planned.problems - self._database.run(partial(pace_of, run_id=run_id)).final
            if count > 0:
                left[name] = count
                continue
            del self._working[name]
            self._place.say(f"{name}: done")
            self._train_student(planned)
        return left

    def _progress(self, left: Mapping[str, int]) -> str:
        """Finished problems of each active run, as text."""
        problems = {name: planned.problems for name, (_, planned) in self._working.items()}
        return ", ".join(f"{name} {problems[name] - count} of {problems[name]}" for name, count in left.items())

    def _train_student(self, planned: PlannedRun) -> None:
        if self._trainer is not None and planned.run in STUDENTS:
            self._trainer.begin(planned.run, self._database)

    def _add_exams(self) -> None:
        if self._trainer is not None:
            for run, folder in self._trainer.take_trained().items():
                self.add(self._place.limited(exam(f"student-{run}", str(folder.resolve()))))

    def _is_finished(self, planned: PlannedRun) -> bool:
        """True if all problems of the run are final."""
        runs = {run.name: run for run in self._database.run(list_runs)}
        if planned.run not in runs:
            return False
        run = runs[planned.run]
        return self._database.run(lambda connection: pace_of(connection, run.id)).final >= planned.problems


def _check_processes(supervisor: Supervisor, say: Callable[[str], None]) -> None:
    for event in supervisor.poll():
        if event.kind is EventKind.GAVE_UP and event.error is not None:
            raise event.error
        if event.kind is EventKind.FAILED:
            say(f"process {event}")
