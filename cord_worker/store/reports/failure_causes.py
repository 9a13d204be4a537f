"""Failed problems by cause: reasons that differ only in numbers are one cause."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from cord_worker.search.expanding import fails_again_after_restart, fails_again_on_retry


@dataclass(frozen=True, slots=True)
class FailureCause:
    """Why problems of a run failed: how many, and the key and reason of the first of them in dataset order.

    `is_technical`: the problems are not at fault, and may continue once the cause is repaired. `repeats`: a retry would
    certainly fail, because the same candidates lead to the same decision. `repeats_from_scratch`: a retry with new
    candidates would fail too, because no model has room for any.
    """

    count: int
    key: str
    reason: str
    is_technical: bool
    repeats: bool
    repeats_from_scratch: bool


_TECHNICAL = ("the decision failed", "was given up after")


def cause_sql(reason: str) -> str:
    """SQL: the reason (SQL) with N in place of each number, which is the same for equal causes."""
    return f"regexp_replace({reason}, '[0-9]+', 'N', 'g')"


_CAUSES = sa.text(
    f"""
    SELECT count(*) AS number, (array_agg(key ORDER BY position))[1] AS key,
           (array_agg(failure_reason ORDER BY position))[1] AS reason
    FROM problems WHERE run_id = :run_id AND state = 'failed'
    GROUP BY {cause_sql("failure_reason")} ORDER BY count(*) DESC, min(position) LIMIT :most
    """
)


def failure_causes(connection: sa.Connection, run_id: int, most: int) -> list[FailureCause]:
    """At most `most` causes of failed problems of the run, the most frequent first."""
    causes = []
    for row in connection.execute(_CAUSES, {"run_id": run_id, "most": most}):
        reason = row.reason or "no reason was recorded"
        is_technical = any(words in reason for words in _TECHNICAL)
        causes.append(
            FailureCause(
                row.number,
                row.key,
                reason,
                is_technical,
                repeats=fails_again_on_retry(reason),
                repeats_from_scratch=fails_again_after_restart(reason),
            )
        )
    return causes
