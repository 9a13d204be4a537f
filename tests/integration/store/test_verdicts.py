"""The LLM judge's leases: one worker holds a lease; it can be returned; unclaimed work is owed again; work that keeps
failing is parked; the coordinator ends a judged problem."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
import sqlalchemy as sa

from cord_worker.config import RunConfig
from cord_worker.dataset import ProblemRecord
from cord_worker.dataset.records import Json
from cord_worker.store.audit.invariants import INVARIANTS, check
from cord_worker.store.database import Database
from cord_worker.store.runs.retry import retry_failed
from cord_worker.store.schema.kinds import JUDGE_ANSWER, VERIFY
from cord_worker.store.search import decisions
from cord_worker.store.work import check_answer as checks
from cord_worker.store.work import judge_answer as verdicts
from cord_worker.store.work import sweep, workers
from cord_worker.store.work.returning import reclaim, return_all
from tests.support.answered import enqueue_answered
from tests.support.rows import registered

CONFIG = RunConfig.model_validate(
    {
        "models": {"m": {"path": "m", "engine": "instant"}, "judge": {"path": "judge", "engine": "instant"}},
        "teachers": [{"name": "first", "model": "m"}],
        "prover": {"model": "m"},
        "verify": {"method": "judge", "reference_field": "decision", "judge": {"model": "judge"}},
        "run": {"max_attempts": 3},
    }
)
JUDGE = CONFIG.models["judge"].fingerprint()
ANY_AGE = -1.0
"""Seconds: what has been owed for longer is due, so with a negative number all that is owed."""


def answered(database: Database, **metadata: Json) -> int:
    """A problem whose final answer is written."""

    def write(connection: sa.Connection) -> int:
        record = ProblemRecord("p", "Why?", "Because.", "A text.", dict(metadata), "d:1")
        return enqueue_answered(connection, CONFIG, [record], "It is so.")[0]

    return database.run(write)


def claim(
    database: Database, worker_id: uuid.UUID, problem_id: int, *, model: str = JUDGE, exclusive: bool = False
) -> list[verdicts.LeasedVerdict]:
    return list(
        database.run(
            lambda c: verdicts.claim(c, [problem_id], worker_id=worker_id, model=model, exclusive=exclusive),
            single=True,
        ).leases
    )


def finish(database: Database, worker_id: uuid.UUID, lease: verdicts.LeasedVerdict) -> set[int]:
    result = verdicts.VerdictResult(lease.trajectory_id, lease.attempt, True, '{"method": "judge"}', 20, 5, 0.5)
    outcome = database.run(lambda c: verdicts.finish(c, [result], worker_id=worker_id))
    return {due.problem_id for due in outcome.due}


def test_the_judge_gets_question_passage_reference_and_answer(database: Database) -> None:
    problem = answered(database, decision="yes")
    (lease,) = claim(database, registered(database), problem)
    assert (lease.question, lease.passage, lease.reference, lease.answer) == ("Why?", "A text.", "yes", "It is so.")
    assert claim(database, registered(database), problem) == []


def test_a_worker_of_another_model_gets_no_answer_to_judge(database: Database) -> None:
    teacher = CONFIG.models["m"].fingerprint()
    assert claim(database, registered(database), answered(database), model=teacher) == []


def test_a_problem_whose_reference_field_is_empty_has_its_known_answer_as_reference(database: Database) -> None:
    problem = answered(database, decision="")
    assert claim(database, registered(database), problem)[0].reference == "Because."


def test_a_verdict_is_written_once_by_the_holder_of_the_lease(database: Database) -> None:
    problem = answered(database)
    lost, holder = registered(database), registered(database)
    (late,) = claim(database, lost, problem)
    database.run(lambda c: workers.mark_stopped(c, lost, "lost"))
    assert database.run(reclaim) == 1
    (lease,) = claim(database, holder, problem)
    assert finish(database, lost, late) == set()
    assert finish(database, holder, lease) == {problem}
    assert finish(database, holder, lease) == set()
    dropped = "SELECT dropped_results FROM workers WHERE id = ANY(:ids) ORDER BY dropped_results"
    counts = database.run(lambda c: c.execute(sa.text(dropped), {"ids": [lost, holder]}).scalars().all())
    assert counts == [1, 1]


def test_a_judged_problem_is_ended_by_the_coordinator_and_costs_are_kept(database: Database) -> None:
    problem = answered(database)
    holder = registered(database)
    assert database.run(lambda c: sweep.due_coordination(c, ANY_AGE)) == []
    finish(database, holder, claim(database, holder, problem)[0])
    assert [due.kind for due in database.run(lambda c: sweep.due_coordination(c, ANY_AGE))] == [VERIFY]
    owed = database.run(lambda c: checks.read_owed_checks(c, problem))
    assert owed is not None
    assert (owed.unchecked, owed.checking, owed.with_judge) == (0, 0, 0)
    assert database.run(lambda c: checks.end_verified(c, [problem])) == [problem]
    state = "SELECT p.state, j.correct FROM problems p JOIN trajectories j ON j.problem_id = p.id"
    assert tuple(database.run(lambda c: c.execute(sa.text(state)).one())) == ("done", True)
    cost = (
        "SELECT kind, requests, prompt_tokens, completion_tokens, request_seconds FROM model_usage "
        "WHERE kind = 'verdict'"
    )
    assert tuple(database.run(lambda c: c.execute(sa.text(cost)).one())) == ("verdict", 1, 20, 5, 0.5)


def test_an_unclaimed_answer_judgment_is_owed_to_the_judges_model(database: Database) -> None:
    problem = answered(database)
    assert database.run(sweep.waiting_messages) == {JUDGE: 1}
    assert database.run(lambda c: sweep.due_model_work(c, [JUDGE], 20.0)) == []
    database.run(lambda c: c.execute(sa.text("UPDATE trajectories SET touched_at = now() - interval '30 seconds'")))
    (due,) = database.run(lambda c: sweep.due_model_work(c, [JUDGE], 20.0))
    assert (due.kind, due.problem_id, due.model) == (JUDGE_ANSWER.name, problem, JUDGE)
    assert database.run(lambda c: sweep.due_model_work(c, [JUDGE], 20.0)) == []


def test_a_row_with_its_own_method_is_not_judged(database: Database) -> None:
    problem = answered(database, verify="exact")
    assert claim(database, registered(database), problem) == []
    assert database.run(sweep.waiting_messages) == {}
    assert [due.kind for due in database.run(lambda c: sweep.due_coordination(c, ANY_AGE))] == [VERIFY]


@pytest.mark.parametrize("forgiven", [False, True])
def test_a_judge_that_keeps_dying_parks_the_problem(database: Database, forgiven: bool) -> None:
    problem = answered(database)
    for attempt in range(3):
        victim = registered(database)
        # The third attempt is exclusive; forgiven attempts do not count.
        assert claim(database, victim, problem, exclusive=attempt == 2 and not forgiven)
        assert database.run(lambda c, w=victim: return_all(c, [w], forgiven=forgiven)) == 1
    parked = database.run(sweep.exhausted)
    assert [item.problem_id for item in parked] == ([] if forgiven else [problem])
    assert all("judging the final answer" in item.reason and "3 attempts" in item.reason for item in parked)


UNDECIDED = (
    '{"method": "undecided", "extracted": null, "detail": "two answers", "type": "text", "readings": ["4", "5"]}'
)


def undecided_by_check(database: Database) -> tuple[int, int]:
    """Makes a problem whose check was undecided, so that its answer waits for the judge. Returns the keys of the
    problem and of its trajectory."""
    problem = answered(database, verify="math")
    owed = database.run(lambda c: checks.read_owed_checks(c, problem))
    assert owed is not None
    assert (owed.unchecked, owed.checking, owed.with_judge) == (1, 0, 0)
    (lease,) = check_answers(database, problem, (None, UNDECIDED, True))
    assert lease.method == "math"
    return problem, lease.trajectory_id


def check_answers(database: Database, problem: int, *found: tuple[bool | None, str, bool]) -> list[checks.LeasedCheck]:
    """Writes these check results as a coordinator: correctness, verification, whether the answer is for the judge."""
    holder = registered(database)
    leases = list(database.run(lambda c: checks.claim(c, [problem], worker_id=holder), single=True).leases)
    results = [
        checks.FinishedCheck(lease.trajectory_id, lease.attempt, *one) for lease, one in zip(leases, found, strict=True)
    ]
    database.run(lambda c: checks.finish(c, results, worker_id=holder))
    return leases


def row_of(database: Database, trajectory: int) -> tuple[Any, ...]:
    statement = """
        SELECT p.state, j.answer_state, j.correct, j.verification, j.verdict_attempts
        FROM trajectories j JOIN problems p ON p.id = j.problem_id WHERE j.id = :id
    """
    return tuple(database.run(lambda c: c.execute(sa.text(statement), {"id": trajectory}).one()))


def broken(database: Database) -> list[str]:
    return [
        invariant.name for invariant in INVARIANTS if database.run(lambda c, i=invariant: check(c, i, None)).violations
    ]


def test_an_undecided_answer_waits_for_the_judge_and_its_result_names_check_and_verdict(database: Database) -> None:
    problem, trajectory = undecided_by_check(database)
    assert row_of(database, trajectory)[:3] == ("verifying", "unjudged", None)
    assert "verdicts" not in broken(database)
    assert database.run(sweep.waiting_messages) == {JUDGE: 1}
    assert database.run(lambda c: sweep.due_coordination(c, ANY_AGE)) == []
    (due,) = database.run(lambda c: sweep.due_model_work(c, [JUDGE], ANY_AGE))
    assert (due.kind, due.problem_id, due.model) == (JUDGE_ANSWER.name, problem, JUDGE)

    holder = registered(database)
    (lease,) = claim(database, holder, problem)
    assert claim(database, registered(database), problem) == []
    assert finish(database, holder, lease) == {problem}
    assert [due.kind for due in database.run(lambda c: sweep.due_coordination(c, ANY_AGE))] == [VERIFY]
    assert database.run(lambda c: checks.end_verified(c, [problem])) == [problem]
    state, answer_state, correct, verification, _ = row_of(database, trajectory)
    assert (state, answer_state, correct) == ("done", "judged", True)
    assert (verification["method"], verification["compared"]["method"]) == ("judge", "undecided")
    assert verification["compared"]["readings"] == ["4", "5"]


def test_an_undecided_answer_that_its_judge_returns_waits_for_the_judge_again(database: Database) -> None:
    problem, trajectory = undecided_by_check(database)
    lost = registered(database)
    (late,) = claim(database, lost, problem)
    assert row_of(database, trajectory)[1] == "judging"
    database.run(lambda c: workers.mark_stopped(c, lost, "lost"))
    assert database.run(reclaim) == 1
    assert row_of(database, trajectory)[1] == "unjudged"
    holder = registered(database)
    (lease,) = claim(database, holder, problem)
    assert finish(database, lost, late) == set()
    assert finish(database, holder, lease) == {problem}


def test_a_second_coordinator_changes_no_answer_that_already_waits_for_the_judge(database: Database) -> None:
    problem, trajectory = undecided_by_check(database)
    holder = registered(database)
    (lease,) = claim(database, holder, problem)
    assert check_answers(database, problem) == []
    assert database.run(lambda c: checks.end_verified(c, [problem])) == []
    assert row_of(database, trajectory)[:3] == ("verifying", "judging", None)
    finish(database, holder, lease)
    assert database.run(lambda c: checks.end_verified(c, [problem])) == [problem]
    assert row_of(database, trajectory)[:3] == ("done", "judged", True)
    assert row_of(database, trajectory)[3]["method"] == "judge"


def test_an_undecided_answer_whose_judge_keeps_dying_fails_its_problem_which_can_be_retried(database: Database) -> None:
    problem, trajectory = undecided_by_check(database)
    for attempt in range(3):
        victim = registered(database)
        assert claim(database, victim, problem, exclusive=attempt == 2)
        assert database.run(lambda c, w=victim: return_all(c, [w], forgiven=False)) == 1
    (parked,) = database.run(sweep.exhausted)
    assert "judging the final answer" in parked.reason
    database.run(lambda c: decisions.fail_problem(c, problem, parked.reason))
    assert database.run(lambda c: retry_failed(c, "run")).problems == {"verifying": 1}
    state, answer_state, _, _, attempts = row_of(database, trajectory)
    assert (state, answer_state, attempts) == ("verifying", "unjudged", 0)
    assert claim(database, registered(database), problem)


def test_a_problem_with_one_undecided_answer_of_several_ends_after_its_judgment(database: Database) -> None:
    problem = answered(database, verify="math")
    another = """
        INSERT INTO candidates (problem_id, parent_rank, step, depth, round, teacher_id, sample, lineage, seed,
                                max_tokens, whole, state, text, score)
        SELECT problem_id, 0, 1, 1, 0, teacher_id, 1, 'other', 0, 8, false, 'scored', 'a step', 0.5 FROM candidates
    """
    trajectory = """
        INSERT INTO trajectories (problem_id, candidate_id, steps, score, finish, answer_state, answer_text)
        SELECT problem_id, id, 1, 0.5, 'think_end', 'written', '4 or 5' FROM candidates WHERE lineage = 'other'
    """
    for statement in (another, trajectory):
        database.run(lambda c, s=statement: c.execute(sa.text(s)))
    first, second = check_answers(database, problem, (False, '{"method": "unequal"}', False), (None, UNDECIDED, True))
    holder = registered(database)
    (lease,) = claim(database, holder, problem)
    assert lease.trajectory_id == second.trajectory_id
    finish(database, holder, lease)
    assert database.run(lambda c: checks.end_verified(c, [problem])) == [problem]
    assert row_of(database, first.trajectory_id)[:3] == ("done", "written", False)
    assert row_of(database, second.trajectory_id)[:3] == ("done", "judged", True)
