"""Other faults of a coordinator are no failures of its decisions; sound coordinators take what a broken one cannot."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from cord_worker.config import RunConfig, Settings
from cord_worker.coordination.celery.app import create_app
from cord_worker.coordination.coordinator.coordinator import Coordinator
from cord_worker.coordination.fault_points import VARIABLE, arm
from cord_worker.coordination.messaging.messenger import Messenger
from cord_worker.coordination.messaging.routing import Shards
from cord_worker.dataset import ProblemRecord
from cord_worker.store.database import Database
from cord_worker.store.runs.admission import admit
from cord_worker.store.runs.enqueue import enqueue
from cord_worker.store.schema.tables import WorkerRole
from cord_worker.store.search.failed_decisions import MAX_ATTEMPTS
from cord_worker.store.work import workers
from cord_worker.verify import AnswerChecker

CONFIG = """
[models.m]
path = "m"
engine = "instant"
[[teachers]]
name = "t"
model = "m"
[prover]
model = "m"
[verify]
method = "exact"
[run]
max_active = 8
"""


class Place:
    """Four problems whose first decision is due, and coordinators in this process."""

    def __init__(self, database: Database, broker_url: str) -> None:
        self.database = database
        settings = Settings(key_prefix=f"cord-test-decisions-{os.getpid()}:")
        self.messenger = Messenger(create_app(broker_url, settings), Shards(database))
        self.conditions: list[str | None] = []
        config = RunConfig.parse(CONFIG, source="test", folder=Path.cwd())
        records = [ProblemRecord(f"p{n}", f"What is {n}?", str(n), None, {}, f"x:{n}") for n in range(4)]
        database.run(lambda connection: enqueue(connection, "run", config, records))
        self.problems = [due.problem_id for due in database.run(admit)]

    def coordinator(self, checker: AnswerChecker) -> Coordinator:
        worker = uuid.uuid4()

        def enter(connection: sa.Connection) -> None:
            workers.register(connection, worker, WorkerRole.COORDINATOR, hostname="h", pid=1, model_id=None)
            workers.mark_ready(connection, worker)

        self.database.run(enter)
        return Coordinator(
            self.database,
            self.messenger,
            checker,
            worker,
            pause_seconds=0.0001,
            describe=lambda condition, *, since=None: self.conditions.append(condition),  # noqa: ARG005
        )

    def column(self, name: str) -> list[object]:
        statement = sa.text(f"SELECT {name} FROM problems ORDER BY position")
        return list(self.database.run(lambda connection: connection.execute(statement).scalars()))


@pytest.fixture
def place(database: Database, broker_url: str) -> Place:
    return Place(database, broker_url)


@pytest.fixture
def checker() -> Iterator[AnswerChecker]:
    with AnswerChecker() as checker:
        yield checker


def break_decisions(monkeypatch: pytest.MonkeyPatch, plan: str) -> None:
    monkeypatch.setenv(VARIABLE, plan)
    arm()


@pytest.fixture(autouse=True)
def mended() -> Iterator[None]:
    yield
    os.environ.pop(VARIABLE, None)
    arm()


def test_checking_processes_that_cannot_be_started_fail_no_decision(place: Place, checker: AnswerChecker) -> None:
    checker.close()  # `warm_up` raises
    place.coordinator(checker).advance(place.problems[0])
    assert place.column("step")[0] == 1
    assert place.column("decision_attempts") == [0] * 4


def test_the_only_problem_that_cannot_be_decided_is_given_up_and_the_others_continue(
    place: Place, checker: AnswerChecker
) -> None:
    place.database.run(
        lambda connection: connection.execute(
            sa.text("UPDATE problems SET decision_due_at = now(), decision_attempts = :n WHERE position = 0"),
            {"n": MAX_ATTEMPTS - 1},
        )
    )
    coordinator = place.coordinator(checker)
    os.environ[VARIABLE] = "advance:raise:1"
    arm()
    for problem in place.problems:
        coordinator.advance(problem)
    assert place.column("state") == ["failed", "searching", "searching", "searching"]
    assert place.column("step") == [0, 1, 1, 1]
    assert str(place.column("failure_reason")[0]).startswith(f"the decision failed {MAX_ATTEMPTS} times: InjectedFault")
    assert place.conditions == []


def test_a_coordinator_whose_decisions_all_fail_reports_it_and_continues_when_it_can(
    place: Place, checker: AnswerChecker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    break_decisions(monkeypatch, "advance:raise:1-1000")
    caplog.clear()
    coordinator = place.coordinator(checker)
    for _ in range(50):
        for problem in place.problems:
            coordinator.advance(problem)
        coordinator.retry_decisions()
    assert place.column("state") == ["searching"] * 4, "none is given up"
    assert [record.levelname for record in caplog.records].count("CRITICAL") == 1
    assert place.conditions
    assert all(condition is not None and "InjectedFault" in condition for condition in place.conditions)
    monkeypatch.delenv(VARIABLE)
    arm()
    for _ in range(10_000):
        coordinator.retry_decisions()
        if place.column("step") == [1] * 4:
            break
    assert place.column("step") == [1] * 4
    assert place.conditions[-1] is None
    assert place.column("decision_due_at") == [None] * 4


def test_a_decision_sent_to_a_broken_coordinator_is_taken_by_another(
    place: Place, checker: AnswerChecker, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, sound = place.coordinator(checker), place.coordinator(checker)
    break_decisions(monkeypatch, "advance:raise:1-1000")
    for problem in place.problems:
        broken.advance(problem)
    monkeypatch.delenv(VARIABLE)
    arm()
    for _ in range(10_000):
        sound.retry_decisions()
        if place.column("step") == [1] * 4:
            break
    assert place.column("step") == [1] * 4
    assert place.column("decision_attempts") == [0] * 4
