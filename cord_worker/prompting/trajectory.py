"""The text of a trajectory: numbered steps between `<think>` and `</think>` (PAPER.md, Prompts).

A step's text excludes its marker; the marker is written back, renumbered, so that numbering is always 1..T.
A prefix is a list of *pieces*, always the same pieces for the same steps, so that a model which encodes piece by
piece gets `ids(prefix + step) = ids(prefix) + ids(step)` and its KV prefix cache keeps hitting.
"""

from __future__ import annotations

from collections.abc import Sequence

THINK_OPEN = "<think>"
THINK_CLOSE = "</think>"
STEP_HEADING = "### Step"
BOUNDARY = "\n" + STEP_HEADING
"""Line-anchored marker that ends a step."""
ANSWER_OPENING = f"\n{THINK_CLOSE}\n\n"
"""What stands between a trajectory and its final answer."""


def step_marker(number: int) -> str:
    """Marker of step `number` (1-based); every marker but the first opens a line of its own."""
    if number < 1:
        raise ValueError(f"step numbers start at 1, got {number}")
    return f"{STEP_HEADING} 1." if number == 1 else f"{BOUNDARY} {number}."


def trajectory_pieces(steps: Sequence[str]) -> list[str]:
    """Pieces of a trajectory: marker 1, text 1, marker 2, text 2, …"""
    pieces: list[str] = []
    for number, text in enumerate(steps, start=1):
        pieces += [step_marker(number), text]
    return pieces


def proposal_pieces(steps: Sequence[str]) -> list[str]:
    """Pieces that a teacher continues: the trajectory and the marker of the step to be written."""
    return [*trajectory_pieces(steps), step_marker(len(steps) + 1)]


def scoring_pieces(steps: Sequence[str]) -> list[str]:
    """Pieces of a candidate as the prover reads it: stripped on the right (PAPER.md, Scoring text)."""
    if not steps:
        raise ValueError("a candidate has at least one step")
    return trajectory_pieces([*steps[:-1], steps[-1].rstrip()])


def answer_pieces(steps: Sequence[str], opening: str = ANSWER_OPENING) -> list[str]:
    """Pieces after which a teacher writes the final answer."""
    return [*scoring_pieces(steps), opening]


def trajectory_text(steps: Sequence[str]) -> str:
    """The trajectory as one text, stripped on the right, without the think tags."""
    return "".join(scoring_pieces(steps))
