"""The scope of an export: which run, which of its trajectories, and how many were left out."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa

from cord_worker.config import RunConfig
from cord_worker.display_text import counted
from cord_worker.export.files import STANDARD_OUTPUT
from cord_worker.prompting.trajectory import Segmentation
from cord_worker.store.reports.results import Provenance, count_results, read_provenance
from cord_worker.store.reports.status import Counts, read_counts
from cord_worker.store.runs.runs import RunRow, resolve_run


@dataclass(frozen=True, slots=True)
class Filters:
    """Which results are exported. `min_score` is a lower bound on their score, in (0, 1]; samples have no score."""

    only_correct: bool = False
    min_score: float | None = None


@dataclass(frozen=True, slots=True)
class ExportReport:
    """The result of an export. `left_out` counts the results that were not exported, `unfit` those of them that cannot
    train a student; `contaminated` counts the problems that were left out because a benchmark has their question."""

    run: str
    exported: int
    left_out: int
    failed: int
    unfinished: int
    unfit: int = 0
    contaminated: int = 0

    def to_json(self) -> dict[str, Any]:
        """A JSON object for scripts; keys are stable."""
        return asdict(self)

    def sentence(self, output: str) -> str:
        """One sentence for people."""
        others = [f"{self.left_out} finished ones left out"] if self.left_out else []
        others += [f"{self.unfit} of them without an answer or with control tokens in their text"] if self.unfit else []
        others += (
            [f"{counted(self.contaminated, 'problem')} left out whose question a benchmark has"]
            if self.contaminated
            else []
        )
        others += [f"{counted(self.failed, 'failed problem')} not exported"] if self.failed else []
        others += [f"{self.unfinished} unfinished"] if self.unfinished else []
        in_brackets = f" ({', '.join(others)})" if others else ""
        where = "standard output" if output == STANDARD_OUTPUT else output
        return f"run {self.run}: {self.exported} trajectories to {where}{in_brackets}"


@dataclass(frozen=True, slots=True)
class ExportScope:
    """The run to export, with its state when the export began."""

    run: RunRow
    provenance: Provenance
    counts: Counts
    results: int

    @property
    def segmentation(self) -> Segmentation:
        """How the run's trajectories are divided into steps."""
        search = RunConfig.from_stored(self.provenance.config).search
        return Segmentation.of(search.segmentation, search.phrases)

    def report(self, exported: int, unfit: int = 0, contaminated: int = 0) -> ExportReport:
        """The report on `exported` trajectories."""
        return ExportReport(
            run=self.run.name,
            exported=exported,
            left_out=max(0, self.results - exported),
            failed=self.counts.problems.get("failed", 0),
            unfinished=self.counts.total - self.counts.final,
            unfit=unfit,
            contaminated=contaminated,
        )


def read_scope(connection: sa.Connection, run_name: str | None) -> ExportScope:
    """The run with this name, by default the newest. Raises RunNotFound."""
    run = resolve_run(connection, run_name)
    counts = read_counts(connection, run.id)
    return ExportScope(run, read_provenance(connection, run.id), counts, count_results(connection, run.id))
