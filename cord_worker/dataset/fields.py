"""Finding out which column holds the question, the answer, the id and the passage."""

from __future__ import annotations

from collections.abc import Sequence

from cord_worker.dataset.records import FieldMapping
from cord_worker.errors import DatasetError

USUAL_NAMES: dict[str, tuple[str, ...]] = {
    "question": ("question", "problem", "prompt", "query", "instruction"),
    "answer": ("answer", "solution", "target", "expected_answer", "final_answer", "reference"),
    "id": ("id", "problem_id", "unique_id", "uid", "key"),
    "passage": ("passage", "context"),
}
"""In this order, the first that is there is taken, whatever its case."""

FINAL_ANSWERS = frozenset({"target", "expected_answer", "final_answer", "reference"})
"""Beside one of these, `solution` is as likely a worked solution as an answer: the user must say which."""


def resolve(mapping: FieldMapping, columns: Sequence[str], where: str) -> FieldMapping:
    """`mapping` with every field that is there filled in; question and answer always are.

    Args:
        mapping: what the user gave.
        columns: the columns of `where`.
        where: the dataset, for messages.

    Raises:
        DatasetError: a given field is not there, or none or several fit question or answer.
    """
    return FieldMapping(
        question=_find("question", mapping.question, columns, where, required=True),
        answer=_find("answer", mapping.answer, columns, where, required=True),
        id=_find("id", mapping.id, columns, where, required=False),
        passage=_find("passage", mapping.passage, columns, where, required=False),
    )


def _find(role: str, given: str | None, columns: Sequence[str], where: str, *, required: bool) -> str | None:
    shown = ", ".join(repr(column) for column in columns[:30]) or "none"
    option = f"--{role}-field"
    if given is not None:
        if given in columns:
            return given
        raise DatasetError(f"{where} has no field {given!r} ({option}). Its fields are: {shown}.")
    for name in USUAL_NAMES[role]:
        found = [name] if name in columns else [column for column in columns if column.strip().lower() == name]
        if not found:
            continue
        if name == "solution":
            found += [column for column in columns if column.strip().lower() in FINAL_ANSWERS]
        if len(found) > 1:
            rivals = " or ".join(repr(column) for column in found)
            raise DatasetError(f"{where}: the {role} could be {rivals}; say which with {option}.")
        return found[0]
    if not required:
        return None
    usual = ", ".join(USUAL_NAMES[role])
    raise DatasetError(
        f"{where}: no field looks like the {role} (usual names: {usual}). Its fields are: {shown}. "
        f"Name the right one with {option}."
    )
