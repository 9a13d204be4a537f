"""How much space rows take in the database."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

_ROW_BYTES = sa.text(
    """
    SELECT (SELECT coalesce(sum(pg_column_size(p.*)), 0) FROM problems p WHERE p.id = ANY(:problems)) AS problems,
           (SELECT coalesce(sum(pg_column_size(c.*)), 0) FROM candidates c WHERE c.problem_id = ANY(:problems))
               AS candidates,
           (SELECT coalesce(sum(pg_column_size(j.*)), 0) FROM trajectories j WHERE j.problem_id = ANY(:problems))
               AS trajectories,
           (SELECT coalesce(sum(pg_column_size(b.*)), 0) FROM beams b WHERE b.problem_id = ANY(:problems)) AS beams,
           (SELECT coalesce(sum(pg_column_size(k.*)), 0) FROM problem_rollups k WHERE k.problem_id = ANY(:problems))
               AS problem_rollups,
           (SELECT coalesce(sum(pg_column_size(k.*)), 0) FROM teacher_rollups k WHERE k.problem_id = ANY(:problems))
               AS teacher_rollups,
           (SELECT coalesce(sum(pg_column_size(k.*)), 0) FROM request_rollups k WHERE k.problem_id = ANY(:problems))
               AS request_rollups
    """
)
_INDEX_SHARE = sa.text(
    """
    SELECT c.relname, pg_indexes_size(c.oid)::float8 / greatest(pg_table_size(c.oid), 1) AS share
    FROM pg_class c WHERE c.oid = ANY(CAST(:tables AS regclass[]))
    """
)


def row_bytes(connection: sa.Connection, problems: Sequence[int]) -> float:
    """Mean bytes that all rows of one of these problems take, with their share of the indexes."""
    sizes = connection.execute(_ROW_BYTES, {"problems": list(problems)}).mappings().one()
    shares = connection.execute(_INDEX_SHARE, {"tables": list(sizes)}).all()
    by_table = {row.relname: row.share for row in shares}
    total: float = sum(float(size) * (1.0 + by_table.get(table, 0.0)) for table, size in sizes.items())
    return total / max(len(problems), 1)
