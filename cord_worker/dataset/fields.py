"""Finds the fields that hold the question, the answer, the id, the passage and the choices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase

from cord_worker.dataset.records import FieldMapping, Json
from cord_worker.errors import DatasetError

USUAL_NAMES: dict[str, tuple[str, ...]] = {
    "question": ("question", "problem", "prompt", "query", "instruction"),
    "answer": (
        "answer",
        "solution",
        "target",
        "expected_answer",
        "final_answer",
        "reference",
        "ground_truth",
        "answerkey",
        "reward_model.ground_truth",
    ),
    "id": ("id", "problem_id", "unique_id", "uid", "key"),
    "passage": ("passage", "context"),
    "choices": ("choices", "options"),
}
"""Usual names by role; the first one that exists is taken. Case makes no difference."""

FINAL_ANSWERS = frozenset({"target", "expected_answer", "final_answer", "reference", "ground_truth"})
"""With one of these fields present, `solution` may be a worked solution or an answer: the user must choose."""

LETTER_COLUMNS = tuple(ascii_uppercase)
"""Columns that hold one choice each. They are used if no single field holds all choices, and A, B and C exist."""


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a row; `path` holds the names and list indices that lead to it."""

    name: str
    path: tuple[str, ...]

    @property
    def root(self) -> str:
        """The row's top-level field that holds it."""
        return self.path[0]

    def of(self, row: Mapping[str, Json]) -> Json:
        """The field's value in `row`; None if the row has none."""
        value = row.get(self.path[0])
        if len(self.path) == 1:
            return value
        for name in self.path[1:]:
            if isinstance(value, dict):
                value = value.get(name)
            elif isinstance(value, list) and name.isdigit() and int(name) < len(value):
                value = value[int(name)]
            else:
                return None
        return value


@dataclass(frozen=True, slots=True)
class Fields:
    """The fields of a dataset; `letters` are the columns of choices, if each choice has its own column."""

    question: Field
    answer: Field
    id: Field | None
    passage: Field | None
    choices: Field | None
    letters: tuple[str, ...] = ()
    columns: frozenset[str] = frozenset()
    """The columns of the first rows."""
    unused_input: str | None = None
    """The name of the column `input`, if the question is read from `instruction`. It would be a second part of the
    question, but nothing reads it."""

    def late_column(self, row: Mapping[str, Json]) -> tuple[str, str] | None:
        """A column of `row` that the first rows lacked, and the role that it would have had; None without one."""
        if row.keys() <= self.columns:
            return None
        missing = [role for role in ("id", "passage", "choices") if getattr(self, role) is None]
        for column in row.keys() - self.columns:
            if row[column] in (None, "", [], {}):
                continue
            for role in missing:
                if any(_same(column, name) for name in USUAL_NAMES[role]) and not (role == "choices" and self.letters):
                    return column, role
        if self.choices is not None:
            return None
        # One more letter is one more choice; without any letter so far, A, B and C together are the choices.
        wanted = LETTER_COLUMNS[: len(self.letters) + 1] if self.letters else LETTER_COLUMNS[:3]
        late = [letter for letter in wanted if letter not in self.columns and row.get(letter) not in (None, "")]
        return (late[0], "choices") if late and all(letter in row for letter in wanted) else None

    def mapping(self) -> FieldMapping:
        """The names of the fields."""

        def name(field: Field | None) -> str | None:
            return None if field is None else field.name

        return FieldMapping(
            question=self.question.name,
            answer=self.answer.name,
            id=name(self.id),
            passage=name(self.passage),
            choices=", ".join(self.letters) or name(self.choices),
        )


def resolve(mapping: FieldMapping, rows: Sequence[Mapping[str, Json]], where: str) -> Fields:
    """Finds the fields of a dataset; the question and the answer are always among them.

    Args:
        mapping: the names that the user gave.
        rows: the first rows of `where`.
        where: the dataset's name for messages.

    Raises:
        DatasetError: a given field is missing, or the question or the answer has no matching field, or several.
    """
    finder = _Finder(rows, where)
    question = finder.needed("question", mapping.question)
    answer = finder.needed("answer", mapping.answer)
    choices = finder.find("choices", mapping.choices)
    taken = {field.name for field in (question, answer, choices) if field is not None}
    letters: tuple[str, ...] = ()
    if choices is None and finder.columns.keys() >= set(LETTER_COLUMNS[:3]) and not taken & set(LETTER_COLUMNS):
        letters = tuple(letter for letter in LETTER_COLUMNS if letter in finder.columns)
        if letters != LETTER_COLUMNS[: len(letters)]:
            gap = next(letter for letter in LETTER_COLUMNS if letter not in letters)
            raise DatasetError(
                f"{where}: the columns {', '.join(letters)} look like choices, but {gap} is missing: rename those that "
                "are not choices."
            )
    passage = finder.find("passage", mapping.passage)
    unused_input = None
    if mapping.question is None and _same(question.name, "instruction"):
        used = {field.root for field in (answer, choices, passage) if field is not None}
        unused_input = next(
            (column for column in finder.columns if _same(column, "input") and column not in used), None
        )
    return Fields(
        question=question,
        answer=answer,
        id=finder.find("id", mapping.id),
        passage=passage,
        choices=choices,
        letters=letters,
        columns=frozenset(finder.columns),
        unused_input=unused_input,
    )


def resolve_question(mapping: FieldMapping, rows: Sequence[Mapping[str, Json]], where: str) -> Fields:
    """Like `resolve`, for `ReadOptions.question_alone`: the field of the question is used for the answer too."""
    question = _Finder(rows, where).needed("question", mapping.question)
    return Fields(question, question, id=None, passage=None, choices=None)


class _Finder:
    """Finds fields in the columns of the first rows."""

    def __init__(self, rows: Sequence[Mapping[str, Json]], where: str) -> None:
        self._rows = rows
        self._where = where
        self.columns = dict.fromkeys(column for row in rows for column in row)

    def needed(self, role: str, given: str | None) -> Field:
        found = self.find(role, given)
        if found is not None:
            return found
        usual = ", ".join(USUAL_NAMES[role])
        raise DatasetError(
            f"{self._where}: no field looks like the {role} (usual names: {usual}). Its fields are: {self._shown()}. "
            f"Name the right one with --{role}-field."
        )

    def find(self, role: str, given: str | None) -> Field | None:
        if given is not None:
            return self._given(role, given)
        for name in USUAL_NAMES[role]:
            if "." in name and name not in self.columns:
                nested = self._nested(name)
                if nested is not None:
                    return nested
                continue
            found = [name] if name in self.columns else [column for column in self.columns if _same(column, name)]
            if not found:
                continue
            if name == "solution":
                found += [column for column in self.columns if column.strip().lower() in FINAL_ANSWERS]
            if len(found) > 1:
                rivals = " or ".join(repr(column) for column in found)
                raise DatasetError(f"{self._where}: the {role} could be {rivals}; choose one with --{role}-field.")
            return Field(found[0], (found[0],))
        return None

    def _given(self, role: str, name: str) -> Field:
        if name in self.columns:
            return Field(name, (name,))
        nested = self._nested(name)
        if nested is not None:
            return nested
        raise DatasetError(f"{self._where} has no field {name!r} (--{role}-field). Its fields are: {self._shown()}.")

    def _nested(self, name: str) -> Field | None:
        """The field at this dotted path, if a first row has a value there. The name of a column may hold dots too."""
        parts = name.split(".")
        for length in range(len(parts) - 1, 0, -1):
            root = ".".join(parts[:length])
            if root in self.columns:
                field = Field(name, (root, *parts[length:]))
                if any(field.of(row) is not None for row in self._rows):
                    return field
        return None

    def _shown(self) -> str:
        names: list[str] = []
        for column in self.columns:
            inner = next((row[column] for row in self._rows if isinstance(row.get(column), dict)), None)
            names += [f"{column}.{name}" for name in inner] if isinstance(inner, dict) and inner else [column]
        return ", ".join(map(repr, names[:30])) or "none"


def _same(column: str, name: str) -> bool:
    return column.strip().lower() == name
