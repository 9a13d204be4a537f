"""What never changes during a run, read once in each process: its configuration and its teachers."""

from __future__ import annotations

import datetime
import threading
from collections import OrderedDict
from dataclasses import dataclass

import sqlalchemy as sa

from cord_worker.config import RunConfig, TeacherConfig
from cord_worker.coordination.transactions import read
from cord_worker.prompting.trajectory import Segmentation
from cord_worker.search.types import SearchSettings
from cord_worker.store.database import Database
from cord_worker.store.runs.runs import TeacherRow, get_run, read_teachers
from cord_worker.store.schema.tables import TeacherRole

_MAX_RUNS = 16
"""A worker may serve any number of runs during its life, but few at a time."""


@dataclass(frozen=True, slots=True)
class RunContext:
    """One run's configuration, with the keys of its rows; the last of `teachers` is the integrator, if there is one.

    `trim_above` is set in a trimmed run: its winners end at the first step from which every score is above it.
    """

    run_id: int
    config: RunConfig
    search: SearchSettings
    segmentation: Segmentation
    prover_model: str | None
    teachers: tuple[TeacherRow, ...]
    trim_above: float | None = None
    name: str = ""

    @property
    def date(self) -> datetime.date:
        """The date that chat templates use as today."""
        return self.config.prompt_date

    @property
    def teacher_names(self) -> tuple[str, ...]:
        """Names of the teachers in the configuration's order, without the integrator's."""
        return tuple(teacher.name for teacher in self.teachers if teacher.role == TeacherRole.TEACHER)

    @property
    def teacher_ids(self) -> tuple[int, ...]:
        """Keys in the configuration's order, the integrator's last."""
        return tuple(teacher.id for teacher in self.teachers)

    def teacher(self, teacher_id: int) -> tuple[TeacherRow, TeacherConfig]:
        """Row and configuration of the teacher with this key. Raises LookupError if the run has none."""
        for row, config in zip(self.teachers, self.config.all_teachers, strict=True):
            if row.id == teacher_id:
                return row, config
        raise LookupError(f"run {self.run_id} has no teacher with the key {teacher_id}")


class RunContexts:
    """Reads a run once and keeps the most recently used ones; safe for use from several threads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._by_run: OrderedDict[int, RunContext] = OrderedDict()

    def of_run(self, run_id: int, within: sa.Connection | None = None) -> RunContext:
        """The run with this key; read on the connection `within`, if the caller holds one."""
        with self._lock:
            context = self._by_run.get(run_id)
            if context is not None:
                self._by_run.move_to_end(run_id)
                return context
        # Read without the lock, so that threads whose run is known do not wait. Two concurrent reads give the same.
        if within is not None:
            context = _read(within, run_id)
        else:
            context = read(self._database, lambda connection: _read(connection, run_id))
        with self._lock:
            self._by_run[run_id] = context
            while len(self._by_run) > _MAX_RUNS:
                self._by_run.popitem(last=False)
        return context


def _read(connection: sa.Connection, run_id: int) -> RunContext:
    run = get_run(connection, run_id)
    config = RunConfig.from_stored(run.config)
    # A configuration without a date gets the date on which the run was enqueued.
    config = config.model_copy(update={"run": config.run.model_copy(update={"date": run.prompt_date})})
    return RunContext(
        run_id=run_id,
        config=config,
        search=SearchSettings.of(config.search, config.integration),
        segmentation=Segmentation.of(config.search.segmentation, config.search.phrases),
        prover_model=run.prover_model,
        teachers=tuple(read_teachers(connection, run_id)),
        trim_above=run.trim_above,
        name=run.name,
    )
