"""Checks of a coordinator on a machine whose processes end."""

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
from cord_worker.coordination.stuck_threads import ThreadWatch, WatchedWork
from cord_worker.coordination.transactions import TRANSACTION
from cord_worker.dataset import ProblemRecord
from cord_worker.store.database import Database
from cord_worker.store.schema.kinds import VERIFY
from cord_worker.store.schema.tables import WorkerRole
from cord_worker.store.work import sweep, workers
from cord_worker.verify import AnswerChecker
from cord_worker.verify import checker as verifying
from tests.support.answered import enqueue_answered

CONFIG = RunConfig.model_validate(
    {
        "models": {"m": {"path": "m", "engine": "instant"}},
        "teachers": [{"name": "first", "model": "m"}],
        "prover": {"model": "m"},
        "verify": {"method": "math"},
        "run": {"max_attempts": 4},
    }
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
        enqueue_answered(connection, CONFIG, records, "The final answer is 4.")
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


def test_a_coordinator_whose_processes_do_not_start_steps_back_until_they_do(
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


@pytest.mark.long
def test_a_check_that_kills_its_own_process_is_undecided_after_its_attempts(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verifying, "_compare_and_add_type", _end)
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


def test_a_lease_unknown_to_its_coordinator_is_returned(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "_UNKNOWN_LEASE_SECONDS", 0.0)
    holder = place.rows("SELECT id FROM workers")[0]
    place.rows(f"UPDATE trajectories SET answer_state = 'checking', check_worker_id = '{holder}' RETURNING id")
    place.database.run(place.checks.reconcile)
    assert place.rows("SELECT answer_state FROM trajectories") == ["written", "written"]
    due = place.database.run(lambda c: sweep.due_coordination(c, -1.0))
    assert {one.kind for one in due} == {VERIFY}


@pytest.mark.parametrize("point", ["claim check_answer", "finish check_answer"])
def test_checks_that_are_stuck_in_a_commit_are_noticed(
    place: Place, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another coordinator can only do the checks that this one returns."""
    monkeypatch.setattr(faults, "_faults", (faults._Fault.parse(f"{point}:hang:1"),))
    monkeypatch.setattr(checking, "_CLOSE_SECONDS", 0.1)
    with _watched(place) as stuck:
        place.checks.verify(place.problems[0])
        place.wait(lambda: TRANSACTION in stuck)
    assert place.done() == 0


def test_checks_that_wait_for_a_lock_are_noticed_and_continue(place: Place) -> None:
    with _watched(place) as stuck:
        with place.database.transaction() as other:
            other.execute(sa.text("LOCK TABLE trajectories IN ACCESS EXCLUSIVE MODE"))
            place.checks.verify(place.problems[0])
            place.wait(lambda: TRANSACTION in stuck)
        place.wait(lambda: place.done() == 1)
    assert place.rows("SELECT correct FROM trajectories WHERE correct IS NOT NULL") == [True]


@contextmanager
def _watched(place: Place) -> Iterator[list[str]]:
    """Where the thread of checks was stuck for a second; that of an earlier test may be stuck forever."""
    stuck: list[str] = []
    own = place.checks._thread.ident

    def note(work: WatchedWork) -> None:
        if work.thread == own:
            stuck.append(work.what)

    with ThreadWatch(1.0, describe=lambda _, topic: None, on_stuck=note):  # noqa: ARG005
        yield stuck
