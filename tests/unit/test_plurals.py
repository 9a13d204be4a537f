"""Numbers in messages agree with their nouns: `1 problem`, `2 problems`."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from cord_worker.display_text import counted

PACKAGE = Path(__file__).parents[2] / "cord_worker"
_NOUN = re.compile(r" (?!with )(?:[a-z]+ )?([a-z]+s)\b")
_NO_PLURALS = {"does", "has", "is", "this", "was"}
_LARGE = {
    ("operations/fitting.py", "found.prompt + found.end"),
    ("bench/soak.py", "tasks"),
}
"""Numbers that are never 1: a prompt with an answer; the fewest tasks of a soak."""


def by_hand(source: str) -> Iterator[str]:
    """The numbers, written with thousands separators, that an f-string puts before a plural."""
    for text in ast.walk(ast.parse(source)):
        if not isinstance(text, ast.JoinedStr):
            continue
        for value, after in zip(text.values, text.values[1:], strict=False):
            if not (isinstance(value, ast.FormattedValue) and isinstance(after, ast.Constant)) or (
                value.format_spec is None or ast.unparse(value.format_spec) != "f','"
            ):
                continue
            found = _NOUN.match(str(after.value))
            name = ast.unparse(value.value)
            if found and found[1] not in _NO_PLURALS and not name.isupper():
                yield name


def test_counts_of_things_are_found() -> None:
    assert list(by_hand('f"{number:,} problems, {other:,} in all, {LIMIT:,} rows, {one:,} wrong answers"')) == [
        "number",
        "one",
    ]


def test_messages_count_with_the_function_that_knows_the_singular() -> None:
    files = {path.relative_to(PACKAGE).as_posix(): path for path in PACKAGE.rglob("*.py")}
    found = {(name, number) for name, path in files.items() for number in by_hand(path.read_text(encoding="utf-8"))}
    assert found == _LARGE, "write counted(NUMBER, NOUN) of cord_worker.display_text"


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [(1, "problem", "1 problem"), (2_000, "final answer", "2,000 final answers"), (0, "more copy", "0 more copies")],
)
def test_a_number_agrees_with_its_noun(number: int, noun: str, text: str) -> None:
    assert counted(number, noun) == text
