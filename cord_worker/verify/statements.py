"""`Statement`: a place in a text that states, denies or leaves open a final answer, and how plainly."""

from __future__ import annotations

from dataclasses import dataclass

from cord_worker.verify.corrections import Standing

GUESSED = 1
"""The strength of a sentence that states an answer without announcing one."""
OPENING = 2
"""The strength of a bare answer in the first line, with the reasons below it."""


@dataclass(frozen=True, slots=True)
class Statement:
    """One place that names a final answer.

    Attributes:
        readings: the texts that may be the answer (`readings`), the likeliest first.
        strength: how plainly it is announced (`markers`).
        start, end: its place in the cleaned text, in characters.
        standing: how the text presents it.
        corrects: it takes back every answer before it.
        loose: a difference from the reference does not make it wrong, because it may not be an answer.
        whole: the words of a denial, which may themselves be the answer ("cannot be determined").
    """

    readings: tuple[str, ...]
    strength: int
    start: int
    end: int
    standing: Standing = Standing.STATED
    corrects: bool = False
    loose: bool = False
    whole: str | None = None
