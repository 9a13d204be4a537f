"""Finds questions of benchmarks in a dataset: `cordctl contaminated`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from cord_worker.contamination import Hit, HitKind, NearIndex, NearThresholds, Question, QuestionIndex
from cord_worker.dataset import FieldMapping, HubSnapshot, ReadOptions, RejectedRecord, rejection_error
from cord_worker.dataset.jsontext import REPAIR_ADVICE
from cord_worker.errors import DatasetError
from cord_worker.export.rows import write_rows
from cord_worker.export.schema import Fields
from cord_worker.operations.enqueue import DatasetSource

DEFAULT_KINDS = (HitKind.EXACT, HitKind.RENUMBERED, HitKind.NGRAM, HitKind.CONTAINMENT)

_BATCH = 1_000
"""Questions looked up at once, and in memory at once."""
_BATCH_CHARACTERS = 4_000_000
"""Characters after which a batch ends early."""
_MAX_SHOWN = 20
_FIELDS: Fields = {
    "location": "text",
    "question": "text",
    "kind": "text",
    "score": "number",
    "matching": "text",
    "benchmark_file": "text",
    "benchmark_location": "text",
    "benchmark_question": "text",
}


@dataclass(frozen=True, slots=True)
class FoundQuestion:
    """A question of the dataset with its hits, the strongest first."""

    question: Question
    hits: list[Hit]

    def rows(self) -> Iterator[dict[str, Any]]:
        """One row per hit."""
        for hit in self.hits:
            yield {"location": self.question.location, "question": self.question.text, **hit.to_json()}


@dataclass(slots=True)
class ContaminationReport:
    """The result of looking up the questions of a dataset. `benchmarks` has the number of questions by benchmark;
    `questions` is the number of those looked up; `by_kind` counts those with hits by their strongest kind; `pairs` is
    the number of all hits; `first` are the first questions with hits."""

    benchmarks: dict[str, int] = field(default_factory=dict)
    questions: int = 0
    invalid: int = 0
    pairs: int = 0
    by_kind: Counter[HitKind] = field(default_factory=Counter)
    first: list[FoundQuestion] = field(default_factory=list)

    @property
    def contaminated(self) -> int:
        """Number of questions with hits."""
        return self.by_kind.total()

    def to_json(self) -> dict[str, Any]:
        """For scripts; keys are stable."""
        return {
            "questions": self.questions,
            "invalid": self.invalid,
            "benchmarks": self.benchmarks,
            "contaminated": self.contaminated,
            "by_kind": {kind.value: self.by_kind[kind] for kind in HitKind},
            "hits": self.pairs,
            "first": [row for found in self.first for row in islice(found.rows(), 1)],
        }


class _Index(Protocol):
    def hits(self, texts: Sequence[str]) -> list[list[Hit]]: ...

    def repeats(self, questions: Sequence[Question]) -> list[list[Hit]]: ...


@dataclass(frozen=True, slots=True)
class OptionNames:
    """The names that a command gives the options for reading a dataset; errors use them. `split_advice` says how a
    split is chosen; `skip` is None if the command cannot leave rows out; `repairs_latex`: it has --repair-latex."""

    question: str = "--question-field"
    split: str = "--split"
    split_advice: str = "choose one with --split"
    skip: str | None = None
    repairs_latex: bool = False

    def applied_to(self, message: str) -> str:
        """The message of an error of reading, with these names in place of those of `cordctl enqueue`."""
        for default, own in (
            ("--question-field", self.question),
            ("choose one with --split", self.split_advice),
            ("leave out --split", f"leave out {self.split}"),
            *(() if self.repairs_latex else ((REPAIR_ADVICE, ""),)),
        ):
            message = message.replace(default, own)
        return message


OF_DATASET = OptionNames(skip="--skip-unreadable", repairs_latex=True)
"""Option names of `cordctl contaminated` for the dataset."""
OF_BENCHMARK = OptionNames(
    "--against-field", "--against-split", "choose one with --against-split", "--skip-unreadable", repairs_latex=True
)
"""Option names of `cordctl contaminated` for its benchmarks."""
SPLIT_BY_FILE = "name the file of one of them"
"""Advice on choosing a split, for commands without an option for it."""


class QuestionReader:
    """Reads the questions of datasets, and counts what it leaves out."""

    def __init__(self, *, skip_invalid: bool = False) -> None:
        self.invalid = 0
        self._skip_invalid = skip_invalid

    def questions(self, source: DatasetSource, names: OptionNames) -> Iterator[Question]:
        """The questions of a dataset in its order; rows need no answer.

        Raises DatasetError if the file cannot be used, or for a row without a question (unless they are skipped).
        """
        options = replace(source.options, question_alone=True)
        try:
            for record in replace(source, options=options).records():
                if not isinstance(record, RejectedRecord):
                    yield Question(str(source.path), record.location, record.question)
                elif self._skip_invalid:
                    self.invalid += 1
                else:
                    raise rejection_error(
                        record, None if names.skip is None else f"leave out such rows with {names.skip}"
                    )
        except DatasetError as error:
            raise DatasetError(names.applied_to(str(error))) from None


def benchmark_source(
    path: Path | HubSnapshot, field_name: str | None = None, split: str | None = None, *, repair_latex: bool = False
) -> DatasetSource:
    """A benchmark's file, folder or dataset of the hub; the field of its questions is detected unless it is named."""
    return DatasetSource(path, FieldMapping(question=field_name), split, options=ReadOptions(repair_latex=repair_latex))


def benchmark_index(paths: Iterable[Path], field_name: str | None, option: str) -> QuestionIndex:
    """The questions of these benchmarks. `option` is the command's option that names the question's field; errors
    mention it. Raises DatasetError."""
    reader, names = QuestionReader(), OptionNames(option, split_advice=SPLIT_BY_FILE)
    return QuestionIndex(
        question for path in paths for question in reader.questions(benchmark_source(path, field_name), names)
    )


def find_contaminated(
    source: DatasetSource,
    against: Sequence[DatasetSource],
    *,
    kinds: Collection[HitKind] = DEFAULT_KINDS,
    within: bool = False,
    similarity: float | None = None,
    output: str | None = None,
) -> ContaminationReport:
    """Looks up every question of `source` in the benchmarks `against`; with `within`, also among the earlier questions
    of `source`.

    Only hits of these `kinds` count; `similarity` is the least similarity of a hit of the kind `near`. All hits are
    written to `output`, one row each, in the file type that its name says; the file is written completely or stays
    unchanged. Memory grows with the benchmarks, and with the dataset if `within`.

    Raises DatasetError, and ExportError if `output` cannot be written.
    """
    report = ContaminationReport()
    reader = QuestionReader(skip_invalid=source.skip_invalid)
    benchmarks = [question for one in against for question in _counted(reader, one, report)]
    lookups = [(index, False) for index in _indices(benchmarks, kinds, similarity)] if against else []
    questions: Iterable[Question] = reader.questions(source, OF_DATASET)
    if within:
        own_questions = list(questions)
        lookups += [(index, True) for index in _indices(own_questions, kinds, similarity)]
        questions = own_questions
    found = _look_up(questions, lookups, kinds, report)
    if output is None:
        for _ in found:
            pass
    else:
        write_rows(output, (row for one in found for row in one.rows()), _FIELDS)
    report.invalid = reader.invalid
    return report


def _counted(reader: QuestionReader, source: DatasetSource, report: ContaminationReport) -> Iterator[Question]:
    report.benchmarks[str(source.path)] = 0
    for question in reader.questions(source, OF_BENCHMARK):
        report.benchmarks[str(source.path)] += 1
        yield question


def _indices(questions: list[Question], kinds: Collection[HitKind], similarity: float | None) -> Iterator[_Index]:
    if any(kind is not HitKind.NEAR for kind in kinds):
        yield QuestionIndex(questions)
    if HitKind.NEAR in kinds:
        yield NearIndex(questions, NearThresholds() if similarity is None else NearThresholds(similarity))


def _look_up(
    questions: Iterable[Question],
    lookups: Sequence[tuple[_Index, bool]],
    kinds: Collection[HitKind],
    report: ContaminationReport,
) -> Iterator[FoundQuestion]:
    """Yields the questions with hits. `lookups` are indices, each with whether it is of the dataset itself."""
    for batch in _batches(questions):
        report.questions += len(batch)
        texts = [question.text for question in batch]
        results = [index.repeats(batch) if is_own else index.hits(texts) for index, is_own in lookups]
        for place, question in enumerate(batch):
            hits = _strongest((hit for result in results for hit in result[place]), kinds)
            if hits:
                found = FoundQuestion(question, hits)
                report.by_kind[hits[0].kind] += 1
                report.pairs += len(hits)
                if len(report.first) < _MAX_SHOWN:
                    report.first.append(found)
                yield found


def _batches(questions: Iterable[Question]) -> Iterator[list[Question]]:
    batch: list[Question] = []
    characters = 0
    for question in questions:
        batch.append(question)
        characters += len(question.text)
        if len(batch) >= _BATCH or characters >= _BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _strongest(hits: Iterable[Hit], kinds: Collection[HitKind]) -> list[Hit]:
    """One hit of these kinds for each question of the benchmarks, the strongest first."""
    order = {kind: place for place, kind in enumerate(HitKind)}
    found: dict[Question, Hit] = {}
    for hit in sorted(hits, key=lambda hit: (order[hit.kind], -hit.score)):
        if hit.kind in kinds:
            found.setdefault(hit.benchmark, hit)
    return list(found.values())
