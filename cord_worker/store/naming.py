"""How findings call rows: as the rows have it, in the same words by SQL and by Python."""

from __future__ import annotations

import re

_ROW = re.compile(r"^.*?\(candidate \d+\)")


def candidate_name(key: int, *, step: int, round: int, teacher: str, sample: int) -> str:
    """What findings call a candidate."""
    later = f", round {round}" if round else ""
    return f"step {step}{later}, teacher {teacher}, sample {sample} (candidate {key})"


def missing_candidate(*, step: int, round: int, teacher: str, sample: int, parent: int | None, chain: int) -> str:
    """What findings call a candidate that has no row: by what it should extend, `chain` where that is nothing."""
    later = f", round {round}" if round else ""
    of = f", after candidate {parent}" if parent is not None else f", chain {chain}" if chain else ""
    return f"step {step}{later}, teacher {teacher}, sample {sample}{of}"


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


def parts_of(finding: str) -> tuple[str, str]:
    """The row that a finding names, and the columns; see `PARTS_OF`."""
    named = _ROW.match(finding)
    row = named[0] if named else finding.partition(": ")[0]
    return row, finding[len(row) + 2 :].partition(": ")[0]


PARTS_OF = r"""
    SELECT row_name, split_part(substr(detail, length(row_name) + 3), ': ', 1) AS columns
    FROM coalesce(substring(detail FROM '^.*?\(candidate \d+\)'), split_part(detail, ': ', 1)) AS row_name
"""
"""SQL: what `parts_of` returns for the column `detail` of a row before it."""
