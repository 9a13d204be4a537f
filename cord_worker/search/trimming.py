"""Trimming (docs/trimming.md): after which step a winner can end.

Once the score stays high, further steps do not make the known answer more probable. A student that reads the trajectory
up to there learns the same from fewer tokens (arXiv 2605.13165).
"""

from __future__ import annotations

from collections.abc import Sequence

WITHOUT_STEPS = frozenset({"curation", "integration", "sample"})
"""Pipelines whose trajectories are one candidate each: they have no step at which they could end earlier."""


def cut(scores: Sequence[float], above: float) -> int | None:
    """How many steps of a trajectory stay: those up to the first one from which every score is above `above`.

    `scores` are those of its steps, in order. A score equal to `above` is not above it. None if the last score is not
    above it: then no step qualifies, and the trajectory keeps all of its steps.
    """
    first = len(scores)
    while first > 0 and scores[first - 1] > above:
        first -= 1
    return None if first == len(scores) else first + 1


def kept_steps(scores: Sequence[float], above: float) -> int:
    """Number of steps in the trimmed copy of a trajectory: see `cut`; all of them if no step qualifies."""
    kept = cut(scores, above)
    return len(scores) if kept is None else kept
