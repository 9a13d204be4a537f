"""What a run waits for, in the words of status."""

from __future__ import annotations

from datetime import UTC, datetime

from cord_worker.operations.waits import waits
from cord_worker.progress import Condition
from cord_worker.store.reports.backlog import BacklogRow
from cord_worker.store.reports.status import LiveWorkers

NAMES = {"f1": "planner", "f2": "prover"}
NOW = datetime.now(UTC)


def owed(model: str | None, kind: str = "proposal", *, waiting: int = 0, in_work: int = 0) -> BacklogRow:
    return BacklogRow(kind, model, "some/path", waiting, in_work, 75.0 if in_work else None)


def live(model: str | None, *, ready: int) -> LiveWorkers:
    return LiveWorkers("coordinator" if model is None else "model", model, "some/path", 1, ready)


def said(
    *pieces: BacklogRow, workers: list[LiveWorkers], starting: bool = False, text: str | None = None
) -> dict[str, str]:
    conditions = [] if text is None else [Condition("planner", "host:1", text, NOW, 130.0)]
    return waits(pieces, workers, conditions, NAMES, are_starting=starting)


def test_the_cause_is_the_workers_own_condition() -> None:
    assert said(owed("f1", waiting=12), workers=[live("f1", ready=0)], text="loads its model\x1b") == {
        "planner": "loads its model\\x1b (for 2:10; 12 proposals)"
    }


def test_a_model_without_a_worker_is_named_as_such_unless_this_command_starts_one() -> None:
    assert said(owed("f2", "score", waiting=1), workers=[]) == {"prover": "has NO WORKER (1 score)"}
    assert said(owed("f2", "score", waiting=1), workers=[live("f1", ready=1)], starting=True) == {
        "prover": "is being started (1 score)"
    }
    assert said(owed("f2", "score", waiting=1), workers=[live("f2", ready=0)]) == {"prover": "starts (1 score)"}


def test_workers_that_this_command_starts_are_named_before_there_is_work_for_them() -> None:
    assert said(owed(None, "admission", waiting=1), workers=[live(None, ready=1)], starting=True) == {
        "coordinator": "has 1 problem to begin, not started yet",
        "planner": "is being started",
        "prover": "is being started",
    }


def test_a_silent_worker_is_not_reported_as_starting() -> None:
    pieces = [owed("f1", waiting=1)]
    assert waits(pieces, [live("f2", ready=1)], [], NAMES, are_starting=True, seen={"f1", "f2"}) == {
        "planner": "gives no sign of life (1 proposal)"
    }


def test_work_that_takes_long_says_for_how_long() -> None:
    pieces = owed("f1", waiting=3, in_work=2), owed("f1", "answer", waiting=1)
    assert said(*pieces, workers=[live("f1", ready=1)]) == {
        "planner": "has 5 proposals, 1 answer, 2 in work (for 1:15)",
    }


def test_work_for_coordinators_has_its_own_line() -> None:
    assert said(owed(None, "admission", waiting=40), workers=[live("f1", ready=1)]) == {
        "coordinator": "has NO WORKER (40 problems to begin)"
    }
    assert said(owed(None, "decision", waiting=1), workers=[live(None, ready=1)]) == {
        "coordinator": "has 1 decision, not started yet"
    }
