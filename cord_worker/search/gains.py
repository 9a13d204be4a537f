"""The gain of a step: how much it raised the score of its trajectory."""

from __future__ import annotations


def gain_over(score: float | None, before: float | None) -> float | None:
    """A step's score minus that of the step before it (of the first step: minus the base score); None if either is
    missing."""
    return None if score is None or before is None else score - before
