"""Where a generated text ends: one step of a trajectory, or the final answer (PAPER.md, Stop).

The boundary is the plain text `\\n### Step`, whatever follows it: a rule that looks further ("a number must
follow") could not be answered while the text streams in, and a stop string in another engine could not express it.
So `### Stepwise …` at the start of a line ends a step too; `### Note`, and `### Step` inside a line, do not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from cord_worker.prompting.trajectory import BOUNDARY, THINK_CLOSE, THINK_OPEN

Ended = Literal["eos", "length", "stop"]
"""How the engine's loop ended: end of sequence, token cap, or because a stop text was seen."""


class FinishReason(StrEnum):
    """Why a generation ended (PAPER.md, Stop)."""

    STEP = "step"
    """The model opened its next step: a line-anchored marker."""
    THINK_END = "think_end"
    """The model wrote `</think>`."""
    EOS = "eos"
    """End of sequence; inside a step it ends the thinking like `</think>`."""
    LENGTH = "length"
    """The token cap; neither a step end nor a finished trajectory."""


@dataclass(frozen=True, slots=True)
class TextEnd:
    """The place where a text ends, and what ends it there."""

    position: int
    finish_reason: FinishReason


@dataclass(frozen=True, slots=True)
class SegmentedText:
    """A text without its end mark and without anything after it. Nothing is stripped."""

    text: str
    finish_reason: FinishReason


STEP_ENDS = {BOUNDARY: FinishReason.STEP, THINK_CLOSE: FinishReason.THINK_END}
ANSWER_ENDS = {THINK_CLOSE: FinishReason.THINK_END, THINK_OPEN: FinishReason.THINK_END}
"""A second `<think>` or `</think>` would make the exported turn ambiguous, so an answer ends before it."""
TRAJECTORY_ENDS = {THINK_CLOSE: FinishReason.THINK_END}
"""What a model writes alone to the end of its thinking goes on over its own step markers."""

TextKind = Literal["step", "trajectory", "answer", "reply"]
"""What a model is asked to write: its next step, the rest of its thinking, the final answer after it, or a plain reply
to a turn, where thinking is its own affair."""
ENDS: Mapping[TextKind, dict[str, FinishReason]] = {
    "step": STEP_ENDS,
    "trajectory": TRAJECTORY_ENDS,
    "answer": ANSWER_ENDS,
    "reply": {},
}


def find_end(text: str, start: int = 0, *, ends: dict[str, FinishReason] = STEP_ENDS) -> TextEnd | None:
    """The earliest end mark that lies wholly in `text[start:]`, or None."""
    found: TextEnd | None = None
    for mark, reason in ends.items():
        position = text.find(mark, start)
        if position >= 0 and (found is None or position < found.position):
            found = TextEnd(position, reason)
    return found


def cut_step(text: str, *, ended: Ended) -> SegmentedText:
    """One step out of what a model wrote after its marker.

    Middle whitespace, and a marker repeated at the very start, stay: whether the step is valid is decided in
    `search`. `ended` gives the reason where no end mark is in the text. Raises ValueError for `ended="stop"` on a
    text without an end mark.
    """
    return _cut(text, ended, STEP_ENDS)


def cut_answer(text: str, *, ended: Ended) -> SegmentedText:
    """The final answer out of what a model wrote after `</think>`; ends before a second `<think>` or `</think>`."""
    return _cut(text, ended, ANSWER_ENDS)


def cut(text: str, kind: TextKind, *, ended: Ended) -> SegmentedText:
    """What was asked for out of what a model wrote; see `cut_step` and `cut_answer`. A reply begins after the last
    `</think>`, where the model thought."""
    if kind == "reply":
        text = text.rpartition(THINK_CLOSE)[2].lstrip()
    return _cut(text, ended, ENDS[kind])


def _cut(text: str, ended: Ended, ends: dict[str, FinishReason]) -> SegmentedText:
    end = find_end(text, ends=ends)
    if end is not None:
        return SegmentedText(text[: end.position], end.finish_reason)
    if ended == "stop":
        raise ValueError(f"ended by a stop text, but there is none in {text!r:.200}")
    return SegmentedText(text, FinishReason(ended))
