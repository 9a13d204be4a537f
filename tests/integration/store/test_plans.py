"""The frequent statements of workers, coordinators and the sweeper use indexes in the tables of a large run.

The plans are those of the service's own sessions: made once, without looking at the parameters.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
import sqlalchemy as sa

from cord_worker.store.database import Database
from cord_worker.store.reports.multiplied_runs import views_of_runs
from cord_worker.store.schema.rollups import fill_rollups
from tests.support.statements import all_statements, as_postgres_reads

GROWING = (
    *("problems", "candidates", "trajectories", "beams", "rescores"),
    *("problem_rollups", "teacher_rollups", "request_rollups"),
)
"""Tables that grow with a run; none of them is read as a whole."""

HOT = {
    name: clause
    for name, clause in all_statements().items()
    if name.startswith(("store.work.", "store.search.", "store.runs.admission:", "store.reports.run_metrics:"))
}

FILL = (
    "INSERT INTO models (fingerprint, path, identity) SELECT 'model-' || n, 'm', '{}' FROM generate_series(1, 3) n",
    """
    INSERT INTO runs (name, config, config_fingerprint, prover_model_id, seed, code_version, pipeline, max_active,
                      max_attempts, verify_method, judges_undecided)
    SELECT 'run-' || n, '{}', 'x', 1, 0, '1', 'cord', 64, 5, 'math', false
    FROM generate_series(1, 4) n
    """,
    """
    INSERT INTO teachers (run_id, ordinal, name, model_id, sampling)
    SELECT r.id, n, 'teacher-' || n, 1 + n, '{}' FROM runs r, generate_series(0, 1) n
    """,
    """
    INSERT INTO problems (run_id, position, key, content_hash, question, answer, attributes, state, step, outstanding)
    SELECT 1 + n % 4, n / 4, 'p' || n, 'h' || n, 'Why?', 'So.', '{}',
           CASE WHEN n < 950 THEN 'done' WHEN n < 1000 THEN 'searching' WHEN n < 1250 THEN 'queued' ELSE 'failed' END,
           CASE WHEN n < 1250 THEN 10 ELSE 0 END, n % 2
    FROM generate_series(0, 1649) n
    """,
    """
    INSERT INTO candidates (problem_id, parent_rank, step, depth, round, teacher_id, sample, lineage, seed, max_tokens,
                            whole, state, text, score, touched_at)
    SELECT p.id, 0, n, n, 0, t.id, sample, n || '-' || t.id || '-' || sample, 0, 8, false,
           CASE WHEN p.state = 'searching' AND n = 10 THEN 'pending' ELSE 'scored' END, 'a step', 0.5, 'epoch'
    FROM problems p JOIN teachers t ON t.run_id = p.run_id, generate_series(1, 10) n, generate_series(0, 2) sample
    WHERE p.state IN ('done', 'searching')
    """,
    """
    INSERT INTO beams (problem_id, step, rank, candidate_id)
    SELECT c.problem_id, c.step, c.sample, c.id FROM candidates c JOIN teachers t ON t.id = c.teacher_id
    WHERE c.sample < 2 AND t.ordinal = 0
    """,
    """
    INSERT INTO trajectories (problem_id, candidate_id, steps, score, finish, winner, answer_state, answer_text,
                              verification)
    SELECT c.problem_id, c.id, 10, 0.5, 'think_end', c.sample = 0 AND t.ordinal = 0, 'written', 'So.',
           '{"method": "exact"}'
    FROM candidates c JOIN problems p ON p.id = c.problem_id JOIN teachers t ON t.id = c.teacher_id
    WHERE p.state = 'done' AND c.step = 10
    """,
    """
    INSERT INTO rescorings (run_id, name, model_id, prover, code_version)
    SELECT r.id, 'other-' || n, 2 + n, '{}', '1' FROM runs r, generate_series(0, 1) n
    """,
    """
    INSERT INTO rescores (rescoring_id, candidate_id, problem_id, state)
    SELECT q.id, c.id, p.id,
           CASE WHEN p.position < 200 THEN 'scored' WHEN p.position < 210 THEN 'pending' ELSE 'queued' END
    FROM rescorings q JOIN problems p ON p.run_id = q.run_id AND p.state = 'done'
    JOIN candidates c ON c.problem_id = p.id
    """,
    "ANALYZE",
)
"""60,000 candidates of 1,000 problems, 50 of them in a search, 250 waiting problems and 400 that failed at once; most
candidates in two rescorings."""


@pytest.fixture(scope="module")
def large(migrated_database: Callable[[], AbstractContextManager[str]]) -> Iterator[Database]:
    """Sessions as workers have them, on a database with large tables."""
    with migrated_database() as url:
        filling = Database(url)
        with filling.transaction() as connection:
            for statement in FILL:
                connection.execute(sa.text(statement))
            assert fill_rollups(connection, after=0, most=2000)
            connection.execute(sa.text("ANALYZE"))
        filling.close()
        database = Database(url, by_keys=True)
        yield database
        database.close()


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", ()):
        yield from nodes(part)


def reads_as_a_whole(database: Database, clause: sa.TextClause) -> list[str]:
    """Growing tables, and indexes of all their rows, that the statement reads as a whole."""

    def explain(connection: sa.Connection) -> list[str]:
        driver = connection.connection.driver_connection
        assert driver is not None
        query = as_postgres_reads(clause)
        driver.execute(f"PREPARE asked AS {query}")
        (types,) = driver.execute(
            "SELECT parameter_types::text[] FROM pg_prepared_statements WHERE name = 'asked'"
        ).fetchone()
        given = f"({', '.join(['NULL'] * len(types))})" if types else ""
        ((document,),) = driver.execute(f"EXPLAIN (FORMAT JSON) EXECUTE asked{given}").fetchall()
        driver.execute("DEALLOCATE asked")
        partial = {
            row[0]
            for row in driver.execute("SELECT indexrelid::regclass::text FROM pg_index WHERE indpred IS NOT NULL")
        }
        plan = document if isinstance(document, list) else json.loads(document)
        found = []
        every = list(nodes(plan[0]["Plan"]))
        # The first row of an index, for min() or max(): PostgreSQL 15 and older have a condition there.
        firsts = [one["Plans"][0] for one in every if one["Node Type"] == "Limit" and "Filter" not in one["Plans"][0]]
        for node in every:
            name = node["Node Type"]
            index = node.get("Index Name")
            if name.endswith("Seq Scan") and node["Relation Name"] in GROWING:
                found.append(f"{name} on {node['Relation Name']}")
            elif index is not None and "Index Cond" not in node and index not in partial and node not in firsts:
                of_growing = any(f"_{table}_" in f"_{index}_" for table in GROWING)
                found += [f"{name} of all of {index}"] if of_growing else []
        return found

    return database.run(explain)


def test_the_tables_are_large(large: Database) -> None:
    rows = large.run(lambda connection: connection.execute(sa.text("SELECT count(*) FROM candidates")).scalar_one())
    assert rows == 60_000
    assert len(HOT) > 60


def test_no_hot_statement_reads_a_growing_table_as_a_whole(large: Database) -> None:
    found = {name: parts for name, clause in HOT.items() if (parts := reads_as_a_whole(large, clause))}
    assert found == {}


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT count(*) FROM candidates WHERE text = :text",
        "UPDATE problems SET touched_at = now() WHERE touched_at < :then",
        "SELECT id FROM trajectories WHERE score > :score ORDER BY id",
    ],
)
def test_a_statement_without_an_index_is_noticed(large: Database, statement: str) -> None:
    assert reads_as_a_whole(large, sa.text(statement)) != []


def test_a_view_reads_only_the_runs_that_are_named(large: Database) -> None:
    """Run 4 has a quarter of all problems."""

    def read_rows(connection: sa.Connection, view: str, where: str) -> float:
        """Rows of growing tables that the query takes from tables or indexes."""
        explain = sa.text(f"EXPLAIN (ANALYZE, FORMAT JSON) SELECT * FROM {view} {where}")
        plan = connection.execute(explain).scalar_one()[0]["Plan"]
        return sum(
            float((node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"])
            for node in nodes(plan)
            if node.get("Relation Name") in GROWING
        )

    with large.transaction() as connection:
        for view in views_of_runs(connection):
            everything = read_rows(connection, view, "")
            assert everything > 200, view
            assert read_rows(connection, view, "WHERE run = 'run-4'") < 0.3 * everything, view
            assert read_rows(connection, view, "WHERE run = 'nothing'") == 0, view


def test_statistics_read_rollups_instead_of_candidates(large: Database) -> None:
    """Of run 4, the candidates of the few problems in flight are read, and no others."""
    in_flight = "SELECT count(*) FROM candidates c JOIN problems p ON p.id = c.problem_id WHERE p.run_id = 4 AND "
    with large.transaction() as connection:
        live = connection.execute(sa.text(f"{in_flight} p.state = 'searching'")).scalar_one()
        for view in ("run_summary", "problem_summary", "teacher_selection", "teacher_summary", "model_usage"):
            explain = sa.text(f"EXPLAIN (ANALYZE, FORMAT JSON) SELECT * FROM {view} WHERE run = 'run-4'")
            plan = connection.execute(explain).scalar_one()[0]["Plan"]
            read = sum(
                node["Actual Rows"] * node["Actual Loops"]
                for node in nodes(plan)
                if node.get("Relation Name") == "candidates"
            )
            assert read <= 12 * live, view
