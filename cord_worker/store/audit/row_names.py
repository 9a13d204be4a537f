"""How findings call rows: as the rows have it, in the same words by SQL and by Python."""

from __future__ import annotations


def candidate_name(key: int, *, step: int, round: int, teacher: str, sample: int) -> str:
    """What findings call a candidate."""
    later = f", round {round}" if round else ""
    return f"step {step}{later}, teacher {teacher}, sample {sample} (candidate {key})"


def named_candidate(row: str) -> str:
    """SQL: `candidate_name` of the candidate in this row (an alias)."""
    return (
        f"format('step %s%s, teacher %s, sample %s (candidate %s)', {row}.step, CASE WHEN {row}.round > 0 THEN "
        f"', round ' || {row}.round END, (SELECT n.name FROM teachers n WHERE n.id = {row}.teacher_id), "
        f"{row}.sample, {row}.id)"
    )


def trajectory_name(key: int, last: str) -> str:
    """What findings call a trajectory whose last step is called `last`."""
    return f"trajectory {key}, which ends in {last}"


def named_trajectory(row: str) -> str:
    """SQL: `trajectory_name` of the trajectory in this row (an alias)."""
    return (
        f"format('trajectory %s, which ends in %s', {row}.id, "
        f"(SELECT {named_candidate('z')} FROM candidates z WHERE z.id = {row}.candidate_id))"
    )
