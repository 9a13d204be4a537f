"""The type of an export format: the stored values that it takes, and pure functions that make rows of them."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from cord_worker.errors import CordError
from cord_worker.export.schema import Fields, Row
from cord_worker.prompting.trajectory import Segmentation

if TYPE_CHECKING:
    from cord_worker.export.metadata import Metadata
    from cord_worker.export.student import Student


class Source(StrEnum):
    """The stored values of a problem from which its rows are made."""

    RESULTS = "results"
    """The problem's winner, or all its samples (`Result`). A problem without a result has no rows."""
    TREE = "search tree"
    """All candidates of the problem's search (`SearchTree`)."""


class Need(StrEnum):
    """What a format requires of the run or of the command."""

    STUDENT = "student"
    """The model that is trained: rows are texts of its chat template."""
    SCORES = "scores"
    """Candidates that a prover scored."""
    SEVERAL = "several results"
    """Several results of each problem, as in the pipeline `sample`."""


class LeftOut(StrEnum):
    """Why a result or a path of a search tree gives no row."""

    UNFIT = "unfit"
    """It has no answer, or a text with think tags or control tokens, which would end the thinking or the turn."""
    UNDECIDED = "undecided"
    """Its final answer is neither right nor wrong."""


class Think(StrEnum):
    """Where chat messages hold the thinking."""

    FIELD = "field"
    """In `reasoning_content`."""
    INLINE = "inline"
    """In `content`, between `<think>` and `</think>`."""


class Labels(StrEnum):
    """When a step is labelled as good."""

    GAIN = "gain"
    """Its score is not below that of the step before it."""
    THRESHOLD = "threshold"
    """Its score is at least the threshold."""
    RIGHT_SHARE = "right-share"
    """In its binary judgment, the share of right answers was at least the threshold."""


class OptionError(CordError):
    """An option does not fit the format or another option; the command was used wrongly."""


@dataclass(frozen=True, slots=True)
class Choices:
    """The user's choices for rows; None means the format's default, or no limit. `teachers`: a row is made only if all
    steps that a student learns from it were written by these. `top_k`: at most this many rows of each problem, the
    best ones."""

    teachers: frozenset[str] | None = None
    top_k: int | None = None
    think: Think | None = None
    labels: Labels | None = None
    threshold: float | None = None
    min_margin: float | None = None
    data_source: str | None = None
    rescoring: str | None = None

    def take(self, *teachers: str) -> bool:
        """Whether the user's choice includes every one of `teachers`; without a choice it includes all."""
        return self.teachers is None or self.teachers.issuperset(teachers)


@dataclass(frozen=True, slots=True)
class Facts:
    """Facts of the run that only the format `jsonl` needs. `has_samples` and `has_passages`: whether rows have the
    fields `sample` and `passage`."""

    provenance: dict[str, Any]
    metadata: Metadata
    has_samples: bool
    has_passages: bool


@dataclass(frozen=True, slots=True)
class Scope:
    """The run and the choices for which rows are made. `today` is what chat templates show as the current date: the
    date of the run. `facts` reads the database when it is first called."""

    run: str
    segmentation: Segmentation
    today: datetime.date
    choices: Choices
    student: Student | None
    facts: Callable[[], Facts]

    @property
    def required_student(self) -> Student:
        """The student. Raises OptionError if none was named."""
        if self.student is None:
            raise OptionError("this format needs --student MODEL, the model that is trained")
        return self.student


@dataclass(frozen=True, slots=True)
class Format:
    """One export format.

    `rows` makes the rows of one problem from a sequence of its results, or from its search tree; instead of a row it
    may yield the reason why there is none. `sequences` gives the texts of one row as a trainer reads them;
    `--max-tokens` counts their tokens. It is None if no trainer reads the rows. Both functions are pure. `noun` says
    what a row is. `options` are names, without dashes, of options of `cordctl export`: those that this format takes,
    but not every format does. `is_per_result`: each result gives a row. `takes_failed`: candidates of failed problems
    give rows too. `row_needs` says what a problem must have to give a row; if an export wrote no rows, its report
    quotes this.
    """

    name: str
    read_by: str
    purpose: str
    noun: str
    source: Source
    fields: Callable[[Scope], Fields]
    rows: Callable[[Scope, Any], Iterable[Row | LeftOut]]
    sequences: Callable[[Scope, Row], list[str]] | None
    options: frozenset[str]
    needs: frozenset[Need] = frozenset()
    is_per_result: bool = False
    takes_failed: bool = False
    row_needs: str | None = None
