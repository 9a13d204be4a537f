"""`ProblemBuilder`: makes a problem of a decoded row, or says why that is impossible."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from cord_worker import latex_repair
from cord_worker.dataset import backslashes, roles
from cord_worker.dataset.chat_tags import CHAT_TAG
from cord_worker.dataset.choices import read_choices
from cord_worker.dataset.fields import Field, Fields
from cord_worker.dataset.invisible import hidden_inside, hides_at_ends, stripped
from cord_worker.dataset.jsontext import exact_json
from cord_worker.dataset.records import Change, Json, Note, ProblemRecord, ReadOptions, RejectedRecord
from cord_worker.dataset.repetition import content_id
from cord_worker.dataset.rows import Row
from cord_worker.dataset.values import Flaw, keep_raw, row_flaw

_SHOWN = 80
_NO_NOTES: tuple[Note, ...] = ()


class ProblemBuilder:
    """Makes problems of rows. `fields` are those that hold the question, the answer and so on."""

    def __init__(self, fields: Fields, options: ReadOptions) -> None:
        self._fields = fields
        self._options = options
        parts = (fields.question, fields.answer, fields.passage, fields.choices)
        roots = [field.root for field in parts if field is not None]
        plain = (fields.id, fields.passage)
        self._stored_apart = frozenset(field.name for field in plain if field is not None and len(field.path) == 1)
        self._roots = {*roots, *fields.letters, *(field.root for field in plain if field is not None)}
        self._texts = tuple(dict.fromkeys([*roots, *fields.letters, *options.checked]))

    def problem(self, row: Row) -> ProblemRecord | RejectedRecord:
        """The problem of `row`, or the row rejected with a reason. NaN in a field that is only stored becomes null."""
        not_numbers = [name for name, cell in row.value.items() if cell != cell and name not in self._roots]
        if not_numbers:
            notes = tuple(Note(Change.NOT_A_NUMBER, name, "NaN") for name in not_numbers)
            problem = self._problem(row._replace(value={**row.value, **dict.fromkeys(not_numbers)}))
            return replace(problem, notes=problem.notes + notes) if isinstance(problem, ProblemRecord) else problem
        return self._problem(row)

    def _problem(self, row: Row) -> ProblemRecord | RejectedRecord:
        value = row.value
        if not row.trusted and (flaw := row_flaw(value)):
            reason = f"the row {flaw.reason}" if flaw.field is None else flaw.reason
            return RejectedRecord(row.location, flaw.field, reason, keep_raw(value))
        if not self._options.question_alone and (late_column := self._fields.late_column(value)) is not None:
            column, role = late_column
            reason = (
                f"looks like the {role}, but the first rows, which decide the fields, have no such field: move a row "
                "that has it to the beginning, or rename it"
            )
            return RejectedRecord(row.location, column, reason, keep_raw(value))
        found = backslashes.restore_row(value, self._texts, repair=self._options.repair_latex, damaged=row.damaged)
        problem = found if isinstance(found, Flaw) else self._read(found, row.location)
        if isinstance(problem, Flaw):
            return RejectedRecord(row.location, problem.field, problem.reason, keep_raw(value))
        return problem

    def _read(self, found: backslashes.Restored, location: str) -> ProblemRecord | Flaw:
        fields, row = self._fields, found.row
        question = roles.question(fields.question.of(row))
        if isinstance(question, Flaw):
            return Flaw(fields.question.name, question.reason)
        if fields.unused_input is not None and row.get(fields.unused_input) not in (None, "", [], {}):
            return Flaw(
                fields.unused_input,
                f"stands next to the {fields.question.name}, but would not be sent: give it as the passage "
                f"(--passage-field {fields.unused_input}), or leave it out with --question-field "
                f"{fields.question.name}",
            )
        multiple = self._with_choices(row, question)
        if isinstance(multiple, Flaw):
            return multiple
        if multiple is not None:
            question, answer = multiple
        elif self._options.question_alone:
            answer = (question[0], ())
        else:
            plain = roles.answer(fields.answer.of(row), as_is=self._options.answer_as_is)
            if isinstance(plain, Flaw):
                return Flaw(fields.answer.name, plain.reason)
            answer = plain
        passage = None if fields.passage is None else roles.passage(fields.passage.of(row))
        if isinstance(passage, Flaw):
            return Flaw(_name(fields.passage), passage.reason)
        key = self._key(row, question[0], answer[0])
        if isinstance(key, Flaw):
            return Flaw(_name(fields.id), key.reason)
        return ProblemRecord(
            key,
            question[0],
            answer[0],
            passage,
            self._metadata(row, question, answer),
            location,
            self._notes(found, question, answer, passage),
        )

    def _key(self, row: dict[str, Json], question: str, answer: str) -> str | Flaw:
        if self._fields.id is not None:
            return roles.key(self._fields.id.of(row))
        return content_id(question, answer)

    def _with_choices(
        self, row: dict[str, Json], question: roles.Taken
    ) -> tuple[roles.Taken, roles.Taken] | Flaw | None:
        """The question with its choices, and the label of the right one; None if the row has no choices."""
        fields = self._fields
        if self._options.answer_as_is:
            return None
        if fields.letters:
            name = ", ".join(fields.letters)
            listed: Json = {letter: row.get(letter) for letter in fields.letters if row.get(letter) not in (None, "")}
        elif fields.choices is not None:
            name = fields.choices.name
            listed = fields.choices.of(row)
        else:
            return None
        if listed is None or listed in ([], {}):
            return None
        choices = read_choices(listed)
        if isinstance(choices, Flaw):
            return Flaw(name, choices.reason)
        label = choices.label_of(fields.answer.of(row))
        if isinstance(label, Flaw):
            return Flaw(fields.answer.name, label.reason)
        return (choices.in_question(question[0]), question[1]), (label, (Change.CHOICE,))

    def _metadata(self, row: dict[str, Json], question: roles.Taken, answer: roles.Taken) -> dict[str, Json]:
        """All fields but those that the problem holds unchanged; a field of which only a part was used stays whole."""
        fields = self._fields
        # If only blank or invisible characters changed, the original need not be kept.
        question_name = fields.question.name if len(fields.question.path) == 1 and not question[1] else None
        answer_name = fields.answer.name if len(fields.answer.path) == 1 and not answer[1] else None
        apart = self._stored_apart
        return {
            name: cell
            for name, cell in row.items()
            if name != question_name and name != answer_name and name not in apart
        }

    def _notes(
        self, found: backslashes.Restored, question: roles.Taken, answer: roles.Taken, passage: str | None
    ) -> tuple[Note, ...]:
        fields = self._fields
        notes = [Note(Change.LATEX, name, command) for name, commands in found.commands.items() for command in commands]
        for change, commands_by_name in (
            (Change.LATEX_LEFT, found.left),
            (Change.LATEX_DOUBTFUL, found.doubtful),
        ):
            notes += [Note(change, name, shown) for name, commands in commands_by_name.items() for shown in commands]
        notes += [Note(change, fields.question.name, f"{question[0]!r:.80}") for change in question[1]]
        if answer[1]:
            shown = f"{answer[0]!r:.80} out of {_end_of(fields.answer.of(found.row))}"
            notes += [Note(change, fields.answer.name, shown) for change in answer[1]]
        for field, text in ((fields.question, question[0]), (fields.answer, answer[0]), (fields.passage, passage)):
            if field is not None and text is not None and _is_remarkable(text := _raw(field, found.row, text)):
                notes += _remarks(field.name, text)
        return tuple(notes) if notes else _NO_NOTES


def _is_remarkable(text: str) -> bool:
    """False if there is nothing to remark on; fast."""
    return not text.isascii() or not text.isprintable() or "<" in text or "[" in text or "\\\\" in text


def _raw(field: Field, row: dict[str, Json], text: str) -> str:
    """The field's content if it is a text, otherwise the text that was taken from it."""
    value = field.of(row)
    return value if isinstance(value, str) else text


def _remarks(name: str, raw: str) -> Iterator[Note]:
    if hides_at_ends(raw):
        yield Note(Change.INVISIBLE, name, repr(raw[-20:]))
    text = stripped(raw)
    if (hidden := hidden_inside(text)) is not None:
        yield Note(Change.INVISIBLE_INSIDE, name, hidden)
    if (doubled := latex_repair.doubly_escaped_command(text)) is not None:
        yield Note(Change.DOUBLED_BACKSLASHES, name, f"\\\\{doubled}")
    if (tag := CHAT_TAG.search(text)) is not None:
        yield Note(Change.CHAT_TAGS, name, tag[0])


def _name(field: Field | None) -> str | None:
    return None if field is None else field.name


def _end_of(value: Json) -> str:
    text = value if isinstance(value, str) else exact_json(value)
    return repr(text if len(text) <= _SHOWN else f"…{text[-_SHOWN:]}")
