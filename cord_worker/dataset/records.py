"""What comes out of reading a dataset: good problems, refused rows, and the names of the fields."""

from __future__ import annotations

from dataclasses import dataclass, field

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


@dataclass(frozen=True, slots=True)
class FieldMapping:
    """Which field of a row holds what; None = found by itself from the usual names (`fields.USUAL_NAMES`)."""

    question: str | None = None
    answer: str | None = None
    id: str | None = None
    passage: str | None = None


@dataclass(frozen=True, slots=True)
class ProblemRecord:
    """One valid problem.

    `question` and `answer` are stripped of outer whitespace. `key` is the given id as text, else made from the
    content. `location` is `file.jsonl:17`: a line of a text file or a row of a table, counted from 1; of
    a JSON array `file.json:17[3]`, the line and the element's index as `jq` counts it.
    `metadata` is every other field of the row, storable as PostgreSQL `jsonb`.
    """

    key: str
    question: str
    answer: str
    passage: str | None
    metadata: dict[str, Json] = field(hash=False)
    location: str


@dataclass(frozen=True, slots=True)
class RejectedRecord:
    """One refused row: where, which field (None: the row as a whole), why, and the row itself, capped."""

    location: str
    field: str | None
    reason: str
    raw: Json = None
