"""The text of a trajectory: its steps between `<think>` and `</think>`
(docs/what-is-computed.md#prompts, #segmentation).

A run's `Segmentation` divides a trajectory into steps. A step's text excludes the text between two steps;
`Segmentation.opening` writes that back, so that `prompted` steps are always numbered 1..T. A prefix is a list of
*pieces*, always the same pieces for the same steps. So a model that encodes piece by piece gets
`ids(prefix + step) = ids(prefix) + ids(step)`, and finds its prefix in its KV cache.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

THINK_OPEN = "<think>"
THINK_CLOSE = "</think>"
STEP_HEADING = "### Step"
BOUNDARY = "\n" + STEP_HEADING
"""Marker at the start of a line that ends a prompted step."""
BLANK_LINE = "\n\n"
"""Boundary of steps under `line_break`."""
ANSWER_OPENING = f"\n{THINK_CLOSE}\n\n"
"""Text between a trajectory and its final answer."""


class SegmentationRule(StrEnum):
    """How a trajectory is divided into steps (docs/what-is-computed.md#segmentation)."""

    PROMPTED = "prompted"
    """Numbered markers; the first is prefilled, so that the model continues with its own."""
    LINE_BREAK = "line_break"
    """Blank lines; nothing is prefilled."""
    PHRASES = "phrases"
    """Phrases that start a sentence and, with it, the next step; nothing is prefilled."""


@dataclass(frozen=True, slots=True)
class Segmentation:
    """How a run's trajectories are divided into steps; `phrases` belong to the rule PHRASES."""

    rule: SegmentationRule = SegmentationRule.PROMPTED
    phrases: tuple[str, ...] = ()

    @classmethod
    def of(cls, rule: str, phrases: Iterable[str]) -> Self:
        """The segmentation that `search.segmentation` and `search.phrases` of cord.toml name."""
        known = SegmentationRule(rule)
        return cls(known, tuple(phrases) if known == SegmentationRule.PHRASES else ())

    @property
    def has_markers(self) -> bool:
        """True if step markers are part of a trajectory's text."""
        return self.rule == SegmentationRule.PROMPTED

    def opening(self, number: int) -> str:
        """Text between step `number - 1` and step `number` (1-based); may be empty."""
        if self.has_markers:
            return step_marker(number)
        return BLANK_LINE if self.rule == SegmentationRule.LINE_BREAK and number > 1 else ""


PROMPTED = Segmentation()
"""The paper's own segmentation."""


def step_marker(number: int) -> str:
    """Marker of step `number` (1-based); every marker except the first starts on its own line."""
    if number < 1:
        raise ValueError(f"step numbers start at 1, got {number}")
    return f"{STEP_HEADING} 1." if number == 1 else f"{BOUNDARY} {number}."


def trajectory_pieces(steps: Sequence[str], segmentation: Segmentation) -> list[str]:
    """Pieces of a trajectory: opening 1, text 1, opening 2, text 2, …, without the empty ones."""
    pieces: list[str] = []
    for number, text in enumerate(steps, start=1):
        pieces += [segmentation.opening(number), text]
    return [piece for piece in pieces if piece]


def proposal_pieces(steps: Sequence[str], segmentation: Segmentation) -> list[str]:
    """Pieces that a teacher continues: the trajectory and the opening of the next step."""
    opening = segmentation.opening(len(steps) + 1)
    return [*trajectory_pieces(steps, segmentation), *([opening] if opening else [])]


def scoring_pieces(steps: Sequence[str], segmentation: Segmentation) -> list[str]:
    """Pieces of a candidate as the prover reads it: stripped on the right
    (docs/what-is-computed.md#scoring-text).

    If a last step has no text because it only closes the thinking, its opening is dropped too.
    """
    if not steps:
        raise ValueError("a candidate has at least one step")
    pieces = trajectory_pieces(steps, segmentation)
    while pieces and not pieces[-1].rstrip():
        pieces.pop()
    return [*pieces[:-1], *(piece.rstrip() for piece in pieces[-1:])]


def trajectory_text(steps: Sequence[str], segmentation: Segmentation) -> str:
    """The trajectory as one text, stripped on the right, without the think tags."""
    return "".join(scoring_pieces(steps, segmentation))
