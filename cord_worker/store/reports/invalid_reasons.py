"""Why candidates of a run are invalid, by teacher."""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa

# As `status` counts invalid candidates: without duplicates.
_REASONS = sa.text(
    """
    SELECT t.name AS teacher, c.invalid_reason AS reason, count(*) AS number
    FROM candidates c JOIN teachers t ON t.id = c.teacher_id
    WHERE t.run_id = :run_id AND c.state = 'invalid' AND c.invalid_reason <> 'duplicate'
    GROUP BY t.ordinal, t.name, c.invalid_reason ORDER BY t.ordinal, number DESC, reason
    """
)


def invalid_reasons(connection: sa.Connection, run_id: int) -> Mapping[str, Mapping[str, int]]:
    """Number of invalid candidates by teacher and reason, the most frequent first; teachers without any are left out.

    Reads all candidates of the run, so do not call it every second.
    """
    found: dict[str, dict[str, int]] = {}
    for row in connection.execute(_REASONS, {"run_id": run_id}):
        found.setdefault(row.teacher, {})[row.reason] = row.number
    return found
