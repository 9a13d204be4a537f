"""What a run waits for now: its unfinished work, by kind and by the model that must do it."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import sqlalchemy as sa

from cord_worker.store.schema import kinds
from cord_worker.store.schema.kinds import WorkKind
from cord_worker.store.schema.verification_sql import IS_OWED


@dataclass(frozen=True, slots=True)
class BacklogRow:
    """Unfinished work of one `kind`: `waiting` pieces, which no worker has begun, and `in_work` pieces, the oldest of
    which was begun `seconds` ago. `model` is a fingerprint, `path` the same model's path; None for a coordinator."""

    kind: str
    model: str | None
    path: str | None
    waiting: int
    in_work: int
    seconds: float | None


_COORDINATION = f"""
    SELECT 'decision', NULL, false, p.touched_at
    FROM problems p WHERE p.run_id = :run_id AND p.state = 'searching' AND p.outstanding = 0
    UNION ALL
    SELECT 'verification', NULL, false, p.touched_at
    FROM problems p JOIN runs r ON r.id = p.run_id
    WHERE p.run_id = :run_id AND p.state = 'verifying' AND NOT EXISTS (
        SELECT 1 FROM trajectories j WHERE j.problem_id = p.id AND {IS_OWED}
    )
    UNION ALL
    SELECT 'admission', NULL, false, p.touched_at
    FROM problems p
    WHERE p.run_id = :run_id AND p.state = 'queued' AND NOT EXISTS (
        SELECT 1 FROM problems other
        WHERE other.run_id = :run_id AND other.state IN ('searching', 'answering', 'verifying')
    )
    UNION ALL
    SELECT 'rescore', q.model_id, false, x.touched_at
    FROM rescorings q JOIN rescores x ON x.rescoring_id = q.id AND x.state = 'queued' WHERE q.run_id = :run_id
"""
"""SQL: what waits for a coordinator. Queued rescores do, because a coordinator admits them."""


@functools.cache
def _backlog(all_kinds: tuple[WorkKind, ...]) -> sa.TextClause:
    """Counts a run's unfinished pieces by kind and model."""
    pieces = " UNION ALL ".join(
        f"SELECT '{kind.noun}' AS kind, {kind.model or 'CAST(NULL AS int)'} AS model_id, "
        f"{kind.alias}.{kind.state} = '{kind.working}' AS is_leased, {kind.alias}.touched_at {kind.unfinished} "
        f"WHERE r.id = :run_id AND ({kind.alias}.{kind.state} = '{kind.working}' OR {kind.waits})"
        for kind in all_kinds
    )
    return sa.text(
        f"""
        SELECT work.kind, m.fingerprint AS model, m.path, count(*) FILTER (WHERE NOT work.is_leased) AS waiting,
               count(*) FILTER (WHERE work.is_leased) AS in_work,
               CAST(extract(epoch FROM now() - min(work.touched_at) FILTER (WHERE work.is_leased)) AS float8) AS seconds
        FROM ({pieces} UNION ALL {_COORDINATION}) work
        LEFT JOIN models m ON m.id = work.model_id
        GROUP BY work.kind, m.fingerprint, m.path
        ORDER BY m.path NULLS FIRST, work.kind
        """
    )


def read_backlog(connection: sa.Connection, run_id: int) -> list[BacklogRow]:
    """Unfinished work of the run, by kind and model. It reads all of it, so call it only when something seems wrong."""
    return [BacklogRow(**row._mapping) for row in connection.execute(_backlog(tuple(kinds.KINDS)), {"run_id": run_id})]
