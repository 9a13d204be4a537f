"""Counts what reading a dataset changed, with an example of each kind, so that nothing changes silently."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from cord_worker.dataset import Change, FieldMapping, ProblemRecord, RejectedRecord
from cord_worker.display_text import counted

_DESCRIPTIONS = {
    Change.FINAL_ANSWER: "worked solution, whose final answer is the answer; the solution stays in the metadata "
    "(--answer-as-is keeps it as the answer)",
    Change.CHOICE: "multiple choice: the answer is the label of the right one, and the question lists the choices",
    Change.LIST: "list: the answer is its values in order (--answer-field FIELD.0 takes only the first)",
    Change.MESSAGES: "messages: the question is the user's turn",
    Change.SYSTEM_TURN: "system turn, which is not sent: teachers have their own (system_prompt in cord.toml)",
    Change.LATEX: "LaTeX whose backslashes were lost, restored",
    Change.LATEX_LEFT: "LaTeX that lost a backslash in a field that goes only into the metadata, kept as it is "
    "(--repair-latex restores it)",
    Change.LATEX_DOUBTFUL: "a tab or line break that may be a LaTeX command without its backslash, kept as it is",
    Change.INVISIBLE: "invisible characters, control characters or unusual spaces at an end, stripped",
    Change.INVISIBLE_INSIDE: "an invisible character inside, kept as written",
    Change.DOUBLED_BACKSLASHES: "two backslashes before a LaTeX command, kept as written",
    Change.CHAT_TAGS: "a chat tag, encoded as plain text; a server that takes no token ids refuses such a problem",
    Change.NOT_A_NUMBER: "NaN, which means a missing value in a table: kept as null",
}


@dataclass(slots=True)
class ChangeCount:
    """One kind of change to one field: the number of changed rows, and the number of `places` in them, of which a row
    can have several. `location` and `shown` are the first row and the result there."""

    rows: int
    places: int
    location: str
    shown: str


@dataclass(slots=True)
class DatasetNotes:
    """The fields that were found, and the changes by kind and field."""

    fields: FieldMapping = field(default_factory=FieldMapping)
    changes: dict[tuple[Change, str], ChangeCount] = field(default_factory=dict)

    def set_fields(self, mapping: FieldMapping) -> None:
        """Keeps the fields that were found."""
        self.fields = mapping

    def count(self, records: Iterable[ProblemRecord | RejectedRecord]) -> Iterator[ProblemRecord | RejectedRecord]:
        """Passes `records` on and counts their notes."""
        for record in records:
            if isinstance(record, ProblemRecord) and record.notes:
                self._count(record)
            yield record

    def _count(self, record: ProblemRecord) -> None:
        in_row: set[tuple[Change, str]] = set()
        for note in record.notes:
            kind = (note.change, note.field)
            count = self.changes.get(kind)
            if count is None:
                self.changes[kind] = ChangeCount(1, 1, record.location, note.shown)
            else:
                count.rows += kind not in in_row
                count.places += 1
            in_row.add(kind)

    def fields_line(self) -> str:
        """The field that each part of a problem is read from."""
        fields = self.fields
        parts = [f"question from {fields.question!r}", f"answer from {fields.answer!r}"]
        parts += [f"choices from {fields.choices!r}"] if fields.choices else []
        parts += [f"passage from {fields.passage!r}"] if fields.passage else []
        parts += [f"id from {fields.id!r}" if fields.id else "id made from the content"]
        return f"fields: {', '.join(parts)}"

    def lines(self) -> list[str]:
        """For people: one line per kind of change, with its first place and the result there."""
        return [
            f"field {name!r}, {counted(count.rows, 'row')}{_places(change, count)}: "
            f"{_DESCRIPTIONS[change]}; first {count.location}: {count.shown}"
            for (change, name), count in self.changes.items()
        ]

    def to_json(self) -> list[dict[str, Any]]:
        """For scripts; keys are stable."""
        return [
            {
                "change": change.value,
                "field": name,
                "rows": count.rows,
                "places": count.places,
                "first": {"location": count.location, "shown": count.shown},
            }
            for (change, name), count in self.changes.items()
        ]


def _places(change: Change, count: ChangeCount) -> str:
    return f" ({counted(count.places, 'place')})" if change is Change.LATEX else ""
