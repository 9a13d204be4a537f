"""The scope of an export: which run, which of its trajectories, and how many were left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import sqlalchemy as sa

from cord_worker.config import RunConfig
from cord_worker.display_text import counted
from cord_worker.export.files import STANDARD_OUTPUT
from cord_worker.export.format import Format
from cord_worker.prompting.trajectory import Segmentation
from cord_worker.store.reports.results import Provenance, count_results, read_provenance
from cord_worker.store.reports.status import Counts, read_counts
from cord_worker.store.runs.runs import RunRow, resolve_run


@dataclass(frozen=True, slots=True)
class Filters:
    """Which results are exported, or, of search trees, those with which winners. `min_score` is a lower bound on their
    score, in (0, 1]; samples have no score."""

    only_correct: bool = False
    min_score: float | None = None


@dataclass(slots=True)
class Tally:
    """What an export has counted: the rows of each file, and what gave no row. `contaminated` counts problems.
    `longest` is the most tokens of a text that `--max-tokens` counted, those left out included."""

    files: dict[str, int] = field(default_factory=dict)
    contaminated: int = 0
    unfit: int = 0
    undecided: int = 0
    too_long: int = 0
    longest: int | None = None


@dataclass(frozen=True, slots=True)
class ExportReport:
    """The result of an export. `files` holds the rows of each file, and `exported` their sum. `left_out` counts the
    results that gave no row, where each gives one; None in other formats. `contaminated` counts the problems that were
    left out because a benchmark has their question. `unfit` (no answer, think tags or control tokens), `undecided` and
    `too_long` (more than `max_tokens`) say why rows are missing. What is missing for any of these reasons counts in
    `left_out`."""

    run: str
    format: str
    noun: str
    exported: int
    files: Mapping[str, int]
    left_out: int | None
    failed: int
    unfinished: int
    contaminated: int = 0
    unfit: int = 0
    undecided: int = 0
    too_long: int = 0
    longest: int | None = None

    def to_json(self) -> dict[str, Any]:
        """A JSON object for scripts; keys are stable."""
        document = asdict(self)
        del document["noun"]
        return document

    def sentence(self) -> str:
        """One sentence for people."""
        others = [f"{self.left_out} finished ones left out"] if self.left_out else []
        of_them = "of them " if self.left_out else ""
        others += (
            [f"{self.unfit} {of_them}without an answer or with control tokens in their text"] if self.unfit else []
        )
        others += [f"{self.undecided} {of_them}neither right nor wrong"] if self.undecided else []
        others += [f"{self.too_long} {of_them}too long"] if self.too_long else []
        others += (
            [f"{counted(self.contaminated, 'problem')} left out whose question a benchmark has"]
            if self.contaminated
            else []
        )
        others += [f"the longest has {self.longest} tokens"] if self.longest is not None else []
        others += [f"{counted(self.failed, 'failed problem')} not exported"] if self.failed else []
        others += [f"{self.unfinished} unfinished"] if self.unfinished else []
        in_brackets = f" ({', '.join(others)})" if others else ""
        where = ", ".join(
            f"{count} {self.noun} to {'standard output' if name == STANDARD_OUTPUT else name}"
            for name, count in self.files.items()
        )
        return f"run {self.run}: {where}{in_brackets}"


@dataclass(frozen=True, slots=True)
class ExportScope:
    """The run to export, with its state when the export began."""

    run: RunRow
    provenance: Provenance
    counts: Counts
    results: int

    @property
    def config(self) -> RunConfig:
        """The run's configuration."""
        return RunConfig.from_stored(self.provenance.config)

    @property
    def segmentation(self) -> Segmentation:
        """How the run's trajectories are divided into steps."""
        search = self.config.search
        return Segmentation.of(search.segmentation, search.phrases)

    def report(self, tally: Tally, chosen: Format) -> ExportReport:
        """The report on what was counted while rows of the `chosen` format were written."""
        exported = sum(tally.files.values())
        return ExportReport(
            run=self.run.name,
            format=chosen.name,
            noun=chosen.noun,
            exported=exported,
            files=tally.files,
            left_out=max(0, self.results - exported) if chosen.is_per_result else None,
            failed=self.counts.problems.get("failed", 0),
            unfinished=self.counts.total - self.counts.final,
            contaminated=tally.contaminated,
            unfit=tally.unfit,
            undecided=tally.undecided,
            too_long=tally.too_long,
            longest=tally.longest,
        )


def read_scope(connection: sa.Connection, run_name: str | None) -> ExportScope:
    """The run with this name, by default the newest. Raises RunNotFound."""
    run = resolve_run(connection, run_name)
    counts = read_counts(connection, run.id)
    return ExportScope(run, read_provenance(connection, run.id), counts, count_results(connection, run.id))
