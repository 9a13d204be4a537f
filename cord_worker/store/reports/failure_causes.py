"""Failed problems by cause: reasons that differ in figures only are one."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa


@dataclass(frozen=True, slots=True)
class FailureCause:
    """Why problems of a run failed: how many, with the first of them in dataset order and its reason. `is_technical`
    ones may go on once what kept them is mended; the others would fail again as they are."""

    count: int
    key: str
    reason: str
    is_technical: bool


_TECHNICAL = ("the decision failed", "was given up after")


def cause_of(reason: str) -> str:
    """SQL: what equal causes share of a reason."""
    return f"regexp_replace({reason}, '[0-9]+', 'N', 'g')"


_CAUSES = sa.text(
    f"""
    SELECT count(*) AS number, (array_agg(key ORDER BY position))[1] AS key,
           (array_agg(failure_reason ORDER BY position))[1] AS reason
    FROM problems WHERE run_id = :run_id AND state = 'failed'
    GROUP BY {cause_of("failure_reason")} ORDER BY count(*) DESC, min(position) LIMIT :most
    """
)


def failure_causes(connection: sa.Connection, run_id: int, most: int) -> list[FailureCause]:
    """The `most` frequent causes for which problems of the run failed."""
    causes = []
    for row in connection.execute(_CAUSES, {"run_id": run_id, "most": most}):
        reason = row.reason or "no reason was recorded"
        is_technical = any(words in reason for words in _TECHNICAL)
        causes.append(FailureCause(row.number, row.key, reason, is_technical))
    return causes
