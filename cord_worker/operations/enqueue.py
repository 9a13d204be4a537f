"""Enqueues a dataset file as problems of a run, or validates it."""

from __future__ import annotations

import json
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from cord_worker.config import NAME_PATTERN, RunConfig
from cord_worker.dataset import (
    FieldMapping,
    HubSnapshot,
    ProblemRecord,
    ReadOptions,
    RejectedRecord,
    flaw_of,
    read_problems,
    rejects_file,
    write_rejects,
)
from cord_worker.dataset.repetition import content_id, repeated_record
from cord_worker.display_text import counted
from cord_worker.errors import ConfigError, DatasetError
from cord_worker.operations.dataset_notes import DatasetNotes
from cord_worker.operations.fitting import ContextCheck, room_remarks
from cord_worker.store.database import Database
from cord_worker.store.runs.enqueue import EnqueueReport, content_hash, enqueue
from cord_worker.verify.by_math_verify import check_configured
from cord_worker.verify.row_methods import with_known_methods

_MAX_SHOWN = 20


@dataclass(frozen=True, slots=True)
class DatasetSource:
    """A dataset and how to read it. Without `writes_rejects` no file of rejected rows is written beside it."""

    path: Path | HubSnapshot
    mapping: FieldMapping = field(default_factory=FieldMapping)
    split: str | None = None
    limit: int | None = None
    skip_invalid: bool = False
    options: ReadOptions = field(default_factory=ReadOptions)
    writes_rejects: bool = True

    def records(
        self, notes: DatasetNotes | None = None, config: RunConfig | None = None
    ) -> Iterator[ProblemRecord | RejectedRecord]:
        """The dataset's problems in their order; see `read_problems`. Fields and changes go into `notes`.

        With `config`, what rows say about their own verification is checked too.
        """
        options = self.options
        if config is not None and config.verify.reference_field is not None:
            options = replace(options, checked=(config.verify.reference_field,))
        records = read_problems(
            self.path,
            mapping=self.mapping,
            split=self.split,
            limit=self.limit,
            options=options,
            on_fields=None if notes is None else notes.set_fields,
        )
        if config is not None:
            records = with_known_methods(records, config.verify)
        return records if notes is None else notes.count(records)

    def check(self) -> None:
        """Raises DatasetError if the file as a whole cannot be used; reads only its first rows."""
        next(self.records())


def dataset_source(
    path: Path | HubSnapshot,
    *,
    question_field: str | None = None,
    answer_field: str | None = None,
    id_field: str | None = None,
    passage_field: str | None = None,
    choices_field: str | None = None,
    split: str | None = None,
    limit: int | None = None,
    answer_as_is: bool = False,
    repair_latex: bool = False,
    skip_invalid: bool = False,
) -> DatasetSource:
    """The dataset at `path`. The parameters are the options of `cordctl enqueue` of the same names.

    Raises DatasetError for an impossible limit.
    """
    if limit is not None and limit < 1:
        raise DatasetError(f"{path}: a limit of {limit} rows is impossible: give 1 or more.")
    return DatasetSource(
        path=path,
        mapping=FieldMapping(question_field, answer_field, id_field, passage_field, choices_field),
        split=split,
        limit=limit,
        skip_invalid=skip_invalid,
        options=ReadOptions(answer_as_is=answer_as_is, repair_latex=repair_latex),
    )


@dataclass(frozen=True, slots=True)
class EnqueueResult:
    """The result of enqueuing a dataset. `rejects` is the file of the rejected rows, if there are any; `remarks` say
    which models' contexts are too short for the budgets; `dataset` has id, revision and split of a dataset of the
    hub."""

    report: EnqueueReport
    rejects: Path | None
    dry_run: bool
    notes: DatasetNotes
    remarks: list[str] = field(default_factory=list)
    dataset: dict[str, str] | None = None

    def sentence(self) -> str:
        """For people."""
        report = self.report
        others = [f"{report.already} already there"] if report.already else []
        others += [f"{report.rejected} rejected ({self.rejects or 'not written'})"] if report.rejected else []
        in_brackets = f" ({', '.join(others)})" if others else ""
        run = f"run {report.run_name}"
        if self.dry_run:
            return f"{run}: {counted(report.added, 'problem')} would be added{in_brackets}; nothing was written"
        if not report.added:
            return f"{run}: nothing new{in_brackets}"
        return f"{run}: {counted(report.added, 'problem')} added{in_brackets}"

    def to_json(self) -> dict[str, Any]:
        """For scripts; keys are stable."""
        return {
            "run": self.report.run_name,
            "created": self.report.created,
            "added": self.report.added,
            "already": self.report.already,
            "rejected": self.report.rejected,
            "rejects_file": None if self.rejects is None else str(self.rejects),
            "dry_run": self.dry_run,
            "changes": self.notes.to_json(),
            "remarks": self.remarks,
            "dataset": self.dataset,
        }

    def lines(self) -> list[str]:
        """For people: the changes that reading the dataset made, and the remarks."""
        return [*self.notes.lines(), *self.remarks]


@dataclass(slots=True)
class Validation:
    """The result of validating a dataset; `flaws` has only the first few, `fitting` says how problems fit the
    models."""

    good: int = 0
    bad: int = 0
    flaws: list[str] = field(default_factory=list)
    first: ProblemRecord | None = None
    notes: DatasetNotes = field(default_factory=DatasetNotes)
    fitting: ContextCheck | None = None

    @property
    def is_sound(self) -> bool:
        """Whether every row is a problem that every model can take."""
        return not self.bad and not any(fit.misfit_count for fit in (self.fitting.fits if self.fitting else ()))

    def to_json(self) -> dict[str, Any]:
        """For scripts; keys are stable."""
        first = self.first
        return {
            "problems": self.good,
            "invalid": self.bad,
            "flaws": self.flaws,
            "fields": asdict(self.notes.fields),
            "changes": self.notes.to_json(),
            "first": None if first is None else {"id": first.key, "question": first.question, "answer": first.answer},
            "contexts": [fit.to_json() for fit in self.fitting.fits] if self.fitting else [],
            "contexts_unknown": self.fitting.skipped if self.fitting else [],
        }

    def add_flaw(self, flaw: str) -> None:
        """Counts a bad row."""
        self.bad += 1
        if len(self.flaws) < _MAX_SHOWN:
            self.flaws.append(flaw)


class _DryRunRollback(Exception):
    """Rolls back the transaction of a dry run."""

    def __init__(self, report: EnqueueReport) -> None:
        super().__init__()
        self.report = report


def default_run_name(path: Path | HubSnapshot, config: RunConfig) -> str:
    """`<dataset's stem>-<8 hex digits of the configuration's fingerprint>`: an equal call continues the same run."""
    if isinstance(path, HubSnapshot):
        stem = path.name
    else:
        name = path.resolve().name
        stem = name.removesuffix(".gz").removesuffix(".zst").rsplit(".", 1)[0] or name
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "_.-") else "-" for c in stem).strip("-.")
    return f"{plain[:50] or 'dataset'}-{config.fingerprint()[:8]}"


def enqueue_dataset(
    database: Database,
    source: DatasetSource,
    config: RunConfig,
    run_name: str | None,
    *,
    dry_run: bool = False,
    on_rejected: Callable[[RejectedRecord], None] = lambda _: None,
) -> EnqueueResult:
    """Enqueues the dataset in one transaction: all of it, or with `skip_invalid` all its good rows, or nothing.

    After the commit, rejected rows are written to a file beside the dataset, which replaces an earlier one. Before
    that, `on_rejected` gets each of them.

    Raises DatasetError, RunConflict, StoreError; ConfigError if a model has no room for a step and an answer.
    """
    name = run_name or default_run_name(source.path, config)
    if not NAME_PATTERN.fullmatch(name):
        raise ConfigError(
            f"run name {name!r} must begin with a letter or digit and may hold letters, digits, '_', '.' and '-' only, "
            "at most 63"
        )
    remarks = room_remarks(config)
    notes = DatasetNotes()
    of_hub = source.path.to_json() if isinstance(source.path, HubSnapshot) else None
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="backslashreplace") as spool:
        write_rejected = _spool_writer(spool, on_rejected) if source.skip_invalid else None
        try:
            with database.transaction() as connection:
                records = source.records(notes, config)
                report = enqueue(connection, name, config, records, on_rejected=write_rejected, dataset=of_hub)
                if dry_run:
                    raise _DryRunRollback(report)
        except _DryRunRollback as ended:
            return EnqueueResult(ended.report, None, dry_run=True, notes=notes, remarks=remarks, dataset=of_hub)
        rejects = _write_rejects_file(source.path, spool) if report.rejected and source.writes_rejects else None
    return EnqueueResult(report, rejects, dry_run=False, notes=notes, remarks=remarks, dataset=of_hub)


def validate_dataset(source: DatasetSource, config: RunConfig | None = None) -> Validation:
    """Reads the whole dataset and checks it as enqueuing would, equal ids included, in constant memory.

    With `config`, it also checks what rows say about their own verification, and whether they fit the models. Raises
    DatasetError, and ConfigError if the package of verify.method is not installed.
    """
    if config is not None:
        check_configured(config.verify.method)
    found = Validation()
    records = source.records(found.notes, config)
    with tempfile.TemporaryDirectory(prefix="cord-") as folder, closing(sqlite3.connect(f"{folder}/ids")) as ids:
        ids.execute("PRAGMA journal_mode = OFF")
        ids.execute("CREATE TABLE ids (key TEXT PRIMARY KEY, location TEXT, content TEXT) WITHOUT ROWID")
        for record in records:
            if isinstance(record, RejectedRecord):
                found.add_flaw(flaw_of(record))
                continue
            content = content_hash(record)
            values = (record.key, record.location, content)
            if ids.execute("INSERT OR IGNORE INTO ids VALUES (?, ?, ?)", values).rowcount:
                found.good += 1
                found.first = found.first or record
                if config is not None:
                    # Loaded only for the first good row, because tokenizers take seconds to load.
                    found.fitting = found.fitting or ContextCheck(config)
                    found.fitting.measure(record)
                continue
            first, first_content = ids.execute(
                "SELECT location, content FROM ids WHERE key = ?", (record.key,)
            ).fetchone()
            repeated = repeated_record(
                record.key,
                record.location,
                first,
                has_given_id=record.key != content_id(record.question, record.answer),
                is_equal=content == first_content,
            )
            found.add_flaw(flaw_of(repeated))
    return found


def _spool_writer(spool: IO[str], on_rejected: Callable[[RejectedRecord], None]) -> Callable[[RejectedRecord], None]:
    def write(record: RejectedRecord) -> None:
        on_rejected(record)
        spool.write(json.dumps([record.location, record.field, record.reason, record.raw]) + "\n")

    return write


def _write_rejects_file(path: Path | HubSnapshot, spool: IO[str]) -> Path:
    spool.seek(0)
    rejects_file(path).unlink(missing_ok=True)
    return write_rejects(path, (RejectedRecord(*json.loads(line)) for line in spool))
