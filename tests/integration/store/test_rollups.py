"""The rollup of an ended problem is written once no row of the problem can change. Later changes update it."""

from __future__ import annotations

import json
import uuid

import pytest
import sqlalchemy as sa

from cord_worker.config import RunConfig
from cord_worker.dataset import ProblemRecord
from cord_worker.store.audit.invariants import check
from cord_worker.store.audit.rollup_invariants import ROLLUP_INVARIANTS
from cord_worker.store.database import Database
from cord_worker.store.reports.backlog import read_backlog
from cord_worker.store.reports.status import read_totals
from cord_worker.store.runs import lifecycle, removal
from cord_worker.store.runs.recheck import NewResult, write_new_results
from cord_worker.store.runs.retry import restart_failed, retry_failed
from cord_worker.store.schema.migration import downgrade, upgrade
from cord_worker.store.schema.rollups import fill_rollups
from cord_worker.store.schema.tables import WorkerRole
from cord_worker.store.search import decisions
from cord_worker.store.search.failed_decisions import step_back
from cord_worker.store.work import check_answer as checks
from tests.support.answered import enqueue_answered
from tests.support.rows import registered
from tests.support.tables import count

CONFIG = RunConfig.model_validate(
    {
        "models": {"m": {"path": "m", "engine": "instant"}},
        "teachers": [{"name": "first", "model": "m"}],
        "prover": {"model": "m"},
        "verify": {"method": "math"},
    }
)
RIGHT = '{"method": "math"}'


@pytest.fixture
def problems(database: Database) -> list[int]:
    """Three problems of one run whose final answers are written and wait for their checks."""
    records = [ProblemRecord(f"p{n}", f"{n} + {n}?", str(2 * n), None, {}, f"d:{n}") for n in range(3)]
    return database.run(lambda connection: enqueue_answered(connection, CONFIG, records, "It is 4."))


def execute(database: Database, statement: str) -> None:
    database.run(lambda connection: connection.execute(sa.text(statement)))


def end(database: Database, *ids: int) -> None:
    """Checks the answers of these problems."""
    holder = registered(database, WorkerRole.COORDINATOR)
    for problem in ids:
        (lease,) = database.run(lambda c, p=problem: checks.claim(c, [p], worker_id=holder), single=True).leases
        result = checks.FinishedCheck(lease.trajectory_id, lease.attempt, True, RIGHT, False)
        assert database.run(lambda c, r=result: checks.finish(c, [r], worker_id=holder)) == [problem]


def fail(database: Database, problem: int) -> None:
    database.run(lambda connection: decisions.fail_problem(connection, problem, "tired"))


def fill(database: Database) -> None:
    database.run(lambda connection: fill_rollups(connection, after=0, most=10))


def with_rollup(database: Database) -> list[int]:
    return database.run(
        lambda c: list(c.execute(sa.text("SELECT problem_id FROM problem_rollups ORDER BY 1")).scalars())
    )


def assert_right(database: Database) -> None:
    (invariant,) = ROLLUP_INVARIANTS
    assert database.run(lambda connection: check(connection, invariant, None)).examples == ()


def test_a_problem_that_is_done_has_its_rollup_at_once(database: Database, problems: list[int]) -> None:
    end(database, *problems[:2])
    assert with_rollup(database) == problems[:2]
    assert count(database, "planned = 1 AND scored = 1 AND tenth = 6", "teacher_rollups") == 2
    assert_right(database)
    totals = database.run(lambda connection: read_totals(connection, 1))
    assert (totals.done, totals.correct, totals.candidates["scored"]) == (2, 2, 3)  # one is in flight


def lost(database: Database, problem: int, step: int, rank: int, score: float, *, kept: bool = False) -> None:
    """A candidate of the problem that is not on the winning path; its rank is its sample number."""
    execute(
        database,
        f"""
        INSERT INTO candidates (problem_id, parent_rank, step, depth, round, teacher_id, sample, lineage, seed,
                                max_tokens, whole, state, text, score, log_prob_sum, answer_tokens, rank, kept)
        SELECT problem_id, 0, {step}, {step}, 0, teacher_id, {rank}, lineage || '-{step}-{rank}', 0, 8, false, 'scored',
               'another', {score}, ln({score}::float8), 1, {rank}, {kept}
        FROM candidates WHERE problem_id = {problem} AND winning AND step = 1
        """,
    )


def test_the_lead_is_that_of_the_nearest_loser_and_equal_ones_go_by_step_then_by_rank(
    database: Database, problems: list[int]
) -> None:
    """The winner has 0.5 and 0.75 in its two steps."""
    problem = problems[0]
    winning = f"UPDATE candidates SET rank = 0, kept = true, winning = true WHERE problem_id = {problem} AND sample = 0"
    execute(database, winning)
    lost(database, problem, 2, 0, 0.75, kept=True)
    execute(database, winning)

    def lead() -> tuple[float, str] | None:
        found = database.run(
            lambda connection: connection.execute(
                sa.text(
                    "SELECT k.lead, c.step || '-' || c.rank FROM computed_problem_rollups k "
                    "LEFT JOIN candidates c ON c.id = k.nearest_loser_id WHERE k.problem_id = :problem"
                ),
                {"problem": problem},
            ).one()
        )
        return None if found[0] is None else tuple(found)

    assert lead() is None
    lost(database, problem, 2, 1, 0.625, kept=True)  # in the beam: no loser
    assert lead() is None
    lost(database, problem, 2, 2, 0.5)
    lost(database, problem, 2, 3, 0.5)
    assert lead() == (0.25, "2-2")
    lost(database, problem, 1, 1, 0.25)
    assert lead() == (0.25, "1-1")
    lost(database, problem, 2, 4, 0.75)
    assert lead() == (0.0, "2-4")
    lost(database, problem, 1, 2, 0.625)
    assert lead() == (-0.125, "1-2")
    execute(database, f"UPDATE candidates SET rank = NULL WHERE problem_id = {problem} AND NOT winning")
    assert lead() is None


def test_the_nearest_loser_is_a_tie_if_both_scores_round_to_one_multiple(
    database: Database, problems: list[int]
) -> None:
    """The winner has 0.5 in its first step, the loser 0.53125."""
    problem = problems[0]
    execute(
        database,
        f"UPDATE candidates SET rank = 0, kept = true, winning = true WHERE problem_id = {problem} AND sample = 0",
    )
    lost(database, problem, 1, 1, 0.53125)
    execute(database, f"DELETE FROM problem_rollups WHERE problem_id = {problem}")

    def found(**search: object) -> tuple[float, bool, bool]:
        execute(database, f"UPDATE runs SET config = jsonb_build_object('search', '{json.dumps(search)}'::jsonb)")
        row = database.run(
            lambda connection: connection.execute(sa.text("SELECT lead, same_text, tie FROM narrow_losers")).one()
        )
        return row.lead, row.same_text, row.tie

    assert found() == (-0.03125, False, False)
    assert found(score_resolution=0.0) == (-0.03125, False, False)
    assert found(score_resolution=0.1) == (-0.03125, False, True)
    assert found(score_resolution=0.02) == (-0.03125, False, False)
    assert found(score_resolution=0.1, selection="random") == (-0.03125, False, False)
    execute(
        database,
        "UPDATE candidates c SET text = winning_step.text FROM candidates winning_step "
        f"WHERE c.problem_id = {problem} AND c.text = 'another' AND winning_step.problem_id = c.problem_id "
        "AND winning_step.winning AND winning_step.step = c.step",
    )
    assert found(score_resolution=0.1) == (-0.03125, True, True)


def test_a_failed_problem_has_a_rollup_only_once_nothing_of_it_can_change(
    database: Database, problems: list[int]
) -> None:
    """The first has neither a lease nor an answer, the others wait; a worker has a lease of the second one."""
    execute(database, f"DELETE FROM trajectories WHERE problem_id = {problems[0]}")
    execute(database, f"UPDATE trajectories SET answer_state = 'checking' WHERE problem_id = {problems[1]}")
    for problem in problems:
        fail(database, problem)
    assert with_rollup(database) == problems[:1]
    fill(database)
    assert with_rollup(database) == problems[:1]  # a claim that began before the end may still be committed
    execute(database, "UPDATE problems SET finished_at = finished_at - interval '2 minutes'")
    fill(database)
    assert with_rollup(database) == [problems[0], problems[2]]
    execute(database, "UPDATE trajectories SET answer_state = 'written'")
    fill(database)
    assert with_rollup(database) == problems
    assert_right(database)


def test_a_problem_that_continues_has_no_rollup(database: Database, problems: list[int]) -> None:
    execute(database, "DELETE FROM trajectories")
    for problem in problems:
        fail(database, problem)
    assert with_rollup(database) == problems
    database.run(lambda connection: retry_failed(connection, "run", ["p0"]))
    database.run(lambda connection: restart_failed(connection, "run", ["p1"]))
    assert with_rollup(database) == problems[2:]
    coordinator = uuid.uuid4()
    execute(database, f"UPDATE problems SET decision_failed_by = ARRAY[CAST('{coordinator}' AS uuid)]")
    database.run(lambda connection: step_back(connection, coordinator, 1.0, problems[2:]))
    assert with_rollup(database) == []
    assert count(database, "true", "teacher_rollups") + count(database, "true", "request_rollups") == 0
    assert_right(database)


def test_a_recheck_writes_the_rollup_again(database: Database, problems: list[int]) -> None:
    end(database, *problems)
    trajectory = database.run(lambda c: c.execute(sa.text("SELECT min(id) FROM trajectories")).scalar_one())
    wrong = NewResult(trajectory, False, '{"method": "unequal"}', RIGHT)
    assert database.run(lambda connection: write_new_results(connection, [wrong])) == {trajectory}
    assert with_rollup(database) == problems
    assert count(database, "correct = 0", "problem_rollups") == 1
    assert_right(database)


def test_a_cancelled_problem_gets_its_rollup_later_and_a_removed_one_loses_it(
    database: Database, problems: list[int]
) -> None:
    end(database, problems[0])
    database.run(lambda connection: lifecycle.cancel_run(connection, "run"))
    assert with_rollup(database) == problems[:1]
    execute(database, "UPDATE problems SET finished_at = finished_at - interval '2 minutes'")
    fill(database)
    assert with_rollup(database) == problems
    assert_right(database)
    removal.remove_run(database, "run")
    assert with_rollup(database) == []
    assert count(database, "true", "teacher_rollups") == 0


def test_an_older_database_is_filled_by_its_upgrade(database: Database, database_url: str, problems: list[int]) -> None:
    end(database, *problems)
    execute(database, "UPDATE workers SET stopped_at = now(), stop_reason = 'shutdown'")
    downgrade(database_url, "0021")
    try:
        execute(database, "SELECT count(*) FROM teacher_selection s, run_costs c, prefix_cache p")
    finally:
        upgrade(database_url)
    assert with_rollup(database) == problems
    assert_right(database)


def test_the_view_of_the_backlog_says_what_status_says(database: Database, problems: list[int]) -> None:
    """Every state of unfinished work, of every kind."""
    execute(
        database,
        """
        INSERT INTO candidates (problem_id, parent_rank, step, depth, round, teacher_id, sample, lineage, seed,
                                max_tokens, whole, state, text, score)
        SELECT p.id, 0, 1, 1, 0, t.id, row_number() OVER (), 'x' || s.state, 0, 8, false, s.state, 'x', 0.5
        FROM problems p JOIN teachers t ON t.run_id = p.run_id, unnest(ARRAY['pending', 'proposing', 'proposed',
             'scoring', 'unjudged', 'judging']) AS s(state)
        """,
    )
    execute(
        database,
        """
        INSERT INTO trajectories (problem_id, candidate_id, steps, finish, answer_state)
        SELECT c.problem_id, c.id, 1, 'eos', a.state
        FROM (SELECT *, row_number() OVER (PARTITION BY problem_id ORDER BY id) AS place FROM candidates
              WHERE state <> 'scored') c
        JOIN unnest(ARRAY['pending', 'writing', 'checking', 'unjudged', 'judging', 'written'])
             WITH ORDINALITY AS a(state, place) ON a.place = c.place
        """,
    )
    execute(database, "UPDATE runs SET selection_model_id = 1, judge_model_id = 1")
    assert problems
    seen = set()
    for state in ("queued", "searching", "answering", "verifying", "done"):
        for method in ("math", "judge", "none"):
            execute(database, f"UPDATE problems SET state = '{state}'")
            execute(database, f"UPDATE runs SET verify_method = '{method}'")
            owed = database.run(lambda connection: read_backlog(connection, 1))
            rows = database.run(
                lambda c: c.execute(sa.text("SELECT kind, model, waiting, leased FROM backlog WHERE run = 'run'")).all()
            )
            assert sorted(map(tuple, rows), key=str) == sorted(
                ((one.kind, one.path, one.waiting, one.in_work) for one in owed), key=str
            )
            seen |= {one.kind for one in owed}
    assert seen == {"proposal", "score", "judgment", "answer", "check", "verdict", "admission", "decision"}
