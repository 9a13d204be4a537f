"""Leases: one holder at a time, results written once, late ones dropped and counted."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import sqlalchemy as sa

from cord_worker.config import RunConfig
from cord_worker.dataset import ProblemRecord
from cord_worker.errors import StoreError
from cord_worker.search import cord
from cord_worker.search.decision import Expand
from cord_worker.search.types import SeedScope
from cord_worker.search.validity import duplicates, text_key
from cord_worker.store.audit.invariants import INVARIANTS, check
from cord_worker.store.database import Database
from cord_worker.store.runs import lifecycle
from cord_worker.store.runs.admission import admit
from cord_worker.store.runs.enqueue import enqueue
from cord_worker.store.schema.kinds import JUDGE_CANDIDATE, PROPOSE, SCORE
from cord_worker.store.schema.version import downgrade, upgrade
from cord_worker.store.search import decisions
from cord_worker.store.work import judge_candidate, propose, score, sweep, workers
from cord_worker.store.work.judge_candidate import JudgmentResult, LeasedJudgment
from cord_worker.store.work.propose import LeasedProposal, ProposalResult
from cord_worker.store.work.returning import reclaim, return_all, return_leases
from cord_worker.store.work.score import LeasedScore, ScoreResult
from cord_worker.store.work.values import Claimed, Due, Outcome
from tests.support.rows import SMALL_SEARCH, registered

CONFIG = RunConfig.model_validate(
    {
        "models": {"m": {"path": "m", "engine": "instant"}, "n": {"path": "n", "engine": "instant"}},
        "teachers": [{"name": "first", "model": "m"}, {"name": "second", "model": "n"}],
        "prover": {"model": "m"},
        "run": {"max_attempts": 3},
    }
)
MODELS = [CONFIG.models[teacher.model].fingerprint() for teacher in CONFIG.teachers]


@pytest.fixture
def problem(database: Database) -> int:
    """A problem whose first step is planned: one candidate of each of two teachers, whose models are two."""

    def plan(connection: sa.Connection) -> int:
        records = [ProblemRecord("p", "What is 1 + 1?", "2", None, {}, "data.jsonl:1")]
        run = enqueue(connection, "run", CONFIG, records)
        problem_id = admit(connection)[0].problem_id
        snapshot = decisions.lock_problem(connection, problem_id)
        assert snapshot is not None
        expansion = cord.initial(SMALL_SEARCH, SeedScope(0, "p"), ["first", "second"])
        decisions.write_expand(connection, snapshot, expansion, teachers(connection, run.run_id))
        return problem_id

    return database.run(plan)


def teachers(connection: sa.Connection, run_id: int) -> list[int]:
    rows = connection.execute(sa.text("SELECT id FROM teachers WHERE run_id = :id ORDER BY ordinal"), {"id": run_id})
    return list(rows.scalars())


def claim(
    database: Database, worker_id: uuid.UUID, problem_id: int, teacher: int = 0, *, alone: bool = False
) -> list[LeasedProposal]:
    claimed = database.run_single(
        lambda c: propose.claim(c, [problem_id], worker_id=worker_id, model=MODELS[teacher], alone=alone)
    )
    return list(claimed.leases)


def claim_scores(database: Database, worker_id: uuid.UUID, problem_id: int, mode: str = "instant") -> list[LeasedScore]:
    claimed = database.run_single(lambda c: score.claim(c, [problem_id], worker_id=worker_id, scoring_mode=mode))
    return list(claimed.leases)


def proposed(
    claimed: Sequence[LeasedProposal], text: str = " 1 + 1 = 2.", invalid: str | None = None
) -> list[ProposalResult]:
    return [
        ProposalResult(lease.candidate_id, lease.attempt, text, "step", invalid, 10, 5, 0, 0.1) for lease in claimed
    ]


def finish(database: Database, worker_id: uuid.UUID, results: list[ProposalResult]) -> Outcome:
    return database.run_single(lambda connection: propose.finish(connection, results, worker_id=worker_id))


def to_advance(result: Claimed | Outcome) -> frozenset[int]:
    """Problems whose decision is due now."""
    return frozenset(due.problem_id for due in result.due if due.model is None)


def passed_on(outcome: Outcome) -> frozenset[Due]:
    """Messages to the next model."""
    return frozenset(due for due in outcome.due if due.model is not None)


def states(database: Database) -> list[str]:
    return database.run(
        lambda connection: list(connection.execute(sa.text("SELECT state FROM candidates ORDER BY id")).scalars())
    )


def test_a_second_claim_of_the_same_work_gets_nothing(database: Database, problem: int) -> None:
    first, second = registered(database), registered(database)
    assert len(claim(database, first, problem)) == 1
    assert claim(database, second, problem) == []
    assert claim(database, first, problem) == []
    assert states(database) == ["proposing", "pending"]


def test_a_result_is_written_once_and_a_second_one_is_dropped_and_counted(database: Database, problem: int) -> None:
    holder = registered(database)
    claimed = claim(database, holder, problem)
    assert finish(database, holder, proposed(claimed)).dropped == 0
    assert finish(database, holder, proposed(claimed, " another text")).dropped == 1

    def read(connection: sa.Connection) -> tuple[str, int]:
        text = connection.execute(sa.text("SELECT text FROM candidates ORDER BY id LIMIT 1")).scalar_one()
        count = connection.execute(
            sa.text("SELECT dropped_results FROM workers WHERE id = :id"), {"id": holder}
        ).scalar_one()
        return text, count

    assert database.run(read) == (" 1 + 1 = 2.", 1)


PASSED_ON = frozenset({Due(SCORE.name, 1, 1, CONFIG.prover_model.fingerprint())})


@pytest.mark.parametrize(
    ("first", "last", "passed", "advanced"),
    [
        (None, None, PASSED_ON, False),
        (None, "empty", PASSED_ON, False),
        ("empty", None, PASSED_ON, False),
        ("empty", "empty", frozenset(), True),
    ],
)
def test_the_candidates_of_a_step_go_to_the_prover_together_with_the_last_text(
    database: Database,
    problem: int,
    first: str | None,
    last: str | None,
    passed: frozenset[Due],
    advanced: bool,
) -> None:
    holder = registered(database)
    early = finish(database, holder, proposed(claim(database, holder, problem, 0), " one", first))
    assert (passed_on(early), to_advance(early)) == (frozenset(), frozenset())
    late = finish(database, holder, proposed(claim(database, holder, problem, 1), " two", last))
    assert (passed_on(late), to_advance(late)) == (passed, {problem} if advanced else frozenset())


def test_a_migration_counts_the_texts_that_running_problems_wait_for(
    database: Database, database_url: str, problem: int
) -> None:
    claim(database, registered(database), problem)
    downgrade(database_url, "0004", beside_workers=True)
    upgrade(database_url, beside_workers=True)
    unproposed = sa.text("SELECT unproposed FROM problems")
    assert database.run(lambda c: c.execute(unproposed).scalar_one()) == 2


def test_texts_that_wait_for_a_slow_sibling_are_owed_to_the_prover_after_a_while(
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
    scored = database.run_single(lambda c: score.finish(c, [result], worker_id=holder, scoring_mode="instant"))
    assert to_advance(scored) == frozenset()


def written(database: Database, worker_id: uuid.UUID, problem_id: int, teacher: int, text: str) -> Outcome:
    """The teacher's candidate gets its text, with the key that a worker gives it."""
    results = [
        replace(one, text_key=text_key(text)) for one in proposed(claim(database, worker_id, problem_id, teacher), text)
    ]
    return finish(database, worker_id, results)


def table(database: Database, columns: str, of: str = "candidates") -> list[tuple[object, ...]]:
    found = sa.text(f"SELECT {columns} FROM {of} ORDER BY id")
    return database.run(lambda connection: [tuple(row) for row in connection.execute(found)])


def scored(database: Database, worker_id: uuid.UUID, found: Sequence[LeasedScore]) -> Outcome:
    results = [
        ScoreResult(one.candidate_id, one.attempt, None, 0.5, -0.6931471805599453, 1, 4, 20, 0, 0.1) for one in found
    ]
    return database.run_single(lambda c: score.finish(c, results, worker_id=worker_id, scoring_mode="instant"))


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_of_equal_texts_the_first_teachers_is_scored_whoever_was_first(
    database: Database, problem: int, order: tuple[int, int]
) -> None:
    holder = registered(database)
    for teacher in order:
        written(database, holder, problem, teacher, " It is 2." if teacher else " It  is\n2. ")
    found = claim_scores(database, holder, problem)
    (stands, _), _ = table(database, "id, lineage")
    assert [lease.candidate_id for lease in found] == [stands]
    columns = "state, invalid_reason, duplicate_of, score_attempts"
    assert table(database, columns) == [("scoring", None, None, 1), ("invalid", "duplicate", stands, 0)]
    assert table(database, "outstanding, unproposed", "problems") == [(1, 0)]
    assert to_advance(scored(database, holder, found)) == frozenset({problem})
    verdicts = database.run(lambda connection: [check(connection, one, None) for one in INVARIANTS])
    assert [report for report in verdicts if report.violations] == []


def test_a_text_that_may_repeat_one_to_come_is_not_scored_before_that_is_there(
    database: Database, problem: int
) -> None:
    holder = registered(database)
    written(database, holder, problem, 1, " It is 2.")
    database.run(lambda c: c.execute(sa.text("UPDATE candidates SET touched_at = now() - interval '2 seconds'")))
    kinds = {due.kind for due in database.run(lambda c: sweep.due_model_work(c, MODELS, 1.0))}
    assert (claim_scores(database, holder, problem), kinds) == ([], {PROPOSE.name})
    assert database.run(sweep.waiting) == {MODELS[0]: 1}  # the proposal of the first teacher


def test_a_late_text_that_repeats_a_scored_one_completes_the_step_without_the_prover(
    database: Database, problem: int
) -> None:
    holder = registered(database)
    written(database, holder, problem, 0, " It is 2.")
    early = claim_scores(database, holder, problem)
    assert to_advance(scored(database, holder, early)) == frozenset()
    assert passed_on(written(database, holder, problem, 1, " It is 2.")) == PASSED_ON
    late = database.run_single(lambda c: score.claim(c, [problem], worker_id=holder, scoring_mode="instant"))
    assert (late.leases, late.held_back, to_advance(late)) == ([], frozenset(), {problem})
    assert table(database, "state, outstanding", "problems") == [("searching", 0)]


def test_a_duplicate_of_a_text_that_cannot_be_scored_is_not_scored_either(database: Database, problem: int) -> None:
    holder = registered(database)
    written(database, holder, problem, 0, " It is 2.")
    (lease,) = claim_scores(database, holder, problem)
    failed = ScoreResult(lease.candidate_id, lease.attempt, "unscorable", None, None, None, None, None, None, None)
    database.run_single(lambda c: score.finish(c, [failed], worker_id=holder, scoring_mode="instant"))
    written(database, holder, problem, 1, " It is 2.")
    assert claim_scores(database, holder, problem) == []
    assert table(database, "invalid_reason") == [("unscorable",), ("duplicate",)]
    found = database.run(lambda c: decisions.read_candidates(c, problem, 1, 0))
    assert duplicates(found) == {found[1].id: found[0].id}


def test_texts_of_workers_that_know_no_keys_are_scored_and_linked_when_the_step_is_decided(
    database: Database, problem: int
) -> None:
    holder = registered(database)
    for teacher in (0, 1):
        finish(database, holder, proposed(claim(database, holder, problem, teacher), f" It{' ' * (1 + teacher)}is 2."))
    scored(database, holder, claim_scores(database, holder, problem))

    def decide(connection: sa.Connection) -> None:
        snapshot = decisions.lock_problem(connection, problem)
        assert snapshot is not None
        found = decisions.read_candidates(connection, problem, 1, 0)
        scope = SeedScope(0, "p")
        decision = cord.decide(
            SMALL_SEARCH, scope, ["first", "second"], step=1, round=0, beam=(), candidates=found, spent=0
        )
        assert isinstance(decision, Expand)
        decisions.write_expand(connection, snapshot, decision, teachers(connection, snapshot.run_id))

    database.run(decide)
    (stands, _, _), repeats = table(database, "id, state, duplicate_of", "candidates WHERE step = 1")[:2]
    assert repeats[1:] == ("invalid", stands)


def test_provers_that_claim_at_once_find_the_same_duplicates(database: Database, problem: int) -> None:
    holders = [registered(database) for _ in range(6)]
    for teacher in (0, 1):
        written(database, holders[0], problem, teacher, " It is 2.")
    with ThreadPoolExecutor(len(holders)) as pool:
        found = [lease for one in pool.map(lambda it: claim_scores(database, it, problem), holders) for lease in one]
    assert len(found) == 1
    assert table(database, "state") == [("scoring",), ("invalid",)]
    assert table(database, "outstanding", "problems") == [(1,)]


def test_a_lost_workers_result_is_dropped_after_another_took_its_lease(database: Database, problem: int) -> None:
    stale, fresh = registered(database), registered(database)
    old = claim(database, stale, problem)
    heard = database.run(workers.heartbeats)
    database.run(lambda connection: workers.heartbeat(connection, fresh))
    assert database.run(lambda connection: workers.expire(connection, heard)) == [stale]
    assert database.run(reclaim) == 1
    assert finish(database, stale, proposed(old, " too late")).dropped == 1
    new = claim(database, fresh, problem)
    assert [lease.attempt for lease in new] == [2]
    assert finish(database, stale, proposed(old, " too late")).dropped == 1
    assert finish(database, fresh, proposed(new)).dropped == 0


def test_a_lease_taken_by_a_worker_that_is_gone_comes_back_whenever_it_was_taken(
    database: Database, problem: int
) -> None:
    ghost = registered(database)
    database.run(lambda connection: workers.stop(connection, ghost, "lost"))
    assert len(claim(database, ghost, problem)) == 1
    assert database.run(reclaim) == 1
    assert states(database) == ["pending", "pending"]


def test_a_worker_that_is_heard_again_is_no_longer_lost(database: Database, problem: int) -> None:
    late = registered(database)
    database.run(lambda connection: workers.stop(connection, late, "lost"))
    database.run(lambda connection: workers.heartbeat(connection, late))
    claim(database, late, problem)
    assert database.run(reclaim) == 0


def test_a_living_worker_keeps_its_lease_however_long_it_takes(database: Database, problem: int) -> None:
    slow = registered(database)
    claim(database, slow, problem)
    database.run(
        lambda connection: connection.execute(sa.text("UPDATE candidates SET touched_at = now() - interval '1 hour'"))
    )
    heard = database.run(workers.heartbeats)
    database.run(lambda connection: workers.heartbeat(connection, slow))
    assert database.run(lambda connection: workers.expire(connection, heard)) == []
    assert states(database)[0] == "proposing"


def test_what_is_owed_is_sent_though_the_clock_was_set_back(database: Database, problem: int) -> None:
    assert owed(database) == []
    database.run(
        lambda connection: connection.execute(sa.text("UPDATE candidates SET touched_at = now() + interval '1 hour'"))
    )
    assert [due.problem_id for due in owed(database)] == [problem, problem]


def owed(database: Database) -> list[Due]:
    model = "SELECT fingerprint FROM models"

    def due(connection: sa.Connection) -> list[Due]:
        models = list(connection.execute(sa.text(model)).scalars())
        return sweep.due_model_work(connection, models, 20.0)

    return database.run(due)


def test_the_barrier_opens_with_the_last_score_and_only_then(database: Database, problem: int) -> None:
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
        {Due(JUDGE_CANDIDATE.name, problem, 1, MODELS[0])},
        frozenset(),
    )
    assert states(database) == ["unjudged", "invalid"]
    return problem


def lease_judgments(
    database: Database, worker_id: uuid.UUID, problem_id: int, *, alone: bool = False
) -> list[LeasedJudgment]:
    claimed = database.run_single(
        lambda connection: judge_candidate.claim(connection, [problem_id], worker_id=worker_id, alone=alone)
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


def test_a_judgment_of_a_worker_that_is_gone_is_owed_again(database: Database, judged_problem: int) -> None:
    model = CONFIG.models["m"].fingerprint()
    lost, fresh = registered(database), registered(database)
    assert database.run(sweep.waiting) == {model: 1}
    (old,) = lease_judgments(database, lost, judged_problem)
    assert database.run(sweep.waiting) == {}
    database.run(lambda c: workers.stop(c, lost, "lost"))
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
        assert lease_judgments(database, victim, judged_problem, alone=attempt < 2) == []
        assert lease_judgments(database, victim, judged_problem, alone=attempt == 2)
        database.run(lambda c, w=victim: return_all(c, [w], forgiven=False))
    (parked,) = database.run(sweep.exhausted)
    assert "judging a candidate of step 1 was given up after 3 attempts" in parked.reason


def test_an_invalid_proposal_is_final_and_lowers_the_barrier(database: Database, problem: int) -> None:
    holder = registered(database)
    first = finish(database, holder, proposed(claim(database, holder, problem, 0), "", "empty"))
    assert (passed_on(first), to_advance(first)) == (frozenset(), frozenset())
    second = finish(database, holder, proposed(claim(database, holder, problem, 1), "", "empty"))
    assert to_advance(second) == {problem}
    assert states(database) == ["invalid", "invalid"]


def test_a_run_keeps_to_the_scoring_mode_of_its_first_score(database: Database, problem: int) -> None:
    holder = registered(database)
    finish(database, holder, proposed(claim(database, holder, problem)))
    assert len(claim_scores(database, holder, problem, "one")) == 1
    finish(database, holder, proposed(claim(database, holder, problem, 1)))
    assert claim_scores(database, holder, problem, "other") == []
    assert len(claim_scores(database, holder, problem, "one")) == 1


def test_work_that_keeps_losing_its_worker_parks_its_problem_with_a_reason(database: Database, problem: int) -> None:
    for attempt in range(3):
        assert database.run(sweep.exhausted) == []
        victim = registered(database)
        elsewhere = database.run_single(
            lambda c, w=victim, alone=attempt < 2: propose.claim(
                c, [problem], worker_id=w, model=MODELS[0], alone=alone
            )
        )
        assert (elsewhere.leases, elsewhere.held_back) == ([], {problem})
        assert claim(database, victim, problem, alone=attempt == 2)
        assert database.run(lambda c, w=victim: return_all(c, [w], forgiven=False)) == 1
    parked = database.run(sweep.exhausted)
    assert [item.problem_id for item in parked] == [problem]
    assert "teacher first" in parked[0].reason
    assert "3 attempts" in parked[0].reason


def test_work_handed_back_in_good_order_does_not_use_up_attempts(database: Database, problem: int) -> None:
    for _ in range(5):
        leaving = registered(database)
        assert [lease.attempt for lease in claim(database, leaving, problem)] == [1]
        database.run(lambda c, w=leaving: return_all(c, [w], forgiven=True))
    assert database.run(sweep.exhausted) == []


def test_what_nobody_claimed_is_owed_again_after_a_while_and_marked_as_sent(database: Database, problem: int) -> None:
    model = CONFIG.models["m"].fingerprint()
    assert database.run(lambda c: sweep.due_model_work(c, [model], 20.0)) == []
    database.run(lambda c: c.execute(sa.text("UPDATE candidates SET touched_at = now() - interval '30 seconds'")))
    owed = database.run(lambda c: sweep.due_model_work(c, [model], 20.0))
    assert [(due.kind, due.problem_id, due.model) for due in owed] == [(PROPOSE.name, problem, model)]
    assert database.run(lambda c: sweep.due_model_work(c, [model], 20.0)) == []


def test_nothing_is_claimed_from_a_paused_run(database: Database, problem: int) -> None:
    holder = registered(database)
    database.run(lambda c: c.execute(sa.text("UPDATE runs SET state = 'paused'")))
    assert claim(database, holder, problem) == []
    database.run(lambda c: c.execute(sa.text("UPDATE runs SET state = 'active'")))
    assert len(claim(database, holder, problem)) == 1


def test_work_of_a_paused_or_cancelled_run_is_not_waited_for(database: Database, problem: int) -> None:
    assert database.run(sweep.waiting) == dict.fromkeys(MODELS, 1)
    database.run(lambda c: c.execute(sa.text("UPDATE runs SET state = 'paused'")))
    assert database.run(sweep.waiting) == {}
    database.run(lambda c: lifecycle.resume_run(c, "run"))
    assert database.run(lambda c: lifecycle.cancel_run(c, "run")) == 1
    assert claim(database, registered(database), problem) == []
    assert database.run(sweep.waiting) == {}


def test_a_transaction_that_ends_gives_up_its_lead(database: Database) -> None:
    with database.transaction() as first, database.transaction() as second:
        assert sweep.try_lead(first, 60)
        assert sweep.try_lead(first, 60)
        assert not sweep.try_lead(second, 60)
    with database.transaction() as second:
        assert sweep.try_lead(second, 60)


@pytest.mark.parametrize("fault", ["dies", "hangs"])
def test_a_leader_that_dies_or_hangs_is_followed_by_another(database: Database, fault: str) -> None:
    def lead_until_another_does(second: sa.Connection) -> None:
        with database.transaction() as first:
            assert sweep.try_lead(first, 0.2 if fault == "hangs" else 60)
            if fault == "dies":
                process = first.execute(sa.text("SELECT pg_backend_pid()")).scalar_one()
                second.execute(sa.text("SELECT pg_terminate_backend(:process)"), {"process": process})
            deadline = time.monotonic() + 60.0
            while not sweep.try_lead(second, 60):
                assert time.monotonic() < deadline, "a leader that is gone must be followed by another"
                time.sleep(0.02)

    with database.transaction() as second:
        with pytest.raises(StoreError):
            lead_until_another_does(second)
        assert sweep.try_lead(second, 60)


def test_a_claim_does_not_wait_for_the_disk_and_a_result_does(database: Database, problem: int) -> None:
    flushing = sa.text("SHOW synchronous_commit")
    holder = registered(database)

    def claims(connection: sa.Connection) -> tuple[list[LeasedProposal], str]:
        claimed = propose.claim(connection, [problem], worker_id=holder, model=MODELS[0])
        return list(claimed.leases), connection.execute(flushing).scalar_one()

    claimed, claiming = database.run(claims)

    def finishes(connection: sa.Connection) -> str:
        propose.finish(connection, proposed(claimed), worker_id=holder)
        return str(connection.execute(flushing).scalar_one())

    assert (len(claimed), claiming, database.run(finishes)) == (1, "off", "on")

    def scores(connection: sa.Connection) -> tuple[int, str]:
        found = score.claim(connection, [problem], worker_id=holder, scoring_mode="one")
        return len(found.leases), connection.execute(flushing).scalar_one()

    assert database.run(scores) == (1, "off")


def test_two_that_lower_a_barrier_at_once_count_both(database: Database, problem: int) -> None:
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
        assert (to_advance(earlier), to_advance(waiting.result(30))) == (frozenset(), {problem})


def test_results_of_a_paused_run_ask_for_no_score(database: Database, problem: int) -> None:
    holder = registered(database)
    claimed = claim(database, holder, problem, 0) + claim(database, holder, problem, 1)
    database.run(lambda c: c.execute(sa.text("UPDATE runs SET state = 'paused'")))
    outcome = finish(database, holder, proposed(claimed))
    assert (passed_on(outcome), to_advance(outcome)) == (frozenset(), frozenset())
    assert states(database) == ["proposed", "proposed"]


def test_a_connection_that_was_ended_while_nobody_used_it_is_replaced(database: Database, database_url: str) -> None:
    one = sa.text("SELECT 1")
    others = sa.text(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
        "AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
    )

    database.run(lambda c: c.execute(one))
    killer = sa.create_engine(database_url, poolclass=sa.pool.NullPool)
    with killer.connect() as connection:
        connection.execute(others)
    assert database.run(lambda c: c.execute(one).scalar_one(), retry_seconds=0.0) == 1
    with killer.connect() as connection:
        connection.execute(others)
    with database.transaction() as connection:
        assert connection.execute(one).scalar_one() == 1


def test_a_lease_that_goes_back_costs_no_attempt_and_only_its_holder_can_return_it(
    database: Database, problem: int
) -> None:
    holder, other = registered(database), registered(database)
    leases = [(lease.candidate_id, lease.attempt) for lease in claim(database, holder, problem)]
    assert {attempt for _, attempt in leases} == {1}
    keys = [key for key, _ in leases]
    stale = [(key, attempt + 1) for key, attempt in leases]
    for giver, given in ((other, leases), (holder, stale)):
        assert database.run(lambda c, w=giver, g=given: return_leases(c, w, PROPOSE, g)) == []
    assert sorted(database.run(lambda c: return_leases(c, holder, PROPOSE, leases))) == sorted(keys)
    assert database.run(lambda c: return_leases(c, holder, PROPOSE, leases)) == []
    again = claim(database, other, problem)
    assert [(lease.candidate_id, lease.attempt) for lease in again] == leases
