"""What the tables hold of one run: all that equal runs share, what is not finished, and what happened twice."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from cord_worker.operations.replaying import replay_run, verify_tables
from cord_worker.store.database import Database

CONTENT = {
    "problems": """
        SELECT p.key, p.position, p.state, p.step, p.round, p.outstanding, p.unproposed, p.failure_reason
        FROM problems p WHERE p.run_id = :run ORDER BY p.position
    """,
    "candidates": """
        SELECT p.key, c.lineage, parent.lineage AS parent, c.parent_rank, c.step, c.round, c.depth, c.whole, t.name,
               c.sample, c.seed, c.max_tokens, c.state, c.text, c.finish_reason, c.invalid_reason, c.prompt_tokens,
               c.completion_tokens, c.judgment, c.judgment_detail,
               c.score, c.log_prob_sum, c.answer_tokens, c.thinking_tokens, c.scoring_mode,
               c.rank, c.kept, c.winning, c.reply, c.answer_part,
               (SELECT o.lineage FROM candidates o WHERE o.id = c.duplicate_of) AS duplicate_of,
               (SELECT array_agg(s.lineage ORDER BY o.place) FROM unnest(c.sources) WITH ORDINALITY AS o(id, place)
                JOIN candidates s ON s.id = o.id) AS sources
        FROM candidates c
        JOIN problems p ON p.id = c.problem_id
        JOIN teachers t ON t.id = c.teacher_id
        LEFT JOIN candidates parent ON parent.id = c.parent_id
        WHERE p.run_id = :run
        ORDER BY p.position, c.step, c.round, c.parent_rank, t.ordinal, c.sample, c.lineage
    """,
    "beams": """
        SELECT p.key, b.step, b.rank, c.lineage, b.finish
        FROM beams b JOIN problems p ON p.id = b.problem_id JOIN candidates c ON c.id = b.candidate_id
        WHERE p.run_id = :run
        ORDER BY p.position, b.step, b.rank
    """,
    "trajectories": """
        SELECT p.key, c.lineage, j.steps, j.score, j.finish, j.winner, j.dropped_at_step, j.answer_state,
               j.answer_seed, j.answer_text, j.answer_finish_reason, j.correct, j.verification,
               j.verdict_prompt_tokens, j.verdict_completion_tokens
        FROM trajectories j JOIN problems p ON p.id = j.problem_id JOIN candidates c ON c.id = j.candidate_id
        WHERE p.run_id = :run
        ORDER BY p.position, c.step, c.lineage
    """,
}
"""What two runs of one configuration must agree on, row for row: all but keys, timings, attempts and workers."""

Content = dict[str, list[tuple[Any, ...]]]


def run_id(database: Database, name: str) -> int:
    """Key of the run called `name`."""
    statement = sa.text("SELECT id FROM runs WHERE name = :name")
    return int(database.run(lambda connection: connection.execute(statement, {"name": name}).scalar_one()))


def content(database: Database, run: str) -> Content:
    """The run's content that equal runs share."""
    key = {"run": run_id(database, run)}

    def read(connection: sa.Connection) -> Content:
        return {
            name: [tuple(row) for row in connection.execute(sa.text(query), key)] for name, query in CONTENT.items()
        }

    return database.run(read)


def differences(undisturbed: Content, disturbed: Content) -> list[str]:
    """Rows that are not the same in both, as lines to read."""
    found = []
    for table, rows in undisturbed.items():
        others = disturbed[table]
        found += [f"{table}: {ours} instead of {row}" for row, ours in zip(rows, others, strict=False) if ours != row]
        if len(rows) != len(others):
            found.append(f"{table}: {len(others)} rows instead of {len(rows)}")
    return found


def findings(database: Database, run: str) -> list[str]:
    """What `cordctl replay` and `verify-db` say of the run."""
    (*_, replayed) = replay_run(database, run)
    verified = verify_tables(database, run, examples=3)
    broken = [str(violation) for report in verified.broken for violation in report.examples]
    return [str(difference) for difference in replayed.differences] + broken


def unfinished(database: Database, run: str) -> int:
    """Problems of the run that are neither done nor failed."""
    statement = sa.text("SELECT count(*) FROM problems WHERE run_id = :run AND state NOT IN ('done', 'failed')")
    key = {"run": run_id(database, run)}
    return int(database.run(lambda connection: connection.execute(statement, key).scalar_one()))


def count(database: Database, where: str, table: str = "candidates") -> int:
    """Rows of `table` that match."""
    statement = sa.text(f"SELECT count(*) FROM {table} WHERE {where}")
    return int(database.run(lambda connection: connection.execute(statement).scalar_one()))
