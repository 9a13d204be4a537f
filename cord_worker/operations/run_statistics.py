"""The statistics of a run as tables of plain rows, for plots and CSV files (`cordctl stats`)."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from cord_worker.errors import StoreError
from cord_worker.local.state import write_atomically
from cord_worker.operations.run_watch import TeacherSelection, read_teacher_selection
from cord_worker.store.reports.costs import ProblemResult, problem_results
from cord_worker.store.reports.search_figures import DepthScores, TeacherGains, gains_by_teacher, scores_by_depth
from cord_worker.store.runs.runs import resolve_run

TABLES = ("teachers", "tenths", "prefix_cache", "base_scores", "depths", "gains", "problems")
"""Names of the tables. In this order, they have one row per: teacher; teacher and tenth; model and kind; run; depth;
teacher; problem."""


@dataclass(frozen=True, slots=True)
class RunStatistics:
    """All statistics of a run. `depths` are read from every candidate of the run, all others from its rollups."""

    selection: TeacherSelection
    depths: Sequence[DepthScores]
    gains: Sequence[TeacherGains]
    problems: Sequence[ProblemResult]

    def to_json(self) -> dict[str, Any]:
        """For scripts; keys are stable."""
        return {
            **self.selection.to_json(),
            "depths": [asdict(row) for row in self.depths],
            "gains": [asdict(row) for row in self.gains],
        }

    def table(self, name: str) -> list[dict[str, Any]]:
        """The rows of one of `TABLES`."""
        document = self.to_json()
        if name == "problems":
            return [asdict(row) for row in self.problems]
        rows: list[dict[str, Any]] = document[name] if name != "base_scores" else [document[name]]
        return rows

    def csv(self, name: str) -> str:
        """One of `TABLES` as CSV with a header; a missing value is empty, a whole number has no point.

        A table without rows is empty.
        """
        rows = self.table(name)
        text = io.StringIO(newline="")
        if rows:
            writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows({name: _without_point(value) for name, value in row.items()} for row in rows)
        return text.getvalue()

    def write_csv(self, folder: Path) -> list[Path]:
        """Writes one file for each of `TABLES` into the folder, which is made if needed; returns their paths."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            paths = [folder / f"{name}.csv" for name in TABLES]
            for path in paths:
                write_atomically(path, self.csv(path.stem))
        except OSError as error:
            raise StoreError(f"{folder}: cannot be written: {error.strerror or error}") from None
        return paths


def _without_point(value: Any) -> Any:
    """Converts a float that is a whole number, such as the mean over a single answer, to int."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def read_statistics(connection: sa.Connection, run_name: str | None, tables: Collection[str] = TABLES) -> RunStatistics:
    """The statistics of the run with this name, by default the newest. `depths`, `gains` and `problems` are read only
    if `tables` has them, and are empty otherwise. Raises RunNotFound."""
    run = resolve_run(connection, run_name)
    return RunStatistics(
        selection=read_teacher_selection(connection, run.name),
        depths=scores_by_depth(connection, run.id) if "depths" in tables else (),
        gains=gains_by_teacher(connection, run.id) if "gains" in tables else (),
        problems=problem_results(connection, run.id) if "problems" in tables else (),
    )
