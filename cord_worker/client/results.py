"""The types that the client takes and returns, without any slow import."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Self, TypedDict

Files = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
"""One file or several."""


class ReadingChoices(TypedDict, total=False):
    """How a dataset is read: the options of `cordctl enqueue`, with the same names (docs/datasets.md)."""

    question_field: str
    answer_field: str
    id_field: str
    passage_field: str
    choices_field: str
    split: str
    limit: int
    answer_as_is: bool
    repair_latex: bool
    skip_invalid: bool


class ExportChoices(TypedDict, total=False):
    """What an export holds, and how it is written: the options of `cordctl export`, with the same names
    (docs/exports.md). `split`, `dataset_info` and those of cards and pushes are for files only."""

    student: str
    only_correct: bool
    min_score: float
    top_k: int
    teachers: str | Collection[str]
    max_tokens: int
    decontaminate: Files
    decontaminate_field: str
    split: str
    think: str
    min_margin: float
    labels: str
    threshold: float
    data_source: str
    rescoring: str
    dataset_info: bool
    trim: float
    card: bool
    license: str
    push: str
    private: bool
    revision: str
    commit_message: str
    replace_card: bool


@dataclass(frozen=True, slots=True)
class TeacherProgress:
    """One teacher's part in a run so far. `share` is its share of the winning steps; `request_seconds` is the time of
    its requests, in seconds."""

    share: float | None
    proposed: int
    invalid: int
    invalid_reasons: Mapping[str, int]
    shared: int
    kept: int
    winning: int
    mean_score: float | None
    tokens: int
    request_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RunProgress:
    """A run at one moment: the numbers of `cordctl status --watch --json`, with the same names.

    `state` is `active`, `finished`, `paused` or `cancelled`. `problems` has `total`, `active`, and the number in each
    state (`queued`, `searching`, …, `done`, `failed`, `cancelled`). `missing_workers` are models and roles that the run
    needs but that have no process. `accuracy` is the share of right answers among those that were found right or
    wrong, in [0, 1]; None before the first one. `eta_seconds` is None if it is not known yet. `spending` holds what is
    spent and the limits, if the run has one; `pause_reason` says which limit paused the run.
    """

    run: str
    state: str
    pause_reason: str | None
    spending: Mapping[str, Any] | None
    problems: Mapping[str, int]
    candidates: Mapping[str, int]
    steps: int
    proposed: int
    steps_per_second: float
    tokens_per_second: float
    scores_per_second: float
    mean_score: float | None
    accuracy: float | None
    checked: int
    correct: int
    wrong: int
    undecided: int
    without_result: int
    mean_steps: float | None
    cut_answers: int
    full_contexts: int
    tokens: int
    teachers: Mapping[str, TeacherProgress]
    prover: Mapping[str, float]
    engine_seconds: float
    workers: Mapping[str, int]
    missing_workers: Sequence[str]
    conditions: Sequence[Mapping[str, Any]]
    idle_seconds: float
    waiting_for: Mapping[str, str]
    eta_seconds: float | None

    @property
    def is_final(self) -> bool:
        """Whether every problem is done, failed or cancelled."""
        return self.done + self.failed + self.problems.get("cancelled", 0) == self.problems["total"]

    @property
    def done(self) -> int:
        """Number of problems that are done."""
        return self.problems.get("done", 0)

    @property
    def failed(self) -> int:
        """Number of problems that failed."""
        return self.problems.get("failed", 0)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """From the document that `cordctl status --json` prints."""
        teachers = {name: TeacherProgress(**teacher) for name, teacher in document["teachers"].items()}
        return cls(**{**document, "teachers": teachers})

    def to_json(self) -> dict[str, Any]:
        """The document that `cordctl status --json` prints."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStatus(RunProgress):
    """The numbers of `cordctl status --json`, with the same names: the living `processes`, and `failures`, the
    most frequent causes of failed problems."""

    processes: Sequence[Mapping[str, Any]]
    failures: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class RunOverview:
    """A run in the list of runs: the values of `cordctl runs --json`. `problems` has the number in each state, and
    `total`. `pause_reason` says which spending limit paused it. A trimmed run has its source in `trimmed_from` and its
    threshold in `trim_above`."""

    run: str
    state: str
    pause_reason: str | None
    priority: int
    config_fingerprint: str
    created_at: datetime
    problems: Mapping[str, int]
    mean_score: float | None
    accuracy: float | None
    undecided: int
    trimmed_from: str | None
    trim_above: float | None


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """A row of a dataset that was left out: where it is, which field is wrong (None: the whole row), why, and the row
    itself, cut if it is long. The location of the first row that a program gave is `rows.jsonl:1` or
    `rows.parquet:1`."""

    location: str
    field: str | None
    reason: str
    raw: Any


@dataclass(frozen=True, slots=True)
class Enqueued:
    """The result of enqueuing a dataset: the values of `cordctl enqueue --json`, and the rejected rows.

    `added` problems are new, `already` were there. `rejects_file` is the file beside the dataset that holds the
    rejected rows; None if there are none, and for rows that a program gave. `changes` says what reading the dataset
    changed.
    `dataset` has id and revision of a dataset of the hub; None for others.
    """

    run: str
    created: bool
    added: int
    already: int
    rejected: int
    rejects_file: Path | None
    dry_run: bool
    changes: Any
    remarks: Sequence[str]
    dataset: Mapping[str, str] | None
    rejects: Sequence[RejectedRow]


@dataclass(frozen=True, slots=True)
class Started:
    """What runs in the background. `started`: whether this call has started it. `ready`: whether all models are loaded;
    None if the call did not wait."""

    started: bool
    pid: int
    state_dir: Path
    processes: Sequence[Mapping[str, Any]]
    ready: bool | None
