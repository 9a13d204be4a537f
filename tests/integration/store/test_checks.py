"""Leases of checks: one holder at a time, returned, owed again, given up as undecided."""

from __future__ import annotations

import uuid

import pytest
import sqlalchemy as sa

from cord_worker.config import RunConfig
from cord_worker.dataset import ProblemRecord
from cord_worker.store.audit.invariants import INVARIANTS, check
from cord_worker.store.database import Database
from cord_worker.store.schema.kinds import CHECK_ANSWER, VERIFY
from cord_worker.store.schema.tables import WorkerRole
from cord_worker.store.work import check_answer as checks
from cord_worker.store.work import sweep, workers
from cord_worker.store.work.returning import reclaim, return_all, return_leases
from tests.support.answered import enqueue_answered
from tests.support.rows import registered

CONFIG = RunConfig.model_validate(
    {
        "models": {"m": {"path": "m", "engine": "instant"}},
        "teachers": [{"name": "first", "model": "m"}],
        "prover": {"model": "m"},
        "verify": {"method": "math"},
        "run": {"max_attempts": 3},
    }
)

RIGHT = '{"method": "math"}'


@pytest.fixture
def problem(database: Database) -> int:
    """A problem whose final answer is written and waits for its check."""

    def write(connection: sa.Connection) -> int:
        record = ProblemRecord("p", "2 + 2?", "4", None, {}, "d:1")
        return enqueue_answered(connection, CONFIG, [record], "It is 4.")[0]

    return database.run(write)


def coordinator(database: Database) -> uuid.UUID:
    return registered(database, WorkerRole.COORDINATOR)


def claim(database: Database, holder: uuid.UUID, problem: int, *, exclusive: bool = False) -> list[checks.LeasedCheck]:
    return list(
        database.run(lambda c: checks.claim(c, [problem], worker_id=holder, exclusive=exclusive), single=True).leases
    )


def finish(database: Database, holder: uuid.UUID, lease: checks.LeasedCheck) -> list[int]:
    result = checks.FinishedCheck(lease.trajectory_id, lease.attempt, True, RIGHT, False)
    return database.run(lambda c: checks.finish(c, [result], worker_id=holder))


def row(database: Database) -> tuple[object, ...]:
    statement = """
        SELECT p.state, j.answer_state, j.correct, j.verification ->> 'method', j.check_attempts
        FROM trajectories j JOIN problems p ON p.id = j.problem_id
    """
    return tuple(database.run(lambda c: c.execute(sa.text(statement)).one()))


def violations(database: Database) -> dict[str, str]:
    found = {one.name: database.run(lambda c, one=one: check(c, one, None)) for one in INVARIANTS}
    return {name: report.examples[0].detail for name, report in found.items() if report.violations}


def test_a_check_is_done_by_one_coordinator_and_ends_its_problem(database: Database, problem: int) -> None:
    first, second = coordinator(database), coordinator(database)
    (lease,) = claim(database, first, problem)
    assert (lease.text, lease.reference, lease.method, lease.question) == ("It is 4.", "4", "math", "2 + 2?")
    assert claim(database, second, problem) == []
    assert database.run(lambda c: sweep.due_coordination(c, -1.0)) == []
    assert "leases" not in violations(database)
    assert finish(database, first, lease) == [problem]
    assert row(database) == ("done", "written", True, "math", 1)


def test_the_check_of_a_lost_coordinator_is_owed_again_and_its_late_result_dropped(
    database: Database, problem: int
) -> None:
    lost, other = coordinator(database), coordinator(database)
    (late,) = claim(database, lost, problem)
    database.run(lambda c: workers.mark_stopped(c, lost, "lost"))
    assert database.run(reclaim) == 1
    assert [due.kind for due in database.run(lambda c: sweep.due_coordination(c, -1.0))] == [VERIFY]
    assert finish(database, lost, late) == []
    (lease,) = claim(database, other, problem)
    assert finish(database, lost, late) == []
    assert finish(database, other, lease) == [problem]
    assert row(database) == ("done", "written", True, "math", 2)


@pytest.mark.parametrize("forgiven", [True, False])
def test_an_attempt_counts_unless_it_is_forgiven(database: Database, problem: int, forgiven: bool) -> None:
    holder = coordinator(database)
    (lease,) = claim(database, holder, problem)
    keys = [(lease.trajectory_id, lease.attempt)]
    database.run(lambda c: return_leases(c, holder, CHECK_ANSWER, keys, forgiven=forgiven))
    assert row(database) == ("verifying", "written", None, None, int(not forgiven))


def test_a_check_whose_coordinators_are_lost_repeatedly_stays_undecided(database: Database, problem: int) -> None:
    for attempt in range(3):
        assert database.run(checks.give_up_checks) == []
        victim = coordinator(database)
        assert claim(database, victim, problem, exclusive=attempt == 2)
        database.run(lambda c, victim=victim: return_all(c, [victim], forgiven=False))
    assert database.run(checks.give_up_checks) == [problem]
    assert database.run(sweep.exhausted) == []
    assert [due.kind for due in database.run(lambda c: sweep.due_coordination(c, 60.0))] == [VERIFY]
    assert database.run(lambda c: checks.end_verified(c, [problem])) == [problem]
    assert row(database) == ("done", "written", None, "crashed", 3)
    assert "checked" not in violations(database)


@pytest.mark.parametrize("verification", [None, '{"method": "failed", "detail": "processes cannot be started"}'])
@pytest.mark.usefixtures("problem")
def test_an_answer_that_was_never_checked_is_named_by_verify_db(database: Database, verification: str | None) -> None:
    assert "checked" not in violations(database)
    statement = "UPDATE trajectories SET verification = CAST(:verification AS jsonb)"
    database.run(lambda c: c.execute(sa.text(statement), {"verification": verification}))
    database.run(lambda c: c.execute(sa.text("UPDATE problems SET state = 'done', finished_at = now()")))
    assert "was never checked, its method is math" in violations(database)["checked"]
