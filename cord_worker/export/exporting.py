"""Exports a run: reads its results or search trees problem by problem, makes rows of them and writes the rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache
from itertools import groupby
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from cord_worker.display_text import counted
from cord_worker.export.file_types import file_type_of
from cord_worker.export.files import ExportError
from cord_worker.export.format import (
    Choices,
    Facts,
    Format,
    Labels,
    LeftOut,
    Need,
    OptionError,
    Scope,
    Source,
)
from cord_worker.export.formats import FORMATS
from cord_worker.export.jsonl import FAILURE_FIELDS, failure_row, provenance_of
from cord_worker.export.metadata import MAX_FIELDS, Metadata
from cord_worker.export.report import ExportedRun, ExportReport, Filters, Tally, read_exported_run
from cord_worker.export.rows import RowWriter, row_writer, write_rows
from cord_worker.export.schema import Fields, Row
from cord_worker.export.splits import Splits
from cord_worker.name_suggestions import unknown
from cord_worker.store.audit.digest_invariants import run_digest
from cord_worker.store.database import Database
from cord_worker.store.reports.results import Result, attribute_kinds, has_passages, stream_failures, stream_results
from cord_worker.store.reports.search_trees import SearchTree, stream_trees
from cord_worker.store.runs.rescorings import find_rescoring, rescoring_counts

if TYPE_CHECKING:
    from cord_worker.contamination import QuestionIndex  # imports NumPy
    from cord_worker.export.student import Student  # imports torch, which takes seconds


@dataclass(frozen=True, slots=True)
class Request:
    """What is exported, and how. Problems whose question is in the `benchmark` are left out, and so are rows with a
    text of more than `max_tokens` tokens of the `student`. `splits` divides the rows among several files."""

    format: Format = FORMATS["jsonl"]
    filters: Filters = field(default_factory=Filters)
    choices: Choices = field(default_factory=Choices)
    benchmark: QuestionIndex | None = None
    student: Student | None = None
    max_tokens: int | None = None
    splits: Splits | None = None

    def is_contaminated(self, question: str) -> bool:
        """Whether the benchmark, if there is one, has this question."""
        return self.benchmark is not None and bool(self.benchmark.hits([question])[0])

    def outputs(self, output: str) -> Sequence[str]:
        """The names of the files to write: `output`, or one for each split. Raises OptionError and ExportError."""
        return [output] if self.splits is None else self.splits.outputs(output)


EVERYTHING = Request()
"""All results, in the format `jsonl`."""


def export_run(
    database: Database,
    run_name: str | None,
    output: str,
    request: Request = EVERYTHING,
    *,
    failures: str | None = None,
) -> ExportReport:
    """Writes the run's rows to `output` (a path, `-` for standard output), and its failed problems to `failures`. Files
    and report show the run at the same moment, even if it continues meanwhile.

    The names of the files decide their types (see `file_types`). Each file is written completely or stays unchanged.
    Raises RunNotFound; StoreError if the run has no such rescoring; ExportError if a file cannot be written or the run
    lacks what the format needs; OptionError.
    """
    with database.transaction(one_snapshot=True) as connection:
        return export_rows(connection, run_name, output, request, failures=failures)


def export_rows(
    connection: sa.Connection,
    run_name: str | None,
    output: str,
    request: Request = EVERYTHING,
    *,
    failures: str | None = None,
) -> ExportReport:
    """Does what `export_run` does, in the caller's transaction, all of whose statements must see one snapshot."""
    outputs = request.outputs(output)
    for name in (*outputs, *([] if failures is None else [failures])):
        file_type_of(name)
    exported = read_exported_run(connection, run_name)
    _check_needs(request, exported)
    tally = Tally()
    problems = _problems(connection, exported, request, tally)
    _write(tally, outputs, scope_of(connection, exported, request), request, problems)
    if failures is not None:
        write_rows(failures, map(failure_row, stream_failures(connection, exported.run.id)), FAILURE_FIELDS)
    return exported.report(tally, request.format, request.filters)


@dataclass(frozen=True, slots=True)
class OpenExport:
    """Rows that are read lazily, in dataset order, with their fields and types. `report` returns the report on what was
    read so far."""

    fields: Fields
    rows: Iterator[Row]
    report: Callable[[], ExportReport]


@contextmanager
def open_export(database: Database, run_name: str | None, request: Request = EVERYTHING) -> Iterator[OpenExport]:
    """Gives the rows that `export_run` would write at this moment. They are read in one transaction, which ends with
    the block. `request` must have no splits.

    Raises RunNotFound; ExportError if the run lacks what the format needs; OptionError.
    """
    tally = Tally()
    with database.transaction(one_snapshot=True) as connection:
        exported = read_exported_run(connection, run_name)
        _check_needs(request, exported)
        scope = scope_of(connection, exported, request)
        rows = (row for _, row in _rows(tally, scope, request, _problems(connection, exported, request, tally)))
        yield OpenExport(
            request.format.fields(scope), rows, lambda: exported.report(tally, request.format, request.filters)
        )


def _check_needs(request: Request, exported: ExportedRun) -> None:
    """Raises ExportError if the run lacks what the format or an option needs, and OptionError if the format needs a
    student and none is named."""
    config, chosen = exported.config, request.format
    if Need.STUDENT in chosen.needs and request.student is None:
        raise OptionError(f"--format {chosen.name} needs --student MODEL, the model that is trained")
    if not config.is_scored:
        if Need.SCORES in chosen.needs:
            raise ExportError(
                f"run {exported.run.name} has no scores, which --format {chosen.name} needs: its pipeline "
                f"{config.search.pipeline} scores nothing. Export a run of another pipeline, or another format."
            )
        if request.filters.min_score is not None:
            raise ExportError(f"run {exported.run.name} has no scores: leave out --min-score.")
    is_sample = config.search.pipeline == "sample"
    results_per_problem = config.search.trajectories * len(config.teachers) if is_sample else 1
    if Need.SEVERAL in chosen.needs and results_per_problem < 2:
        raise ExportError(
            f"run {exported.run.name} has one result of each problem, and --format {chosen.name} compares several: "
            "export it with --format step-dpo, which compares steps of its searches, or export a run of the pipeline "
            "sample."
        )
    if request.choices.labels is Labels.RIGHT_SHARE and config.search.selection != "binary_judgment":
        raise ExportError(
            f"run {exported.run.name} has no binary judgments, from which --labels right-share takes its shares: "
            'label by gain or threshold, or export a run with search.selection = "binary_judgment".'
        )
    known = [teacher.name for teacher in config.all_teachers]
    for name in sorted(request.choices.teachers or ()):
        if name not in known:
            raise ExportError(f"run {exported.run.name}: {unknown('teacher', name, known)}")


def scope_of(connection: sa.Connection, exported: ExportedRun, request: Request) -> Scope:
    """The scope of this export's rows; it reads the database only when `facts` is first called."""

    @cache
    def facts() -> Facts:
        return Facts(
            provenance_of(exported.provenance, run_digest(connection, exported.run.id)),
            Metadata(attribute_kinds(connection, exported.run.id, MAX_FIELDS + 1)),
            has_samples=exported.config.search.pipeline == "sample",
            has_passages=has_passages(connection, exported.run.id),
        )

    return Scope(
        run=exported.run.name,
        segmentation=exported.segmentation,
        today=exported.run.prompt_date,
        choices=request.choices,
        student=request.student,
        facts=facts,
    )


@dataclass(frozen=True, slots=True)
class _Problem:
    """A problem with the stored values from which its rows are made; the format's `source` says which these are."""

    key: str
    question: str
    values: Sequence[Result] | SearchTree


def _problems(connection: sa.Connection, exported: ExportedRun, request: Request, tally: Tally) -> Iterator[_Problem]:
    """The problems with values that pass the filters, in dataset order. Counts in `tally` the candidates that the
    exported rescoring could not score."""
    filters = request.filters
    bounds: dict[str, Any] = {"only_correct": filters.only_correct, "min_score": filters.min_score}
    if request.format.source is Source.TREE:
        if request.choices.rescoring is not None:
            bounds["rescoring_id"] = _finished_rescoring(connection, exported, request.choices.rescoring, tally)
        for tree in stream_trees(connection, exported.run.id, **bounds):
            yield _Problem(tree.key, tree.question, tree)
        return
    choices = request.choices
    top_k = choices.top_k if request.format.is_per_result else None
    results = stream_results(connection, exported.run.id, **bounds)
    for key, group in groupby(results, key=lambda result: result.key):
        chosen = best([one for one in group if choices.take(*(step.teacher for step in one.steps))], top_k)
        if chosen:
            yield _Problem(key, chosen[0].question, chosen)


def _finished_rescoring(connection: sa.Connection, exported: ExportedRun, name: str, tally: Tally) -> int:
    """The database key of the run's rescoring. Counts in `tally` the candidates that it could not score. Raises
    ExportError if it is not finished, because nobody would notice the missing scores."""
    rescoring = find_rescoring(connection, exported.run, name)
    counts = rescoring_counts(connection, rescoring.id)
    if counts.left:
        raise ExportError(
            f"rescoring {exported.run.name}@{name} has {counted(counts.left, 'candidate')} left: wait until it is "
            "finished (cordctl rescore continues it)"
        )
    tally.without_rescore = counts.invalid
    return rescoring.id


def best(results: Sequence[Result], most: int | None) -> Sequence[Result]:
    """The `most` results with the highest scores, in their order; of results without scores, the first ones. All
    results if `most` is None."""
    if most is None:
        return results
    places = sorted(range(len(results)), key=lambda place: -(results[place].score or 0.0))[:most]
    return [results[place] for place in sorted(places)]


def _write(tally: Tally, outputs: Sequence[str], scope: Scope, request: Request, problems: Iterable[_Problem]) -> None:
    fields = request.format.fields(scope)
    with ExitStack() as files:
        writers: list[RowWriter] = [files.enter_context(row_writer(output, fields)) for output in outputs]
        for key, row in _rows(tally, scope, request, problems):
            writers[0 if request.splits is None else request.splits.of(key)].write(row)
        tally.files = {output: writer.count for output, writer in zip(outputs, writers, strict=True)}


def _rows(tally: Tally, scope: Scope, request: Request, problems: Iterable[_Problem]) -> Iterator[tuple[str, Row]]:
    """Each exported row, with the key of its problem. Counts in `tally` the rows and what gave no row."""
    for problem in problems:
        if request.is_contaminated(problem.question):
            tally.contaminated += 1
            continue
        for row in request.format.rows(scope, problem.values):
            if isinstance(row, LeftOut):
                _count(tally, row)
            elif _fits(tally, scope, request, row):
                tally.rows += 1
                yield problem.key, row


def _count(tally: Tally, reason: LeftOut) -> None:
    if reason is LeftOut.UNFIT:
        tally.unfit += 1
    else:
        tally.undecided += 1


def _fits(tally: Tally, scope: Scope, request: Request, row: Row) -> bool:
    """Whether the row's texts have at most `max_tokens`; counts those that do not."""
    if request.max_tokens is None or request.format.sequences is None:
        return True
    tokens = max(scope.required_student.count(text) for text in request.format.sequences(scope, row))
    tally.longest = max(tokens, tally.longest or 0)
    if tokens <= request.max_tokens:
        return True
    tally.too_long += 1
    return False
