"""Multiplies a finished run in SQL, for `cordctl bench tables`: only for a database that a measurement made for itself.

A copy has the rows of the original with new keys. Each block of copies is shifted in time, so that the requests of
different problems overlap as they do in a run that keeps hundreds of problems in flight.
"""

from __future__ import annotations

import sqlalchemy as sa

from cord_worker.store.schema.tables import Base

_SHIFT = "make_interval(secs => CAST(:seconds AS float8) * blocks.block)"


def _values(table: str, row: str, own: dict[str, str]) -> tuple[str, str]:
    """SQL: the columns of the table, and their values in a copy of `row` (an alias). `own` has the SQL of columns with
    a new value; instants are shifted."""
    columns = Base.metadata.tables[table].columns
    values = []
    for column in columns:
        value = f"{row}.{column.name}"
        if isinstance(column.type, sa.DateTime):
            value = f"{value} + {_SHIFT}"
        values.append(own.get(column.name, value))
    return ", ".join(column.name for column in columns), ", ".join(values)


def _copy(table: str, row: str, own: dict[str, str], rows: str) -> sa.TextClause:
    """Inserts a copy of `row` (an alias) for each block; `rows` (SQL) joins the original rows to the blocks."""
    columns, values = _values(table, row, own)
    overriding = "OVERRIDING SYSTEM VALUE" if "id" in Base.metadata.tables[table].columns else ""
    return sa.text(
        f"""
        INSERT INTO {table} ({columns}) {overriding}
        SELECT {values} FROM generate_series(CAST(:first AS bigint), CAST(:last AS bigint)) AS blocks(block) {rows}
        """
    )


_PROBLEM_KEY = "{} - :first_problem + :problems_from + (blocks.block - :first) * :problem_span"
_CANDIDATE_KEY = "{} - :first_candidate + :candidates_from + (blocks.block - :first) * :candidate_span"
_TRAJECTORY_KEY = "{} - :first_trajectory + :trajectories_from + (blocks.block - :first) * :trajectory_span"

_ENGINE_SECONDS = "CASE WHEN {column} IS NOT NULL THEN 0.02 + 0.001 * ({key} % 7) END"
"""SQL: made-up seconds for the copies, because the engine of the original answered at once."""

_BOUNDS = sa.text(
    """
    SELECT count(DISTINCT p.id) AS problems, count(DISTINCT c.id) AS candidates, min(p.id) AS first_problem,
           max(p.id) - min(p.id) + 1 AS problem_span, min(c.id) AS first_candidate,
           max(c.id) - min(c.id) + 1 AS candidate_span,
           (SELECT min(j.id) FROM trajectories j JOIN problems p ON p.id = j.problem_id WHERE p.run_id = :source)
               AS first_trajectory,
           (SELECT max(j.id) - min(j.id) + 1 FROM trajectories j JOIN problems p ON p.id = j.problem_id
            WHERE p.run_id = :source) AS trajectory_span,
           extract(epoch FROM max(p.finished_at) - min(p.admitted_at))::float8 AS seconds
    FROM problems p JOIN candidates c ON c.problem_id = p.id WHERE p.run_id = :source
    """
)

_NEXT_KEYS = sa.text(
    """
    SELECT (SELECT max(id) FROM problems) + 1 AS problems_from, (SELECT max(id) FROM candidates) + 1 AS candidates_from,
           (SELECT max(id) FROM trajectories) + 1 AS trajectories_from
    """
)

_RUN_COLUMNS = ", ".join(c.name for c in Base.metadata.tables["runs"].columns if c.name != "id")
_RUN_VALUES = ", ".join(
    "CAST(:name AS text)" if c.name == "name" else f"r.{c.name}"
    for c in Base.metadata.tables["runs"].columns
    if c.name != "id"
)
_RUN = sa.text(f"INSERT INTO runs ({_RUN_COLUMNS}) SELECT {_RUN_VALUES} FROM runs r WHERE r.id = :source RETURNING id")

_TEACHERS = sa.text(
    """
    INSERT INTO teachers (run_id, ordinal, name, role, model_id, sampling, system_prompt)
    SELECT :run_id, t.ordinal, t.name, t.role, t.model_id, t.sampling, t.system_prompt
    FROM teachers t WHERE t.run_id = :source
    """
)

_ROWS = (
    _copy(
        "problems",
        "p",
        {
            "id": _PROBLEM_KEY.format("p.id"),
            "run_id": "CAST(:run_id AS bigint)",
            "position": "p.position + blocks.block * :problem_span",
            "key": "p.key || '-' || blocks.block",
        },
        "JOIN problems p ON p.run_id = :source ORDER BY blocks.block, p.id",
    ),
    _copy(
        "candidates",
        "c",
        {
            "id": _CANDIDATE_KEY.format("c.id"),
            "problem_id": _PROBLEM_KEY.format("c.problem_id"),
            "parent_id": _CANDIDATE_KEY.format("c.parent_id"),
            "duplicate_of": _CANDIDATE_KEY.format("c.duplicate_of"),
            "teacher_id": "t.id",
            "propose_seconds": _ENGINE_SECONDS.format(column="c.propose_seconds", key="c.id"),
            "score_seconds": _ENGINE_SECONDS.format(column="c.score_seconds", key="c.id"),
        },
        """
        JOIN problems p ON p.run_id = :source JOIN candidates c ON c.problem_id = p.id
        JOIN teachers original_teacher ON original_teacher.id = c.teacher_id
        JOIN teachers t ON t.run_id = :run_id AND t.ordinal = original_teacher.ordinal
        ORDER BY blocks.block, c.id
        """,
    ),
    _copy(
        "trajectories",
        "j",
        {
            "id": _TRAJECTORY_KEY.format("j.id"),
            "problem_id": _PROBLEM_KEY.format("j.problem_id"),
            "candidate_id": _CANDIDATE_KEY.format("j.candidate_id"),
            "answer_seconds": _ENGINE_SECONDS.format(column="j.answer_seconds", key="j.id"),
        },
        "JOIN problems p ON p.run_id = :source JOIN trajectories j ON j.problem_id = p.id ORDER BY blocks.block, j.id",
    ),
    _copy(
        "beams",
        "b",
        {
            "problem_id": _PROBLEM_KEY.format("b.problem_id"),
            "candidate_id": _CANDIDATE_KEY.format("b.candidate_id"),
        },
        "JOIN problems p ON p.run_id = :source JOIN beams b ON b.problem_id = p.id",
    ),
)

_SET_SEQUENCES = tuple(
    sa.text(f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), (SELECT max(id) FROM {table}))")
    for table in ("problems", "candidates", "trajectories")
)

_ANALYZE = sa.text("ANALYZE")

_SIZES = sa.text(
    """
    SELECT pg_database_size(current_database()) AS everything,
           pg_total_relation_size('problem_rollups') + pg_total_relation_size('teacher_rollups')
               + pg_total_relation_size('request_rollups') AS rollups
    """
)

_VIEWS = sa.text(
    """
    SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = current_schema()
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'run'
    WHERE c.relkind = 'v' ORDER BY c.relname
    """
)


def run_size(connection: sa.Connection, run_id: int) -> tuple[int, int]:
    """Number of the run's problems that began, and of its candidates."""
    row = connection.execute(_BOUNDS, {"source": run_id}).one()
    return row.problems, row.candidates


def begin_copy(connection: sa.Connection, source_id: int, name: str) -> int:
    """Adds a run called `name` with the configuration and teachers of the source; returns its key."""
    run_id = connection.execute(_RUN, {"source": source_id, "name": name}).scalar_one()
    connection.execute(_TEACHERS, {"source": source_id, "run_id": run_id})
    return int(run_id)


def add_blocks(connection: sa.Connection, source_id: int, run_id: int, *, first: int, last: int) -> None:
    """Adds copies of all problems of the source to the run, with all of their rows: the blocks `first` to `last`."""
    bounds = connection.execute(_BOUNDS, {"source": source_id}).one()._mapping
    given = {**bounds, **connection.execute(_NEXT_KEYS).one()._mapping, "source": source_id, "run_id": run_id}
    # Each block begins a quarter of the run's time after the one before it, so four blocks are in flight at once.
    given |= {"first": first, "last": last, "seconds": bounds["seconds"] / 4}
    for statement in _ROWS:
        used = set(statement.compile().params)
        connection.execute(statement, {name: value for name, value in given.items() if name in used})
    for statement in _SET_SEQUENCES:
        connection.execute(statement)


def analyze_tables(connection: sa.Connection) -> None:
    """Updates the planner's statistics of all tables, as autovacuum does."""
    connection.execute(_ANALYZE)


def table_bytes(connection: sa.Connection) -> tuple[int, int]:
    """Size of the database in bytes, and of the rollups in it."""
    row = connection.execute(_SIZES).one()
    return row.everything, row.rollups


def views_of_runs(connection: sa.Connection) -> list[str]:
    """Names of the views that have a column `run`."""
    return list(connection.execute(_VIEWS).scalars())


def read_view(connection: sa.Connection, view: str, run: str, most: int | None = None) -> int:
    """Reads the rows of the view for this run, or at most `most` of them; returns their number."""
    statement = sa.text(f"SELECT * FROM {view} WHERE run = :run LIMIT CAST(:most AS bigint)")
    return len(connection.execute(statement, {"run": run, "most": most}).all())
