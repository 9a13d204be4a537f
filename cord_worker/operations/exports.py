"""Checks the options of an export and writes its files, for `cordctl export` and the Python client."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, fields
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from cord_worker.config import model_location
from cord_worker.engines.needed_packages import require_tokenizers
from cord_worker.export.dataset_info import check_dataset_info, write_dataset_info
from cord_worker.export.exporting import Request, export_rows
from cord_worker.export.files import held_folder
from cord_worker.export.format import Choices, Format, Labels, Need, OptionError, Source, Think
from cord_worker.export.formats import FORMATS, OPTIONS
from cord_worker.export.report import ExportReport, Filters
from cord_worker.export.splits import Splits
from cord_worker.name_suggestions import unknown
from cord_worker.operations.outputs import check_export_outputs
from cord_worker.operations.publishing import (
    Publication,
    Published,
    card_facts,
    check_publication,
    publish,
)
from cord_worker.store.database import Database
from cord_worker.store.runs.runs import resolve_run

if TYPE_CHECKING:
    from cord_worker.contamination import QuestionIndex  # imports NumPy
    from cord_worker.export.student import Student  # imports torch, which takes seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """The options of `cordctl export`, by their names there (`form` is `--format`). None means the format's default,
    or no restriction. docs/exports.md says which format takes which option."""

    form: str = "jsonl"
    student: str | None = None
    only_correct: bool = False
    min_score: float | None = None
    top_k: int | None = None
    teachers: Collection[str] | None = None
    max_tokens: int | None = None
    decontaminate: Sequence[Path] = ()
    decontaminate_field: str | None = None
    split: str | None = None
    think: str | None = None
    min_margin: float | None = None
    labels: str | None = None
    threshold: float | None = None
    data_source: str | None = None
    rescoring: str | None = None
    dataset_info: bool = False
    trim: float | None = None
    card: bool = False
    license: str | None = None
    push: str | None = None
    private: bool | None = None
    revision: str | None = None
    commit_message: str | None = None
    replace_card: bool = False

    @property
    def format(self) -> Format:
        """The chosen format. Raises OptionError for an unknown one."""
        if not isinstance(self.form, str) or self.form not in FORMATS:
            raise OptionError(unknown("format", str(self.form), list(FORMATS)))
        return FORMATS[self.form]

    def check(self) -> None:
        """Raises OptionError for an option that the format or the other options would ignore, for a missing option, and
        for an impossible value."""
        chosen = self.format
        self._check_values()
        for name in (one.name for one in fields(self)):
            value = getattr(self, name)
            if value is not None and value is not False and name in OPTIONS and name not in chosen.options:
                others = ", ".join(one.name for one in FORMATS.values() if name in one.options)
                raise OptionError(f"{_flag(name)} has no meaning with --format {self.form}: it belongs to {others}")
        if Need.STUDENT in chosen.needs and self.student is None:
            raise OptionError(f"--format {self.form} needs --student MODEL, the model that is trained")
        if self.max_tokens is not None and self.student is None:
            raise OptionError("--max-tokens needs --student MODEL, whose tokens it counts")
        if self.labels == Labels.THRESHOLD and self.threshold is None:
            raise OptionError("--labels threshold needs --threshold T, the least score of a good step")
        if self.threshold is not None and self.labels not in (Labels.THRESHOLD, Labels.RIGHT_SHARE):
            raise OptionError("--threshold belongs to --labels threshold or --labels right-share")
        if self.trim is not None and chosen.source is Source.TREE:
            raise OptionError(f"--trim has no meaning with --format {self.form}: a trimmed run has no losers")
        if self.decontaminate_field is not None and not self.decontaminate:
            raise OptionError("--decontaminate-field goes with --decontaminate FILE")
        if self.teachers is not None and not self.teachers:
            raise OptionError("--teachers names no teacher")

    def _check_values(self) -> None:
        for name in _TEXTS:
            value = getattr(self, name)
            # An empty text usually comes from an unset variable, and must not mean the default.
            if value is not None and not (isinstance(value, str) and value.strip()):
                raise OptionError(f"{_flag(name)} {value!r}: give a text")
        for name in ("only_correct", "dataset_info", "card", "replace_card"):
            if not isinstance(value := getattr(self, name), bool):
                raise OptionError(f"{_flag(name)} {value!r}: give True or False")
        if self.private is not None and not isinstance(self.private, bool):
            raise OptionError(f"--private {self.private!r}: give True or False")
        teachers = () if self.teachers is None else self.teachers
        if not isinstance(teachers, Collection) or not all(isinstance(one, str) for one in teachers):
            raise OptionError(f"--teachers {teachers!r}: give names of teachers")
        for name, words in (("think", [one.value for one in Think]), ("labels", [one.value for one in Labels])):
            value = getattr(self, name)
            if value is not None and value not in words:
                raise OptionError(f"{_flag(name)} {value!r}: give {' or '.join(words)}")
        for name in ("top_k", "max_tokens"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, Integral) or value < 1):
                raise OptionError(f"{_flag(name)} {value!r}: give a whole number from 1")
        for name, most in (("min_score", 1.0), ("threshold", 1.0), ("trim", 1.0), ("min_margin", float("inf"))):
            value = getattr(self, name)
            if value is not None and (not _is_number(value) or not 0.0 <= float(value) <= most):
                raise OptionError(f"{_flag(name)} {value!r}: give a number from 0" + (" to 1" if most == 1 else ""))

    def publication(self) -> Publication | None:
        """The card, and where it is pushed; None if neither is requested. Raises OptionError."""
        return Publication.of_options(self.by_name())

    def by_name(self) -> dict[str, Any]:
        """The values of the options by name, as they are given in a command."""
        options = {one.name: getattr(self, one.name) for one in fields(self)}
        teachers = None if self.teachers is None else ",".join(sorted(self.teachers))
        return {**options, "teachers": teachers, "decontaminate": tuple(self.decontaminate)}

    def run_of(self, connection: sa.Connection, run: str | None) -> str:
        """The run that is exported: `run` (None: the newest), or with `trim` its trimmed run. Raises RunNotFound, and
        RunConflict if the trimmed run does not exist or is not finished."""
        if self.trim is None:
            return resolve_run(connection, run).name
        from cord_worker.operations.trimming import trimmed_run_of

        return trimmed_run_of(connection, run, self.trim)

    def outputs(self, output: str) -> Sequence[str]:
        """The files that an export to `output` writes: several with splits. Raises OptionError, ExportError."""
        return [output] if self.split is None else Splits.parse(self.split).outputs(output)

    def request(self) -> Request:
        """What is exported, with benchmarks and the student loaded; call `check` before.

        Raises ConfigError and EngineLoadError for a student, DatasetError for a benchmark that cannot be read.
        """
        return Request(
            format=self.format,
            filters=Filters(self.only_correct, None if self.min_score is None else float(self.min_score)),
            choices=Choices(
                teachers=None if self.teachers is None else frozenset(self.teachers),
                top_k=None if self.top_k is None else int(self.top_k),
                think=None if self.think is None else Think(self.think),
                labels=None if self.labels is None else Labels(self.labels),
                threshold=self.threshold,
                min_margin=self.min_margin,
                data_source=self.data_source,
                rescoring=self.rescoring,
            ),
            benchmark=self._benchmark(),
            student=self._student(),
            max_tokens=self.max_tokens,
            splits=None if self.split is None else Splits.parse(self.split),
        )

    def _benchmark(self) -> QuestionIndex | None:
        if not self.decontaminate:
            return None
        from cord_worker.operations.contamination import benchmark_index  # imports NumPy

        return benchmark_index(self.decontaminate, self.decontaminate_field, "--decontaminate-field")

    def _student(self) -> Student | None:
        if self.student is None:
            return None
        require_tokenizers()
        from cord_worker.export.student import Student  # imports torch, which takes seconds

        return Student(model_location(self.student))


_TEXTS = (
    "student",
    "split",
    "decontaminate_field",
    "data_source",
    "rescoring",
    "license",
    "push",
    "revision",
    "commit_message",
)


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written to files; `published` are the card and the push, if they were requested."""

    report: ExportReport
    published: Published | None


def export_to_files(
    database_context: AbstractContextManager[Database],
    run: str | None,
    output: str,
    options: ExportOptions,
    *,
    failures: str | None = None,
    on_written: Callable[[ExportReport], None] | None = None,
) -> Exported:
    """Writes the rows of `run` (None: the newest) to `output` (a path, or `-` for standard output), and its failed
    problems to `failures`.

    The options are checked before the database is opened. Files, report and card come from one snapshot of the
    database, even if the run continues meanwhile. `on_written` is called once the files are complete, before the push.

    Raises:
        OptionError: the options do not fit together.
        ExportError: a file cannot be written, or the run lacks what the format needs.
        HubError: the push failed; the files stay.
        RunNotFound: there is no such run.
    """
    options.check()
    publication, outputs = options.publication(), options.outputs(output)
    check_export_outputs([*(("-o", name) for name in outputs), ("--failures", failures)], options.decontaminate)
    if options.dataset_info:
        check_dataset_info(outputs)
    if publication is not None:
        check_publication(publication, outputs)
    request = options.request()
    with ExitStack() as stack:
        if publication is not None:
            stack.enter_context(held_folder(Path(outputs[0]).parent))
        database = stack.enter_context(database_context)
        with database.transaction(one_snapshot=True) as connection:
            report = export_rows(connection, options.run_of(connection, run), output, request, failures=failures)
            facts = None
            if publication is not None:
                named = {**options.by_name(), "output": output}
                facts = card_facts(connection, publication, request, outputs, report, named)
        if options.dataset_info:
            write_dataset_info(outputs, options.form)
        if on_written is not None:
            on_written(report)
        published = None if publication is None or facts is None else publish(publication, outputs, facts)
    return Exported(report, published)
