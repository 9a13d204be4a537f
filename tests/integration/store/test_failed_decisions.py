"""A failed decision is tried again by a coordinator that has not failed at it; its problem is given up in the end."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
import sqlalchemy as sa

from cord_worker.config import RunConfig
from cord_worker.dataset import ProblemRecord
from cord_worker.store.database import Database
from cord_worker.store.reports.failure_causes import failure_causes
from cord_worker.store.runs.admission import admit
from cord_worker.store.runs.enqueue import enqueue
from cord_worker.store.runs.retry import retry_failed
from cord_worker.store.schema.tables import WorkerRole
from cord_worker.store.search import failed_decisions
from cord_worker.store.work import sweep, workers

CONFIG = RunConfig.model_validate(
    {
        "models": {"m": {"path": "m", "engine": "instant"}},
        "teachers": [{"name": "first", "model": "m"}],
        "prover": {"model": "m"},
    }
)


class Tables:
    """Three problems whose first decision is due, and coordinators."""

    def __init__(self, database: Database) -> None:
        self.database = database
        records = [ProblemRecord(f"p{n}", f"What is {n}?", str(n), None, {}, f"x:{n}") for n in range(3)]
        database.run(lambda connection: enqueue(connection, "run", CONFIG, records))
        self.problems = [due.problem_id for due in database.run(admit)]

    def coordinator(self) -> uuid.UUID:
        worker = uuid.uuid4()

        def enter(connection: sa.Connection) -> None:
            workers.register(connection, worker, WorkerRole.COORDINATOR, hostname="h", pid=1, model_id=None)
            workers.mark_ready(connection, worker)

        self.database.run(enter)
        return worker

    def fail(self, worker: uuid.UUID, problem: int, *, counts: bool = True, pause: float = 0.0) -> bool:
        return self.database.run(
            lambda connection: failed_decisions.note_failure(
                connection, worker, problem, "OSError: x 17", counts=counts, pause_seconds=pause
            )
        )

    def to_try(self, worker: uuid.UUID) -> list[int]:
        return sorted(self.database.run(lambda connection: failed_decisions.decisions_to_try(connection, worker, 100)))

    def execute(self, statement: str, **parameters: Any) -> None:
        self.database.run(lambda connection: connection.execute(sa.text(statement), parameters))

    def row(self, problem: int, columns: str) -> tuple[Any, ...]:
        statement = sa.text(f"SELECT {columns} FROM problems WHERE id = :id")
        return tuple(self.database.run(lambda connection: connection.execute(statement, {"id": problem}).one()))


@pytest.fixture
def tables(database: Database) -> Tables:
    return Tables(database)


def test_another_coordinator_tries_before_the_one_that_failed(tables: Tables) -> None:
    first, second = tables.coordinator(), tables.coordinator()
    problem = tables.problems[0]
    tables.fail(first, problem)
    assert tables.to_try(first) == []
    assert tables.to_try(second) == [problem]
    tables.fail(second, problem)
    assert tables.to_try(first) == [problem], "everybody had a turn, so that the next round begins"


def test_the_only_coordinator_tries_again_itself(tables: Tables) -> None:
    only = tables.coordinator()
    tables.fail(only, tables.problems[0])
    assert tables.to_try(only) == [tables.problems[0]]


@pytest.mark.parametrize(
    "change",
    [
        "stopped_at = now()",
        "ready_at = NULL",
        "drain_requested_at = now()",
        "steps_back_until = now() + interval '1 minute'",
        "role = 'model'",
    ],
)
def test_a_coordinator_that_takes_no_decisions_is_not_waited_for(tables: Tables, change: str) -> None:
    first, second = tables.coordinator(), tables.coordinator()
    tables.fail(first, tables.problems[0])
    tables.execute(f"UPDATE workers SET {change} WHERE id = :id", id=second)
    assert tables.to_try(first) == [tables.problems[0]]


def test_a_turn_that_is_not_taken_is_open_to_every_coordinator(tables: Tables) -> None:
    first, _second = tables.coordinator(), tables.coordinator()
    tables.fail(first, tables.problems[0])
    tables.execute("UPDATE problems SET decision_due_at = now() - interval '2 minutes' WHERE decision_attempts > 0")
    assert tables.to_try(first) == [tables.problems[0]]


def test_a_failed_decision_is_tried_again_after_a_pause_that_doubles(tables: Tables) -> None:
    worker = tables.coordinator()
    problem = tables.problems[0]
    for seconds in (10, 20, 40, 60):
        tables.fail(worker, problem, pause=10)
        assert tables.to_try(worker) == []
        assert tables.row(problem, "round(extract(epoch FROM decision_due_at - touched_at))::int") == (seconds,)


def test_a_clock_that_was_set_back_makes_no_pause_longer(tables: Tables) -> None:
    worker = tables.coordinator()
    tables.fail(worker, tables.problems[0], pause=10)
    tables.execute("UPDATE problems SET decision_due_at = now() + interval '1 day' WHERE decision_attempts > 0")
    assert tables.to_try(worker) == [tables.problems[0]]


def test_a_problem_is_given_up_after_a_number_of_counted_failures(tables: Tables) -> None:
    worker = tables.coordinator()
    problem = tables.problems[0]
    assert not any(tables.fail(worker, problem, counts=False) for _ in range(20))
    assert not any(tables.fail(worker, problem) for _ in range(failed_decisions.MAX_ATTEMPTS - 1))
    assert tables.row(problem, "state") == ("searching",)
    assert tables.fail(worker, problem)
    assert tables.row(problem, "state, failure_reason") == ("failed", "the decision failed 5 times: OSError: x 17")


def test_a_decision_that_was_taken_meanwhile_has_not_failed(tables: Tables) -> None:
    worker = tables.coordinator()
    problem = tables.problems[0]
    tables.execute("UPDATE problems SET outstanding = 2, step = 1 WHERE id = :id", id=problem)
    assert not tables.fail(worker, problem)
    assert tables.row(problem, "decision_attempts, decision_due_at") == (0, None)


def test_the_failures_of_a_coordinator_that_steps_back_are_taken_back(tables: Tables) -> None:
    worker, other = tables.coordinator(), tables.coordinator()
    given_up, failed, of_another = tables.problems
    for _ in range(failed_decisions.MAX_ATTEMPTS):
        tables.fail(worker, given_up)
        tables.fail(other, of_another)
    tables.fail(worker, failed)
    tables.database.run(
        lambda connection: failed_decisions.step_back(connection, worker, 60.0, [given_up, failed, of_another])
    )
    assert tables.row(given_up, "state, failure_reason, decision_attempts") == ("searching", None, 0)
    assert tables.row(failed, "state, decision_attempts") == ("searching", 0)
    assert tables.row(of_another, "state") == ("failed",)
    assert tables.to_try(other) == sorted([given_up, failed])


def test_a_decision_that_is_passed_on_goes_to_others_at_once_and_costs_no_attempt(tables: Tables) -> None:
    worker, other = tables.coordinator(), tables.coordinator()
    problem = tables.problems[0]

    def pass_on() -> list[int]:
        return tables.database.run(lambda connection: failed_decisions.pass_on(connection, worker, problem))

    assert pass_on() == [problem]
    assert pass_on() == [], "a second message changes nothing"
    assert tables.to_try(worker) == []
    assert tables.to_try(other) == [problem]
    assert tables.row(problem, "decision_attempts") == (0,)


def test_the_sweeper_sends_no_message_for_a_decision_that_is_tried_again(tables: Tables) -> None:
    worker = tables.coordinator()
    tables.fail(worker, tables.problems[0])
    tables.execute("UPDATE problems SET touched_at = 'epoch'")
    due = tables.database.run(lambda connection: sweep.due_coordination(connection, 1.0))
    assert sorted(one.problem_id for one in due) == tables.problems[1:]


def test_failed_problems_are_retried_by_cause(tables: Tables) -> None:
    worker = tables.coordinator()
    for problem in tables.problems[:2]:
        for _ in range(failed_decisions.MAX_ATTEMPTS):
            tables.fail(worker, problem)
    tables.execute("UPDATE problems SET failure_reason = replace(failure_reason, '17', '4') WHERE key = 'p1'")
    tables.execute(
        "UPDATE problems SET state = 'failed', failure_reason = 'all are invalid', finished_at = now() WHERE key = 'p2'"
    )

    def causes() -> list[tuple[int, str, bool]]:
        found = tables.database.run(lambda connection: failure_causes(connection, 1, 5))
        return [(cause.count, cause.key, cause.is_technical) for cause in found]

    assert causes() == [(2, "p0", True), (1, "p2", False)]

    def retry(reason: str) -> int:
        return tables.database.run(lambda connection: retry_failed(connection, "run", reason=reason)).count

    assert retry("a cause that nothing had") == 0
    assert retry("the decision failed 99 times: OSError: x 1") == 2
    assert causes() == [(1, "p2", False)]
    assert tables.row(tables.problems[0], "decision_attempts, decision_due_at, decision_error") == (0, None, None)
