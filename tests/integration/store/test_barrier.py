"""The barrier of a step: when its candidates go to the next model, and when its decision is due."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from cord_worker.store.database import Database
from cord_worker.store.schema.kinds import SCORE
from cord_worker.store.schema.migration import downgrade, upgrade
from cord_worker.store.work import propose, score, sweep
from cord_worker.store.work.score import ScoreResult
from cord_worker.store.work.values import Due, Outcome
from tests.support.leases import (
    MODELS,
    PASSED_ON,
    claim,
    claim_scores,
    finish,
    passed_on,
    proposed,
    states,
    to_advance,
)
from tests.support.rows import registered


@pytest.mark.parametrize(
    ("first", "last"),
    [(None, None), (None, "empty"), ("empty", None)],
)
def test_the_candidates_of_a_step_go_to_the_prover_together_once_the_last_text_is_written(
    database: Database, problem: int, first: str | None, last: str | None
) -> None:
    holder = registered(database)
    early = finish(database, holder, proposed(claim(database, holder, problem, 0), " one", first))
    assert (passed_on(early), to_advance(early)) == (frozenset(), frozenset())
    late = finish(database, holder, proposed(claim(database, holder, problem, 1), " two", last))
    assert (passed_on(late), to_advance(late)) == (PASSED_ON, frozenset())


def test_migration_0005_counts_the_texts_that_running_problems_wait_for(
    database: Database, database_url: str, problem: int
) -> None:
    claim(database, registered(database), problem)
    downgrade(database_url, "0004", while_workers_run=True)
    upgrade(database_url, while_workers_run=True)
    unproposed = sa.text("SELECT unproposed FROM problems")
    assert database.run(lambda c: c.execute(unproposed).scalar_one()) == 2


def test_a_text_that_waits_for_a_slow_later_sibling_is_owed_to_the_prover_after_a_while(
    database: Database, problem: int
) -> None:
    holder = registered(database)
    finish(database, holder, proposed(claim(database, holder, problem, 0)))
    claim(database, holder, problem, 1)
    database.run(lambda c: c.execute(sa.text("UPDATE candidates SET touched_at = now() - interval '2 seconds'")))
    owed = database.run(lambda c: sweep.due_model_work(c, [MODELS[0]], 1.0))
    assert owed == [Due(SCORE.name, problem, 1, MODELS[0])]
    (lease,) = claim_scores(database, holder, problem)
    result = ScoreResult(lease.candidate_id, lease.attempt, None, 0.5, -0.7, 1, 4, 20, 0, 0.1)
    scored = database.run(lambda c: score.finish(c, [result], worker_id=holder, scoring_mode="instant"), single=True)
    assert to_advance(scored) == frozenset()


def test_a_text_that_may_repeat_a_slow_earlier_sibling_waits_for_it(database: Database, problem: int) -> None:
    holder = registered(database)
    finish(database, holder, proposed(claim(database, holder, problem, 1)))
    slow = claim(database, holder, problem, 0)
    database.run(lambda c: c.execute(sa.text("UPDATE candidates SET touched_at = now() - interval '2 seconds'")))
    assert database.run(lambda c: sweep.due_model_work(c, [MODELS[0]], 1.0)) == []
    assert claim_scores(database, holder, problem) == []
    assert passed_on(finish(database, holder, proposed(slow))) == PASSED_ON
    assert len(claim_scores(database, holder, problem)) == 2


def test_the_barrier_opens_only_with_the_last_score(database: Database, problem: int) -> None:
    holder = registered(database)
    for teacher in (0, 1):
        finish(database, holder, proposed(claim(database, holder, problem, teacher), f" text {teacher}"))
    claimed = claim_scores(database, holder, problem)
    assert [lease.steps for lease in claimed] == [(" text 0",), (" text 1",)]

    def scored(index: int) -> Outcome:
        lease = claimed[index]
        result = ScoreResult(lease.candidate_id, lease.attempt, None, 0.5, -0.7, 1, 4, 20, 0, 0.1)
        return database.run(
            lambda connection: score.finish(connection, [result], worker_id=holder, scoring_mode="instant")
        )

    assert to_advance(scored(0)) == frozenset()
    assert scored(0).dropped == 1
    assert to_advance(scored(1)) == {problem}


def test_an_invalid_proposal_is_final_and_lowers_the_barrier(database: Database, problem: int) -> None:
    holder = registered(database)
    first = finish(database, holder, proposed(claim(database, holder, problem, 0), "", "empty"))
    assert (passed_on(first), to_advance(first)) == (frozenset(), frozenset())
    second = finish(database, holder, proposed(claim(database, holder, problem, 1), "", "empty"))
    assert to_advance(second) == {problem}
    assert states(database) == ["invalid", "invalid"]


def test_two_results_that_lower_a_barrier_concurrently_both_count(database: Database, problem: int) -> None:
    holder = registered(database)
    first, second = claim(database, holder, problem, 0), claim(database, holder, problem, 1)
    started = threading.Event()
    with ThreadPoolExecutor(1) as pool, database.transaction() as connection:
        earlier = propose.finish(connection, proposed(first, "", "empty"), worker_id=holder)

        def later(connection: sa.Connection) -> Outcome:
            started.set()
            return propose.finish(connection, proposed(second, "", "empty"), worker_id=holder)

        waiting = pool.submit(database.run, later)
        assert started.wait(30)
        with pytest.raises(TimeoutError):
            waiting.result(0.5)  # the problem's row is held
        connection.commit()
        assert (to_advance(earlier), to_advance(waiting.result(30))) == (frozenset(), frozenset({problem}))


def test_results_of_a_paused_run_ask_for_no_score(database: Database, problem: int) -> None:
    holder = registered(database)
    claimed = claim(database, holder, problem, 0) + claim(database, holder, problem, 1)
    database.run(lambda c: c.execute(sa.text("UPDATE runs SET state = 'paused'")))
    outcome = finish(database, holder, proposed(claimed))
    assert (passed_on(outcome), to_advance(outcome)) == (frozenset(), frozenset())
    assert states(database) == ["proposed", "proposed"]
