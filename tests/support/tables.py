"""The contents of tables: what equal runs share, differences of two runs, unfinished problems, numbers of rows.

The one definition of "equal tables", for every test that compares a disturbed run with an undisturbed one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from cord_worker.operations.replaying import replay_run
from cord_worker.operations.table_verification import verify_tables
from cord_worker.store.database import Database
from cord_worker.store.schema.tables import Base

_OF_RUN = """
    WITH of_run AS (
        SELECT p.* FROM problems p JOIN runs r ON r.id = p.run_id WHERE CAST(:run AS text) IS NULL OR r.name = :run
    )
"""

_CONTENT = {
    "problems": """
        SELECT p.key, p.position, p.state, p.step, p.round, p.outstanding, p.unproposed, p.failure_reason,
               p.base_score, p.base_log_prob_sum, p.base_mean_probability, p.base_answer_tokens
        FROM of_run p ORDER BY p.position
    """,
    "candidates": """
        SELECT p.key, c.lineage, parent.lineage AS parent, c.parent_rank, c.step, c.round, c.depth, c.whole, t.name,
               c.sample, c.seed, c.max_tokens, c.state, c.text, c.finish_reason, c.invalid_reason, c.prompt_tokens,
               c.completion_tokens, c.judgment, c.judgment_detail,
               c.score, c.log_prob_sum, c.mean_probability, c.answer_tokens, c.thinking_tokens, c.scoring_mode,
               c.rank, c.kept, c.winning, c.reply, c.answer_part,
               (SELECT o.lineage FROM candidates o WHERE o.id = c.duplicate_of) AS duplicate_of,
               (SELECT array_agg(s.lineage ORDER BY o.place) FROM unnest(c.sources) WITH ORDINALITY AS o(id, place)
                JOIN candidates s ON s.id = o.id) AS sources
        FROM candidates c
        JOIN of_run p ON p.id = c.problem_id
        JOIN teachers t ON t.id = c.teacher_id
        LEFT JOIN candidates parent ON parent.id = c.parent_id
        ORDER BY p.position, c.step, c.round, c.parent_rank, t.ordinal, c.sample, c.lineage
    """,
    "beams": """
        SELECT p.key, b.step, b.rank, c.lineage, b.finish
        FROM beams b JOIN of_run p ON p.id = b.problem_id JOIN candidates c ON c.id = b.candidate_id
        ORDER BY p.position, b.step, b.rank
    """,
    "trajectories": """
        SELECT p.key, c.lineage, j.steps, j.score, j.finish, j.winner, j.dropped_at_step, j.answer_state,
               j.answer_seed, j.answer_text, j.answer_finish_reason, j.correct, j.verification,
               j.verdict_prompt_tokens, j.verdict_completion_tokens
        FROM trajectories j JOIN of_run p ON p.id = j.problem_id JOIN candidates c ON c.id = j.candidate_id
        ORDER BY p.position, c.step, c.lineage
    """,
    "rescores": """
        SELECT p.key, q.name, c.lineage, x.state, x.invalid_reason, x.score, x.log_prob_sum, x.answer_tokens,
               x.thinking_tokens, x.scoring_mode
        FROM rescores x JOIN of_run p ON p.id = x.problem_id JOIN candidates c ON c.id = x.candidate_id
        JOIN rescorings q ON q.id = x.rescoring_id
        ORDER BY p.position, q.name, c.step, c.lineage
    """,
}
"""What two runs of one configuration must agree on, row for row: all but keys, timings, attempts and workers."""

Content = dict[str, list[tuple[Any, ...]]]


def run_id(database: Database, name: str) -> int:
    """Key of the run called `name`."""
    statement = sa.text("SELECT id FROM runs WHERE name = :name")
    return int(database.run(lambda connection: connection.execute(statement, {"name": name}).scalar_one()))


def stream_content(connection: sa.Connection, run: str | None = None) -> Iterator[tuple[str, sa.Row[Any]]]:
    """Yields (table, row) of all that equal runs share, of all runs or of one, in an order that equal runs share.

    The rows' first field is the problem's key. Needs memory for a thousand rows.
    """
    for table, query in _CONTENT.items():
        found = connection.execution_options(yield_per=1000).execute(sa.text(_OF_RUN + query), {"run": run})
        for row in found:
            yield table, row


def content(database: Database, run: str | None = None) -> Content:
    """All rows that equal runs share, of all runs or of one."""
    found: Content = {table: [] for table in _CONTENT}
    with database.transaction() as connection:
        for table, row in stream_content(connection, run):
            found[table].append(tuple(row))
    return found


def differences(undisturbed: Content, disturbed: Content) -> list[str]:
    """Rows that differ, as readable lines."""
    found = []
    for table, rows in undisturbed.items():
        others = disturbed[table]
        found += [f"{table}: {ours} instead of {row}" for row, ours in zip(rows, others, strict=False) if ours != row]
        if len(rows) != len(others):
            found.append(f"{table}: {len(others)} rows instead of {len(rows)}")
    return found


def findings(database: Database, run: str) -> list[str]:
    """The findings of `cordctl replay` and `verify-db` in the run."""
    (*_, replayed) = replay_run(database, run)
    verified = verify_tables(database, run, examples=3)
    broken = [str(violation) for report in verified.broken for violation in report.examples]
    return [str(difference) for difference in replayed.differences] + broken


def unfinished(database: Database, run: str) -> int:
    """Problems of the run that are neither done nor failed."""
    statement = sa.text("SELECT count(*) FROM problems WHERE run_id = :run AND state NOT IN ('done', 'failed')")
    key = {"run": run_id(database, run)}
    return int(database.run(lambda connection: connection.execute(statement, key).scalar_one()))


def count(database: Database, where: str, table: str = "problems") -> int:
    """Rows of `table` that match."""
    statement = sa.text(f"SELECT count(*) FROM {table} WHERE {where}")
    return int(database.run(lambda connection: connection.execute(statement).scalar_one()))


def empty_tables(database: Database) -> None:
    """Deletes every row."""
    names = ", ".join(table.name for table in Base.metadata.sorted_tables)
    database.run(lambda connection: connection.execute(sa.text(f"TRUNCATE {names} RESTART IDENTITY CASCADE")))
