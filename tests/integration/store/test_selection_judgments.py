"""Leases of selection judgments: one holder at a time, owed again, parked."""

from __future__ import annotations

import uuid

import pytest
import sqlalchemy as sa

from cord_worker.store.database import Database
from cord_worker.store.schema.kinds import JUDGE_CANDIDATE
from cord_worker.store.search import decisions
from cord_worker.store.work import judge_candidate, score, sweep, workers
from cord_worker.store.work.judge_candidate import JudgmentResult, LeasedJudgment
from cord_worker.store.work.returning import reclaim, return_all
from cord_worker.store.work.score import ScoreResult
from cord_worker.store.work.values import Due, Outcome
from tests.support.leases import (
    CONFIG,
    MODELS,
    claim,
    claim_scores,
    finish,
    passed_on,
    proposed,
    states,
    to_advance,
)
from tests.support.rows import registered


@pytest.fixture
def judged_problem(database: Database, problem: int) -> int:
    """A problem of a run whose candidates are judged; the first of two is scored, the second invalid."""
    holder = registered(database)
    database.run(lambda c: c.execute(sa.text("UPDATE runs SET selection_model_id = prover_model_id")))
    finish(database, holder, proposed(claim(database, holder, problem, 0)))
    finish(database, holder, proposed(claim(database, holder, problem, 1), "", "empty"))
    (lease,) = claim_scores(database, holder, problem)
    result = ScoreResult(lease.candidate_id, lease.attempt, None, 0.5, -0.7, 1, 4, 20, 0, 0.1)
    outcome = database.run(lambda c: score.finish(c, [result], worker_id=holder, scoring_mode="instant"))
    assert (passed_on(outcome), to_advance(outcome)) == (
        frozenset({Due(JUDGE_CANDIDATE.name, problem, 1, MODELS[0])}),
        frozenset(),
    )
    assert states(database) == ["unjudged", "invalid"]
    return problem


def lease_judgments(
    database: Database, worker_id: uuid.UUID, problem_id: int, *, model: str = MODELS[0], exclusive: bool = False
) -> list[LeasedJudgment]:
    claimed = database.run(
        lambda connection: judge_candidate.claim(
            connection, [problem_id], worker_id=worker_id, model=model, exclusive=exclusive
        ),
        single=True,
    )
    return list(claimed.leases)


def judged(database: Database, worker_id: uuid.UUID, lease: LeasedJudgment, judgment: float = 0.7) -> Outcome:
    result = JudgmentResult(lease.candidate_id, lease.attempt, None, judgment, '{"right": 7}', 20, 5, 0, 0.1)
    return database.run(lambda connection: judge_candidate.finish(connection, [result], worker_id=worker_id))


def test_a_judgment_is_leased_once_written_once_and_then_the_barrier_opens(
    database: Database, judged_problem: int
) -> None:
    first, second = registered(database), registered(database)
    (lease,) = lease_judgments(database, first, judged_problem)
    assert (lease.key, lease.reference, lease.method, lease.steps) == ("p", "2", "math", (" 1 + 1 = 2.",))
    assert lease_judgments(database, second, judged_problem) == []
    assert judged(database, second, lease).dropped == 1
    assert to_advance(judged(database, first, lease)) == {judged_problem}
    assert judged(database, first, lease, 0.1).dropped == 1
    assert states(database) == ["scored", "invalid"]
    (candidate, _) = database.run(lambda c: decisions.read_candidates(c, judged_problem, 1, 0))
    assert (candidate.score, candidate.judgment) == (0.5, 0.7)


def test_a_worker_of_another_model_gets_no_judgment(database: Database, judged_problem: int) -> None:
    assert lease_judgments(database, registered(database), judged_problem, model=MODELS[1]) == []


def test_a_judgment_of_a_worker_that_is_gone_is_owed_again(database: Database, judged_problem: int) -> None:
    model = CONFIG.models["m"].fingerprint()
    lost, fresh = registered(database), registered(database)
    assert database.run(sweep.waiting_messages) == {model: 1}
    (old,) = lease_judgments(database, lost, judged_problem)
    assert database.run(sweep.waiting_messages) == {}
    database.run(lambda c: workers.mark_stopped(c, lost, "lost"))
    assert database.run(reclaim) == 1
    owed = database.run(lambda c: sweep.due_model_work(c, [model], 20.0))
    assert [(due.kind, due.problem_id, due.model) for due in owed] == [(JUDGE_CANDIDATE.name, judged_problem, model)]
    (new,) = lease_judgments(database, fresh, judged_problem)
    assert new.attempt == 2
    assert judged(database, lost, old).dropped == 1
    assert judged(database, fresh, new).dropped == 0


def test_judging_that_keeps_losing_its_worker_parks_its_problem(database: Database, judged_problem: int) -> None:
    for attempt in range(3):
        victim = registered(database)
        assert lease_judgments(database, victim, judged_problem, exclusive=attempt < 2) == []
        assert lease_judgments(database, victim, judged_problem, exclusive=attempt == 2)
        database.run(lambda c, w=victim: return_all(c, [w], forgiven=False))
    (parked,) = database.run(sweep.exhausted)
    assert "judging a candidate of step 1 was given up after 3 attempts" in parked.reason
