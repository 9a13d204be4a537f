"""What a coordinator does with checks on a machine whose processes end."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from cord_worker.config import RunConfig, Settings
from cord_worker.coordination import fault_points as faults
from cord_worker.coordination.celery.app import create_app
from cord_worker.coordination.coordinator import check_answers as checking
from cord_worker.coordination.coordinator.check_answers import AnswerChecks
from cord_worker.coordination.messaging.messenger import Messenger
from cord_worker.coordination.messaging.routing import Shards
from cord_worker.coordination.stuck_threads import ThreadWatch, Work
from cord_worker.coordination.transactions import TRANSACTION
from cord_worker.dataset import ProblemRecord
from cord_worker.store.database import Database
from cord_worker.store.runs.enqueue import enqueue
from cord_worker.store.schema.kinds import VERIFY
from cord_worker.store.schema.tables import WorkerRole
from cord_worker.store.work import sweep, workers
from cord_worker.verify import AnswerChecker
from cord_worker.verify import checker as verifying

CONFIG = RunConfig.model_validate(
    {
        "models": {"m": {"path": "m", "engine": "instant"}},
        "teachers": [{"name": "first", "model": "m"}],
        "prover": {"model": "m"},
        "verify": {"method": "math"},
        "run": {"max_attempts": 4},
    }
)

_ANSWERED = (
    """
    INSERT INTO candidates (problem_id, parent_rank, step, depth, round, teacher_id, sample, lineage, seed, max_tokens,
                            whole, state, text, score)
    SELECT p.id, 0, 1, 1, 0, t.id, 0, 'l' || p.id, 0, 8, false, 'scored', 'a step', 0.5
    FROM problems p JOIN teachers t ON t.run_id = p.run_id
    """,
    """
    INSERT INTO trajectories (problem_id, candidate_id, steps, score, finish, winner, answer_state, answer_text)
    SELECT c.problem_id, c.id, 1, 0.5, 'think_end', true, 'written', 'The final answer is 4.' FROM candidates c
    """,
    "UPDATE problems SET state = 'verifying'",
)


class Place:
    """Two problems whose answers are written, and the checks of a coordinator."""

    def __init__(self, database: Database, checks: AnswerChecks, said: list[str | None]) -> None:
        self.database = database
        self.checks = checks
        self.said = said
        self.problems = self.rows("SELECT id FROM problems ORDER BY id")

    def rows(self, statement: str) -> list[Any]:
        return list(self.database.run(lambda c: c.execute(sa.text(statement)).scalars()))

    def wait(self, condition: Callable[[], bool], seconds: float = 90.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, self.said
            time.sleep(0.05)

    def done(self) -> int:
        return len(self.rows("SELECT id FROM problems WHERE state = 'done'"))


@pytest.fixture
def place(database: Database) -> Iterator[Place]:
    def write(connection: sa.Connection) -> None:
        records = [ProblemRecord(key, f"2 + 2? {key}", "4", None, {}, "d:1") for key in ("first", "second")]
        enqueue(connection, "run", CONFIG, records)
        for statement in _ANSWERED:
            connection.execute(sa.text(statement))
        workers.register(connection, worker, WorkerRole.COORDINATOR, hostname="here", pid=1, model_id=None)

    worker, said = uuid.uuid4(), list[str | None]()
    database.run(write)
    app = create_app("redis://127.0.0.1:1/0", Settings())
    with AnswerChecker() as checker:
        checks = AnswerChecks(
            database,
            Messenger(app, Shards(database)),
            checker,
            worker,
            describe=lambda text, since=None: said.append(text),  # noqa: ARG005 - as `Describe` is called
            admit=lambda: None,
        )
        yield Place(database, checks, said)
        checks.close()


def test_a_coordinator_whose_processes_do_not_start_steps_back_and_goes_on_when_they_do(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "sitecustomize.py"
    broken.write_text("import os\nos._exit(3)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    for problem in place.problems:
        place.checks.verify(problem)
    place.wait(lambda: len(place.said) >= 2)
    assert all(text is not None and "cannot check answers: processes cannot be started" in text for text in place.said)
    assert place.rows("SELECT answer_state || check_attempts FROM trajectories") == ["written0", "written0"]
    assert place.done() == 0

    broken.unlink()
    place.wait(lambda: place.done() == 2)
    assert place.said[-1] is None
    assert place.rows("SELECT correct FROM trajectories") == [True, True]


def _end(generated: str, *_: object) -> object:
    if generated:
        os._exit(9)
    return None


def test_a_check_that_ends_its_process_alone_is_undecided_after_its_attempts(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verifying, "_compared", _end)
    first, _ = place.problems
    for attempts in (2, 4):
        place.checks.verify(first)
        attempted = f"SELECT id FROM trajectories WHERE check_attempts = {attempts} AND answer_state = 'written'"
        place.wait(lambda attempted=attempted: bool(place.rows(attempted)))
    place.wait(lambda: place.done() == 1)
    assert place.rows("SELECT verification ->> 'method' FROM trajectories WHERE verification IS NOT NULL") == [
        "crashed"
    ]
    assert place.said == []


def test_a_lease_that_nobody_here_knows_goes_back(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "_FORGOTTEN_SECONDS", 0.0)
    holder = place.rows("SELECT id FROM workers")[0]
    place.rows(f"UPDATE trajectories SET answer_state = 'checking', check_worker_id = '{holder}' RETURNING id")
    place.database.run(place.checks.reconcile)
    assert place.rows("SELECT answer_state FROM trajectories") == ["written", "written"]
    due = place.database.run(lambda c: sweep.due_coordination(c, -1.0))
    assert {one.kind for one in due} == {VERIFY}


@pytest.mark.parametrize("point", ["claim check_answer", "finish check_answer"])
def test_checks_that_stand_still_in_a_commit_are_noticed(
    place: Place, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another coordinator can only do what this one gives up."""
    monkeypatch.setattr(faults, "_faults", (faults._Fault.parse(f"{point}:hang:1"),))
    monkeypatch.setattr(checking, "_CLOSE_SECONDS", 0.1)
    with _watched(place) as stuck:
        place.checks.verify(place.problems[0])
        place.wait(lambda: TRANSACTION in stuck)
    assert place.done() == 0


def test_checks_that_wait_for_a_lock_are_noticed_and_go_on(place: Place) -> None:
    with _watched(place) as stuck:
        with place.database.transaction() as other:
            other.execute(sa.text("LOCK TABLE trajectories IN ACCESS EXCLUSIVE MODE"))
            place.checks.verify(place.problems[0])
            place.wait(lambda: TRANSACTION in stuck)
        place.wait(lambda: place.done() == 1)


@contextmanager
def _watched(place: Place) -> Iterator[list[str]]:
    """What the thread of checks stood still at for a second; that of an earlier test may stand still for ever."""
    stuck: list[str] = []
    own = place.checks._thread.ident

    def note(work: Work) -> None:
        if work.thread == own:
            stuck.append(work.what)

    with ThreadWatch(1.0, describe=lambda _, topic: None, on_stuck=note):  # noqa: ARG005
        yield stuck
