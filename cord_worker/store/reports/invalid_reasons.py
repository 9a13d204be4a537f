"""Why candidates of a run are invalid, by teacher."""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa

_REASONS = sa.text(
    """
    SELECT teacher, reason, candidates AS number
    FROM invalid_reasons WHERE run = (SELECT name FROM runs WHERE id = :run_id)
      AND (:with_duplicates OR reason <> 'duplicate')
    """
)


def invalid_reasons(
    connection: sa.Connection, run_id: int, *, with_duplicates: bool = False
) -> Mapping[str, Mapping[str, int]]:
    """Number of invalid candidates by teacher and reason, the most frequent first; teachers without any are left out.
    Duplicates are counted only if `with_duplicates`, because `status` does not count them as invalid.

    Reads rollups of every problem, so do not call it every second.
    """
    found: dict[str, dict[str, int]] = {}
    for row in connection.execute(_REASONS, {"run_id": run_id, "with_duplicates": with_duplicates}):
        found.setdefault(row.teacher, {})[row.reason] = row.number
    return found
