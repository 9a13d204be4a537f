"""The invariant about rollups: each is what the rows of its problem add up to. See `invariants`."""

from __future__ import annotations

from cord_worker.store.audit.invariants import Invariant
from cord_worker.store.schema.tables import Base


def _columns(table: str, key: tuple[str, ...]) -> list[str]:
    return [column.name for column in Base.metadata.tables[table].columns if column.name not in key]


def _differing_columns(table: str, key: tuple[str, ...]) -> str:
    """SQL: names of the columns in which the rows `k` (stored) and `f` (computed) differ, with both values."""
    columns = _columns(table, key)

    def listed(value: str) -> str:
        cases = (f"CASE WHEN k.{name} IS DISTINCT FROM f.{name} THEN {value.format(name=name)} END" for name in columns)
        return f"concat_ws(', ', {', '.join(cases)})"

    stored, computed = (f"coalesce(left(CAST({row}.{{name}} AS text), 60), 'none')" for row in ("k", "f"))
    return f"""
        {listed("'{name}'")} AS columns, {listed(stored)} AS stored, {listed(computed)} AS computed
    """


def _wrong_rows(table: str, key: tuple[str, ...], name: str) -> str:
    """SQL: wrong rows of a table with several rows for a problem; `name` (SQL) names a row by its keys in `d`."""
    same = " AND ".join(f"f.{column} = k.{column}" for column in key)
    keys = ", ".join(f"coalesce(k.{column}, f.{column}) AS {column}" for column in key)
    return f"""
        SELECT p.id, {name} || CASE WHEN d.is_missing THEN ': its row: missing'
                                    WHEN d.is_added THEN ': its row: present, though nothing adds up to it'
                                    ELSE format(': %s: %s, its rows give %s', d.columns, d.stored, d.computed) END
        FROM scope p JOIN problem_rollups whole ON whole.problem_id = p.id
        CROSS JOIN LATERAL (
            SELECT {keys}, k.problem_id IS NULL AS is_missing, f.problem_id IS NULL AS is_added,
                   {_differing_columns(table, ("problem_id", *key))}
            FROM (SELECT * FROM {table} WHERE problem_id = p.id) k
            FULL JOIN (SELECT * FROM computed_{table} WHERE problem_id = p.id) f ON {same}
        ) d
        WHERE d.columns <> ''
    """


ROLLUP_INVARIANTS: tuple[Invariant, ...] = (
    Invariant(
        "rollups",
        "the rollup of an ended problem, if it has one, is what its rows add up to; other problems have none",
        f"""
        SELECT p.id, format('its rollup: %s: %s, its rows give %s', d.columns, d.stored, d.computed)
        FROM scope p JOIN problem_rollups k ON k.problem_id = p.id
        CROSS JOIN LATERAL (SELECT * FROM computed_problem_rollups f WHERE f.problem_id = p.id OFFSET 0) f
        CROSS JOIN LATERAL (SELECT {_differing_columns("problem_rollups", ("problem_id",))}) d
        WHERE d.columns <> ''
        UNION ALL
        SELECT p.id, format('its rollup: its row: present, though the problem is %s', p.state)
        FROM scope p JOIN problem_rollups k ON k.problem_id = p.id WHERE p.state NOT IN ('done', 'failed', 'cancelled')
        UNION ALL
        SELECT p.id, 'its rollup: its row: missing, though the problem has rollups of teachers or requests'
        FROM scope p WHERE NOT EXISTS (SELECT 1 FROM problem_rollups k WHERE k.problem_id = p.id) AND (
            EXISTS (SELECT 1 FROM teacher_rollups k WHERE k.problem_id = p.id)
            OR EXISTS (SELECT 1 FROM request_rollups k WHERE k.problem_id = p.id)
        )
        UNION ALL
        {
            _wrong_rows(
                "teacher_rollups",
                ("teacher_id", "tenth"),
                "format('rollup of teacher %s, tenth %s', coalesce((SELECT t.name FROM teachers t "
                "WHERE t.id = d.teacher_id), CAST(d.teacher_id AS text)), d.tenth)",
            )
        }
        UNION ALL
        {
            _wrong_rows(
                "request_rollups",
                ("model_id", "kind", "worker_id"),
                "format('rollup of model %s, %s by %s', coalesce((SELECT m.path FROM models m "
                "WHERE m.id = d.model_id), CAST(d.model_id AS text)), d.kind, d.worker_id)",
            )
        }
        """,
    ),
)
"""Invariants about the tables from which statistics are read."""
