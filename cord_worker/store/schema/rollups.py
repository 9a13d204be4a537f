"""Writes the rollups of problems that ended: sums over their rows, from which statistics are read.

What a rollup holds is defined once, by the views `computed_…`. A rollup may be missing, because the views `current_…`
then compute it from the problem's rows; but it is never wrong. So the transaction that ends a problem writes its rollup
only if none of the problem's rows can change any more. If a worker still holds a lease of the problem (it failed or was
cancelled), the leading coordinator writes the rollup later (`fill_rollups`). A retry deletes the rollup of its problem,
and a recheck writes it again, in the transaction that changes the rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from cord_worker.store.schema.base import Base
from cord_worker.store.schema.rollup_tables import ProblemRollup, RequestRollup, TeacherRollup

_HAS_BEGUN = "(p.step > 0 OR p.base_scored_at IS NOT NULL)"
"""SQL: the problem has something to add up. A base score stays when a problem begins again."""

_CLAIM_SECONDS = 60.0
"""Long before this time has passed, a claim that began before its problem ended is committed, and its lease visible."""


def _insert(rollup: type[Base]) -> str:
    """SQL: writes this kind of rollup of the problems in the table `ended`. LATERAL makes PostgreSQL compute the view
    for these problems only."""
    table = Base.metadata.tables[rollup.__tablename__]
    columns = ", ".join(column.name for column in table.columns)
    return f"""
        INSERT INTO {table.name} ({columns})
        SELECT {columns} FROM ended CROSS JOIN LATERAL (
            SELECT * FROM computed_{table.name} k WHERE k.problem_id = ended.id OFFSET 0
        ) k
    """


def _write(ended: str) -> str:
    """SQL: of the problems `:ids`, writes the rollups of those that have none and for which `ended` (SQL about `p`)
    holds."""
    return f"""
        WITH ended AS MATERIALIZED (
            SELECT p.id FROM problems p
            WHERE p.id = ANY(CAST(:ids AS bigint[])) AND {_HAS_BEGUN} AND {ended}
              AND NOT EXISTS (SELECT 1 FROM problem_rollups k WHERE k.problem_id = p.id)
            ORDER BY p.id FOR NO KEY UPDATE OF p SKIP LOCKED
        ), of_problem AS ({_insert(ProblemRollup)}), of_teachers AS ({_insert(TeacherRollup)})
        {_insert(RequestRollup)}
    """


_UNFINISHED = """
    EXISTS (SELECT 1 FROM candidates c WHERE c.problem_id = p.id AND c.state NOT IN ('scored', 'unscored', 'invalid'))
    OR EXISTS (SELECT 1 FROM trajectories j WHERE j.problem_id = p.id AND j.answer_state <> 'none')
"""
_LEASED = """
    EXISTS (SELECT 1 FROM candidates c
            WHERE c.problem_id = p.id AND c.state IN ('proposing', 'scoring', 'judging'))
    OR EXISTS (SELECT 1 FROM trajectories j
               WHERE j.problem_id = p.id AND j.answer_state IN ('writing', 'checking', 'judging'))
"""

_WRITE_AT_END = sa.text(_write(f"(p.state = 'done' OR p.state = 'failed' AND NOT ({_UNFINISHED}))"))
_WRITE_LATER = sa.text(
    _write(
        f"""(p.state = 'done' OR p.state IN ('failed', 'cancelled') AND NOT ({_LEASED})
             AND p.finished_at < now() - make_interval(secs => {_CLAIM_SECONDS}))"""
    )
)

_MISSING = sa.text(
    f"""
    SELECT p.id FROM problems p
    WHERE p.id > :after AND p.state IN ('done', 'failed', 'cancelled') AND {_HAS_BEGUN}
      AND NOT EXISTS (SELECT 1 FROM problem_rollups k WHERE k.problem_id = p.id)
    ORDER BY p.id LIMIT :most
    """
)

_DROP = tuple(
    sa.text(f"DELETE FROM {rollup.__tablename__} WHERE problem_id = ANY(CAST(:ids AS bigint[]))")
    for rollup in (RequestRollup, TeacherRollup, ProblemRollup)
)

_LOCK = sa.text("SELECT id FROM problems WHERE id = ANY(CAST(:ids AS bigint[])) ORDER BY id FOR NO KEY UPDATE")


def write_rollups(connection: sa.Connection, problem_ids: Sequence[int]) -> None:
    """Of these problems, writes the rollups of those that have ended and whose rows cannot change any more. The
    transaction must hold the locks of the problems."""
    if problem_ids:
        connection.execute(_WRITE_AT_END, {"ids": list(problem_ids)})


def drop_rollups(connection: sa.Connection, problem_ids: Sequence[int]) -> None:
    """Deletes the rollups of problems that continue. The transaction must hold the locks of the problems."""
    if problem_ids:
        for statement in _DROP:
            connection.execute(statement, {"ids": list(problem_ids)})


def rewrite_rollups(connection: sa.Connection, problem_ids: Sequence[int]) -> None:
    """Writes the rollups of done problems again, after this transaction has changed their rows."""
    if problem_ids:
        connection.execute(_LOCK, {"ids": list(problem_ids)})
        drop_rollups(connection, problem_ids)
        write_rollups(connection, problem_ids)


def fill_rollups(connection: sa.Connection, *, after: int, most: int) -> list[int]:
    """Writes missing rollups of the next `most` problems whose key is greater than `after`; returns the keys of these
    problems, in order.

    It skips problems that are locked, or of which a worker holds a lease: their rollups stay missing.
    """
    ids = list(connection.execute(_MISSING, {"after": after, "most": most}).scalars())
    if ids:
        connection.execute(_WRITE_LATER, {"ids": ids})
    return ids
