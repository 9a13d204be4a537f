"""The run to export, the filters of its results, and the report on what was written and left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import sqlalchemy as sa

from cord_worker.config import RunConfig
from cord_worker.display_text import counted, shown
from cord_worker.export.files import STANDARD_OUTPUT
from cord_worker.export.format import Format
from cord_worker.prompting.trajectory import Segmentation
from cord_worker.store.reports.results import Provenance, count_results, read_provenance
from cord_worker.store.reports.status import Counts, read_counts
from cord_worker.store.runs.runs import RunRow, resolve_run
from cord_worker.store.runs.trimming import count_missing, count_trimmed

UNFIT = "without an answer, or with think tags or control tokens in a text"
"""Describes a trajectory that is counted as unfit."""


@dataclass(frozen=True, slots=True)
class Filters:
    """Which results are exported; a search tree is exported if its winner passes. `min_score` is the least score, in
    (0, 1]; samples have no score."""

    only_correct: bool = False
    min_score: float | None = None

    @property
    def need_winner(self) -> bool:
        """Whether only a problem with a winner or a sample can pass."""
        return self.only_correct or self.min_score is not None


@dataclass(slots=True)
class Tally:
    """Counts during an export: the rows, the rows of each file, and what gave no row. `contaminated` counts problems.
    `longest` is the number of tokens of the longest text, including texts left out; None without `--max-tokens`.
    `without_rescore` counts the candidates that the exported rescoring could not score."""

    rows: int = 0
    files: dict[str, int] = field(default_factory=dict)
    contaminated: int = 0
    unfit: int = 0
    undecided: int = 0
    too_long: int = 0
    longest: int | None = None
    without_rescore: int = 0


@dataclass(frozen=True, slots=True)
class SourceCounts:
    """The problems of a trimmed run's source, called `run`, that are not in the trimmed run: those that `failed`
    (cancelled ones included), that are `unfinished`, and done ones that were not trimmed yet (`missing`)."""

    run: str
    failed: int
    unfinished: int
    missing: int

    def phrases(self) -> list[str]:
        """A phrase for the report's sentence, in a list; the list is empty if there are none."""
        found = [f"{self.failed} failed"] if self.failed else []
        found += [f"{self.unfinished} unfinished"] if self.unfinished else []
        found += [f"{self.missing} not trimmed yet"] if self.missing else []
        number = counted(self.failed + self.unfinished + self.missing, "more problem")
        return [f"run {self.run} has {number}: {' and '.join(found)}"] if found else []


@dataclass(frozen=True, slots=True)
class ExportReport:
    """The report on an export. `exported` is the number of rows, and `files` holds the number in each file (empty if no
    file was written). In a format where each result gives a row, `left_out` counts the results without one, for
    whatever reason; in other formats it is None. `has_failed`: candidates of failed problems are among the rows.
    `contaminated` counts the problems that were left out because a benchmark has their question. `unfit` (no answer,
    think tags or control tokens), `undecided` and `too_long` (more than `max_tokens`) say why rows are missing.
    `longest` and `without_rescore`: see `Tally`. `source` counts the problems of a trimmed run's source that are not in
    the run; None in other runs, and if the source was removed. `noun` and `row_needs`: see `Format`."""

    run: str
    format: str
    noun: str
    exported: int
    files: Mapping[str, int]
    left_out: int | None
    failed: int
    unfinished: int
    has_failed: bool = False
    contaminated: int = 0
    unfit: int = 0
    undecided: int = 0
    too_long: int = 0
    longest: int | None = None
    without_rescore: int = 0
    source: SourceCounts | None = None
    row_needs: str | None = None

    def to_json(self) -> dict[str, Any]:
        """A JSON object for scripts; keys are stable."""
        document = asdict(self)
        del document["noun"], document["row_needs"]
        return document

    def sentence(self) -> str:
        """One sentence for people."""
        others = [f"{counted(self.left_out, 'finished one')} left out"] if self.left_out else []
        of_them = "of them " if self.left_out else ""
        others += [f"{self.unfit} {of_them}{UNFIT}"] if self.unfit else []
        others += [f"{self.undecided} {of_them}neither right nor wrong"] if self.undecided else []
        others += [f"{self.too_long} {of_them}too long"] if self.too_long else []
        others += (
            [f"{counted(self.contaminated, 'problem')} left out because a benchmark has the question"]
            if self.contaminated
            else []
        )
        others += (
            [f"{counted(self.without_rescore, 'candidate')} that the rescoring could not score: rescore_invalid_reason"]
            if self.without_rescore
            else []
        )
        others += [f"the longest has {counted(self.longest, 'token')}"] if self.longest is not None else []
        others += (
            [f"{counted(self.failed, 'failed problem')} {'included' if self.has_failed else 'not exported'}"]
            if self.failed
            else []
        )
        others += [f"{self.unfinished} unfinished"] if self.unfinished else []
        others += [] if self.source is None else self.source.phrases()
        in_brackets = f" ({', '.join(others)})" if others else ""
        where = ", ".join(
            f"{counted(count, self.noun)} to {'standard output' if name == STANDARD_OUTPUT else shown(name)}"
            for name, count in self.files.items()
        )
        has_rows = self.exported or self.contaminated or self.unfit or self.undecided or self.too_long
        reason = f"; {self.row_needs}" if self.row_needs is not None and not has_rows else ""
        return f"run {self.run}: {where}{in_brackets}{reason}"


@dataclass(frozen=True, slots=True)
class ExportedRun:
    """The run to export, with its state when the export began. `results` is the number of its results."""

    run: RunRow
    provenance: Provenance
    counts: Counts
    results: int
    source: SourceCounts | None

    @property
    def config(self) -> RunConfig:
        """The run's configuration."""
        return RunConfig.from_stored(self.provenance.config)

    @property
    def segmentation(self) -> Segmentation:
        """How the run's trajectories are divided into steps."""
        search = self.config.search
        return Segmentation.of(search.segmentation, search.phrases)

    def report(self, tally: Tally, chosen: Format, filters: Filters) -> ExportReport:
        """The report on what was counted while rows of the `chosen` format were written."""
        return ExportReport(
            run=self.run.name,
            format=chosen.name,
            noun=chosen.noun,
            exported=tally.rows,
            files=tally.files,
            left_out=max(0, self.results - tally.rows) if chosen.is_per_result else None,
            failed=self.counts.problems.get("failed", 0),
            unfinished=self.counts.total - self.counts.final,
            has_failed=chosen.takes_failed and not filters.need_winner,
            contaminated=tally.contaminated,
            unfit=tally.unfit,
            undecided=tally.undecided,
            too_long=tally.too_long,
            longest=tally.longest,
            without_rescore=tally.without_rescore,
            source=self.source,
            row_needs=chosen.row_needs,
        )


def read_exported_run(connection: sa.Connection, run_name: str | None) -> ExportedRun:
    """The run with this name, by default the newest. Raises RunNotFound."""
    run = resolve_run(connection, run_name)
    provenance, counts = read_provenance(connection, run.id), read_counts(connection, run.id)
    return ExportedRun(run, provenance, counts, count_results(connection, run.id), _source_counts(connection, run))


def _source_counts(connection: sa.Connection, run: RunRow) -> SourceCounts | None:
    if run.trimmed_from is None or run.source_run_id is None:
        return None
    counts = count_trimmed(connection, run.source_run_id, run.id)
    missing = count_missing(connection, run.source_run_id, run.id)
    return SourceCounts(run.trimmed_from, counts.failed, counts.unfinished, missing)
