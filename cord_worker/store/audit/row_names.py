"""Names of rows in findings, the same in SQL and in Python."""

from __future__ import annotations

import re

_ROW = re.compile(r"^.*?\(candidate \d+\)")


def candidate_name(key: int, *, step: int, round: int, teacher: str, sample: int) -> str:
    """Name of a candidate."""
    in_round = f", round {round}" if round else ""
    return f"step {step}{in_round}, teacher {teacher}, sample {sample} (candidate {key})"


def missing_candidate(*, step: int, round: int, teacher: str, sample: int, parent: int | None, chain: int) -> str:
    """Name of a candidate that has no row. It ends with the candidate's parent. Without a parent it ends with the
    candidate's `chain` (in the pipeline `greedy`), if that is not 0."""
    in_round = f", round {round}" if round else ""
    origin = f", chain {chain}" if chain else ""
    if parent is not None:
        origin = f", after candidate {parent}"
    return f"step {step}{in_round}, teacher {teacher}, sample {sample}{origin}"


def candidate_name_sql(row: str) -> str:
    """SQL: `candidate_name` of the candidate in this row (an alias)."""
    return (
        f"format('step %s%s, teacher %s, sample %s (candidate %s)', {row}.step, CASE WHEN {row}.round > 0 THEN "
        f"', round ' || {row}.round END, (SELECT t.name FROM teachers t WHERE t.id = {row}.teacher_id), "
        f"{row}.sample, {row}.id)"
    )


def rescore_name_sql(rescoring: str, candidate: str) -> str:
    """SQL: name of the rescore of a candidate; the arguments are the aliases of both rows."""
    return f"format('rescoring %s, %s', {rescoring}.name, {candidate_name_sql(candidate)})"


def trajectory_name(key: int, last: str) -> str:
    """Name of a trajectory whose last step has the name `last`."""
    return f"trajectory {key}, which ends in {last}"


def trajectory_name_sql(row: str) -> str:
    """SQL: `trajectory_name` of the trajectory in this row (an alias)."""
    return (
        f"format('trajectory %s, which ends in %s', {row}.id, "
        f"(SELECT {candidate_name_sql('last_step')} FROM candidates last_step WHERE last_step.id = {row}.candidate_id))"
    )


def finding_parts(finding: str) -> tuple[str, str]:
    """The row and the columns that a finding names; `FINDING_PARTS_SQL` does the same."""
    named = _ROW.match(finding)
    row = named[0] if named else finding.partition(": ")[0]
    return row, finding[len(row) + 2 :].partition(": ")[0]


FINDING_PARTS_SQL = r"""
    SELECT row_name, split_part(substr(detail, length(row_name) + 3), ': ', 1) AS columns
    FROM coalesce(substring(detail FROM '^.*?\(candidate \d+\)'), split_part(detail, ': ', 1)) AS row_name
"""
"""SQL of a LATERAL subquery: does what `finding_parts` does, for the column `detail`."""
