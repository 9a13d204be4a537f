"""A place of a text that states its final answer, and how plainly."""

from __future__ import annotations

from dataclasses import dataclass

from cord_worker.verify.corrections import Standing

GUESSED = 1
"""The strength of a sentence that states an answer without announcing one."""
OPENING = 2
"""The strength of a bare answer in the first line, with the reasons below it."""


@dataclass(frozen=True, slots=True)
class Statement:
    """One place that states a final answer.

    Attributes:
        readings: what it says; several are ways to read one place, the likeliest first.
        strength: how plainly it is announced (`markers`).
        start, end: its place in the cleaned text.
        standing: whether the text stands to it.
        corrects: it takes back every answer before it.
        loose: that it differs from the reference does not make it wrong: it may be no answer.
    whole: the words of a denial, which may be the answer themselves ("cannot be determined").
    """

    readings: tuple[str, ...]
    strength: int
    start: int
    end: int
    standing: Standing = Standing.STATED
    corrects: bool = False
    loose: bool = False
    whole: str | None = None
