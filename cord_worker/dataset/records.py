"""The results of reading a dataset: good problems, rejected rows, and the names of the fields."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


class NumberText(float):
    """A number with its text from the dataset, if that differs from Python's."""

    text: str

    def __new__(cls, value: float, text: str) -> NumberText:
        """`text` must be a number in JSON."""
        number = super().__new__(cls, value)
        number.text = text
        return number

    def __getnewargs__(self) -> tuple[float, str]:  # type: ignore[override]
        return float(self), self.text


@dataclass(frozen=True, slots=True)
class FieldMapping:
    """Which field of a row holds what; None: the field is detected by the usual names (`fields.USUAL_NAMES`).

    A dotted name that no field has is a path into objects and lists: `reward_model.ground_truth`, `answers.0`.
    """

    question: str | None = None
    answer: str | None = None
    id: str | None = None
    passage: str | None = None
    choices: str | None = None


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How the rows of a dataset are interpreted.

    `answer_as_is` keeps answers whole: no final answer is extracted from a solution, and no index becomes a choice.
    `repair_latex` restores lost backslashes. `checked` are further fields in which no backslash may be lost.
    `question_alone` reads nothing but the question: rows need no answer (the question stands for it), ids are made from
    the content, and choices are not added to the question.
    """

    answer_as_is: bool = False
    repair_latex: bool = False
    checked: tuple[str, ...] = ()
    question_alone: bool = False


class Change(StrEnum):
    """How a problem's text differs from its row, or what is remarkable in it; all of them are counted and shown."""

    FINAL_ANSWER = "final_answer"
    """The answer was extracted from a worked solution."""
    CHOICE = "choice"
    """The answer became the label of a choice."""
    LIST = "list"
    """The answer is made of the values of a list."""
    MESSAGES = "messages"
    """The question was taken from a list of messages."""
    SYSTEM_TURN = "system_turn"
    """That list has a system turn, which is not part of the question."""
    LATEX = "latex"
    """A lost backslash was restored."""
    LATEX_LEFT = "latex_left"
    """A lost backslash stays lost, because the field is only stored."""
    LATEX_DOUBTFUL = "latex_doubtful"
    """A control character may be a lost backslash; it stays."""
    INVISIBLE = "invisible"
    """Invisible characters were removed at an end of the text."""
    INVISIBLE_INSIDE = "invisible_inside"
    """The text has invisible characters inside; they stay."""
    DOUBLED_BACKSLASHES = "doubled_backslashes"
    """The text has a LaTeX command with two backslashes; they stay."""
    CHAT_TAGS = "chat_tags"
    """The text has a tag of a chat template."""
    NOT_A_NUMBER = "not_a_number"
    """NaN became null."""


@dataclass(frozen=True, slots=True)
class Note:
    """One change to one field of a row; `shown` is its result, or what is remarkable."""

    change: Change
    field: str
    shown: str


@dataclass(frozen=True, slots=True)
class ProblemRecord:
    """One valid problem.

    `question` and `answer` have no outer whitespace and no outer invisible characters. `key` is the given id as text,
    or is made from the content. `location` is `file.jsonl:17`: a line of a text file or a row of a table, counted from
    1; for a JSON array `file.json:17[3]`, the line and the element's index as `jq` counts it.
    `metadata` holds every other field of the row, storable as PostgreSQL `jsonb`, and the original of every field of
    which only a part was used (a worked solution, a list, an index of choices). `notes` list the changes.
    """

    key: str
    question: str
    answer: str
    passage: str | None
    metadata: dict[str, Json] = field(hash=False)
    location: str
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True, slots=True)
class RejectedRecord:
    """One rejected row: where, which field (None: the whole row), why, and the row itself, capped."""

    location: str
    field: str | None
    reason: str
    raw: Json = None
