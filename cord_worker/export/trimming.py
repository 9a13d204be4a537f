"""Where a trajectory could have ended: its first step from which the score stays above a threshold."""

from __future__ import annotations

from collections.abc import Sequence


def trimmed_length(scores: Sequence[float | None], threshold: float) -> int:
    """How many steps are left of a trajectory with these scores, cut after the first step from which every score is at
    least `threshold`; all of them if there is no such step. A missing score is below every threshold."""
    length = len(scores)
    for number in range(len(scores), 0, -1):
        score = scores[number - 1]
        if score is None or score < threshold:
            break
        length = number
    return length
