"""A kind of work is one row of facts, one file of SQL and one handler: here one is added without any other change."""

from __future__ import annotations

import asyncio
import functools
import itertools
import sys
import threading
import traceback
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

import cord_worker
from cord_worker.config import RunConfig, Settings
from cord_worker.coordination.celery import tasks
from cord_worker.coordination.celery.app import create_app
from cord_worker.coordination.fault_points import all_points
from cord_worker.coordination.messaging.messenger import Messenger, urgency_of
from cord_worker.coordination.messaging.routing import Shards
from cord_worker.coordination.model_worker.handler import AnyEngineHandler, Host
from cord_worker.coordination.model_worker.worker import ModelWorker
from cord_worker.coordination.run_context import RunContext
from cord_worker.dataset import ProblemRecord
from cord_worker.engines.instant import InstantEngine
from cord_worker.store.database import Database
from cord_worker.store.reports.backlog import read_backlog
from cord_worker.store.runs.admission import admit
from cord_worker.store.runs.enqueue import enqueue
from cord_worker.store.schema import kinds
from cord_worker.store.schema.kinds import WorkKind
from cord_worker.store.work import sweep, workers
from cord_worker.store.work.leases import claim_statement, claimed_from, count_dropped, field_arrays, is_held
from cord_worker.store.work.returning import reclaim, return_all
from cord_worker.store.work.values import Claimed, Due, Outcome
from tests.support.rows import registered

CONFIG = RunConfig.model_validate(
    {
        "models": {"one": {"path": "one", "engine": "instant"}},
        "teachers": [{"name": "first", "model": "one"}],
        "prover": {"model": "one"},
    }
)
MODEL = CONFIG.prover_model.fingerprint()
PACKAGE = str(Path(cord_worker.__file__).parent)

# The row:
GREET = WorkKind(
    name="greet",
    noun="greeting",
    urgency=3,
    table="candidates",
    state="greeting_state",
    waiting=("due",),
    working="greeting",
    worker="greeting_worker_id",
    attempts="greeting_attempts",
    problem_state="searching",
    model="r.prover_model_id",
    worker_class=f"{__name__}:Greet",
    given_up="'greeting was given up after '",
)

# The file of SQL:
_CLAIM = claim_statement(GREET)
_FINISH = sa.text(
    f"""
    UPDATE candidates c SET greeting_state = 'done', greeting = r.text
    FROM unnest(CAST(:candidate_id AS bigint[]), CAST(:attempt AS int[]), CAST(:text AS text[])) AS r(id, attempt, text)
    WHERE {is_held(GREET)} RETURNING c.problem_id
    """
)


@dataclass(frozen=True, slots=True)
class LeasedGreeting:
    problem_id: int
    run_id: int
    candidate_id: int
    attempt: int
    question: str


@dataclass(frozen=True, slots=True)
class GreetingResult:
    candidate_id: int
    attempt: int
    text: str
    invalid_reason: None = None


def claim(
    connection: sa.Connection, problem_ids: Sequence[int], *, worker_id: uuid.UUID, model: str, exclusive: bool = False
) -> Claimed:
    asked = {"problem_ids": sorted(set(problem_ids)), "worker_id": worker_id, "model": model, "exclusive": exclusive}
    return claimed_from(connection.execute(_CLAIM, asked), lambda row: LeasedGreeting(**row._mapping))


def finish(connection: sa.Connection, results: Sequence[GreetingResult], *, worker_id: uuid.UUID) -> Outcome:
    rows = connection.execute(_FINISH, {"worker_id": worker_id, **field_arrays(GreetingResult, results)}).all()
    due = tuple(Due(kinds.ADVANCE, row.problem_id, 0) for row in rows)
    return Outcome(due, count_dropped(connection, worker_id, len(results) - len(rows)))


# The handler:
class Greet(AnyEngineHandler):
    finishes_at_once = True

    def __init__(self, host: Host) -> None:
        self.claim = functools.partial(claim, worker_id=host.worker_id, model=host.model)
        self.finish = functools.partial(finish, worker_id=host.worker_id)

    async def handle(self, lease: LeasedGreeting, context: RunContext) -> GreetingResult:
        return GreetingResult(lease.candidate_id, lease.attempt, f"Hello, {lease.question} {context.run_id}")


@pytest.fixture
def problem(database: Database, monkeypatch: pytest.MonkeyPatch) -> int:
    """A problem with one candidate that waits for its greeting."""
    monkeypatch.setattr(kinds, "KINDS", [*kinds.KINDS, GREET])
    new_columns = """
        ALTER TABLE candidates ADD greeting_state text DEFAULT 'due', ADD greeting_worker_id uuid,
        ADD greeting_attempts int NOT NULL DEFAULT 0, ADD greeting text
    """
    row = """
        INSERT INTO candidates (problem_id, step, round, parent_rank, depth, teacher_id, sample, seed, max_tokens,
                                lineage, whole, state, touched_at)
        SELECT :id, 1, 0, 0, 1, t.id, 0, 1, 10, 'l', false, 'proposing', 'epoch' FROM teachers t
    """

    def prepare(connection: sa.Connection) -> int:
        enqueue(connection, "run", CONFIG, [ProblemRecord("p", "What?", "2", None, {}, "data.jsonl:1")])
        problem_id = admit(connection)[0].problem_id
        connection.execute(sa.text(new_columns))
        connection.execute(sa.text(row), {"id": problem_id})
        return problem_id

    return database.run(prepare)


def scalar(database: Database, query: str) -> object:
    return database.run(lambda connection: connection.execute(sa.text(query)).scalar_one())


def test_a_new_kind_is_due_waiting_and_in_the_backlog(database: Database, problem: int) -> None:
    assert database.run(lambda c: sweep.due_model_work(c, [MODEL], 60.0)) == [Due("greet", problem, 0, MODEL)]
    assert database.run(sweep.waiting_messages) == {MODEL: 1}
    assert ("greeting", MODEL, 1, 0) in [
        (one.kind, one.model, one.waiting, one.in_work) for one in database.run(lambda c: read_backlog(c, 1))
    ]


def test_leases_of_a_new_kind_are_returned_and_those_of_lost_workers_reclaimed(
    database: Database, problem: int
) -> None:
    first = registered(database)
    assert len(database.run(lambda c: claim(c, [problem], worker_id=first, model=MODEL), single=True).leases) == 1
    assert scalar(database, "SELECT greeting_state FROM candidates") == "greeting"
    assert database.run(lambda c: return_all(c, [first], forgiven=True)) == 1
    assert scalar(database, "SELECT greeting_attempts FROM candidates") == 0
    database.run(lambda c: claim(c, [problem], worker_id=first, model=MODEL), single=True)
    database.run(lambda c: workers.mark_stopped(c, first, "lost"))
    assert database.run(reclaim) == 1
    assert scalar(database, "SELECT greeting_state || greeting_attempts FROM candidates") == "due1"


def test_work_of_a_new_kind_that_keeps_failing_fails_its_problem_with_the_kinds_reason(
    database: Database, problem: int
) -> None:
    database.run(lambda c: c.execute(sa.text("UPDATE candidates SET greeting_attempts = 99")))
    (parked,) = database.run(sweep.exhausted)
    assert (parked.problem_id, parked.reason.partition(":")[0]) == (problem, "greeting was given up after 99 attempts")


def test_a_new_kind_has_a_task_an_urgency_and_fault_points(problem: int) -> None:
    del problem
    assert "cord.greet" in tasks._model_worker_tasks()
    assert urgency_of("greet") == GREET.urgency
    assert {"claim greet", "finish greet", "send greet"} <= set(all_points())


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@contextmanager
def working(database: Database, loop: asyncio.AbstractEventLoop) -> Iterator[ModelWorker]:
    messenger = Messenger(create_app("memory://", Settings()), Shards(database))
    worker = ModelWorker(database, messenger, InstantEngine(), loop, registered(database), MODEL, width=4)
    yield worker
    worker.close()


def test_a_worker_does_the_new_kind_of_work(database: Database, problem: int, loop: asyncio.AbstractEventLoop) -> None:
    with working(database, loop) as worker:
        assert worker.handle("greet", problem) == 1
        assert worker.handle("greet", problem) == 0
    assert scalar(database, "SELECT greeting FROM candidates") == "Hello, What? 1"


@pytest.mark.parametrize("step", ["claim", "finish"])
def test_the_calls_from_the_task_to_the_sql_are_few_and_return_to_no_file(
    database: Database, problem: int, loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """At most eight frames of this package, that of the SQL file included."""
    ways: list[list[str]] = []
    module = sys.modules[__name__]
    function = getattr(module, step)

    def watched(connection: sa.Connection, *arguments: Any, **options: Any) -> Any:
        ways.append([frame.filename for frame in traceback.extract_stack() if frame.filename.startswith(PACKAGE)])
        return function(connection, *arguments, **options)

    monkeypatch.setattr(module, step, watched)
    with working(database, loop) as worker:
        monkeypatch.setattr(tasks.PROCESS, "model_worker", worker)
        app = create_app("memory://", Settings())
        app.tasks["cord.greet"].apply(kwargs={"problem_id": problem, "step": 0}, throw=True)
    assert scalar(database, "SELECT greeting FROM candidates") == "Hello, What? 1"
    (way, *_) = ways
    assert len(way) + 1 <= 8, way
    visited = [name for name, _ in itertools.groupby(way)]
    assert len(visited) == len(set(visited)) >= 4, visited
