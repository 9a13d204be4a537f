"""Failed problems continue in the state that their rows imply; a removed run leaves nothing behind."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from cord_worker.config import RunConfig
from cord_worker.dataset import ProblemRecord
from cord_worker.errors import RunConflict, RunNotFound, StoreError
from cord_worker.search import cord
from cord_worker.search.decision import Fail
from cord_worker.search.types import Candidate, SeedScope
from cord_worker.store.database import Database
from cord_worker.store.reports.failure_causes import failure_causes
from cord_worker.store.runs import lifecycle, removal
from cord_worker.store.runs.admission import admit
from cord_worker.store.runs.enqueue import enqueue
from cord_worker.store.runs.retry import Retried, restart_failed, retry_failed
from cord_worker.store.schema.kinds import PROPOSE, SCORE
from cord_worker.store.schema.tables import WorkerRole
from cord_worker.store.search import decisions
from cord_worker.store.work import propose, sweep, workers
from tests.support.rows import SMALL_SEARCH

CONFIG = RunConfig.model_validate(
    {
        "models": {"m": {"path": "m", "engine": "instant"}},
        "teachers": [{"name": "first", "model": "m"}, {"name": "second", "model": "m"}],
        "prover": {"model": "m"},
    }
)
MODEL = CONFIG.models["m"].fingerprint()


def execute(database: Database, statement: str, **parameters: Any) -> None:
    database.run(lambda connection: connection.execute(sa.text(statement), parameters))


def rows(database: Database, statement: str) -> list[tuple[Any, ...]]:
    return database.run(lambda connection: [tuple(row) for row in connection.execute(sa.text(statement))])


def plan(database: Database, run: str = "run", problems: int = 3) -> int:
    """A run whose problems have begun their first step, two candidates each; returns its key."""

    def work(connection: sa.Connection) -> int:
        records = [ProblemRecord(f"p{n}", f"What is {n}?", str(n), None, {}, f"x:{n}") for n in range(problems)]
        run_id = enqueue(connection, run, CONFIG, records).run_id
        teachers = connection.execute(sa.text("SELECT id FROM teachers WHERE run_id = :id"), {"id": run_id}).scalars()
        teacher_ids = list(teachers)
        for due in admit(connection):
            snapshot = decisions.lock_problem(connection, due.problem_id)
            assert snapshot is not None
            expansion = cord.initial(SMALL_SEARCH, SeedScope(0, snapshot.key), ["first", "second"])
            decisions.write_expand(connection, snapshot, expansion, teacher_ids)
        return run_id

    return database.run(work)


def fail_all(database: Database) -> None:
    execute(database, "UPDATE problems SET state = 'failed', failure_reason = 'x', finished_at = now()")


def retry(database: Database, *keys: str) -> Retried:
    return database.run(lambda connection: retry_failed(connection, "run", keys))


def final(database: Database, problem: int = 1) -> None:
    execute(
        database,
        """
        UPDATE candidates SET state = 'scored', text = 'x', score = 0.5, propose_attempts = 1, score_attempts = 1
        WHERE problem_id = :problem
        """,
        problem=problem,
    )
    execute(database, "UPDATE problems SET outstanding = 0 WHERE id = :problem", problem=problem)


def finished(answer_state: str) -> Callable[[Database], None]:
    def write(database: Database) -> None:
        final(database)
        execute(
            database,
            """
            INSERT INTO trajectories (problem_id, candidate_id, steps, finish, answer_state, answer_attempts)
            SELECT problem_id, id, 1, 'eos', :state, 5 FROM candidates WHERE problem_id = 1 ORDER BY id LIMIT 1
            """,
            state=answer_state,
        )

    return write


def under_way(database: Database) -> None:
    execute(database, "UPDATE candidates SET state = 'proposing' WHERE id = 1")


def not_begun(database: Database) -> None:
    execute(database, "DELETE FROM candidates WHERE problem_id = 1")
    execute(database, "UPDATE problems SET step = 0, outstanding = 0 WHERE id = 1")


@pytest.mark.parametrize(
    ("prepare", "state"),
    [
        (under_way, "searching"),
        (final, "searching"),
        (finished("none"), "searching"),
        (finished("pending"), "answering"),
        (finished("writing"), "answering"),
        (finished("written"), "verifying"),
        (finished("judged"), "verifying"),
        (not_begun, "queued"),
    ],
    ids=[
        *("a step under way", "a step to be decided", "a loser that is finished", "an answer that is owed"),
        *("an answer that is written", "an answer to verify", "a judged answer", "not begun"),
    ],
)
def test_a_problem_continues_in_the_state_that_its_rows_imply(
    database: Database, prepare: Callable[[Database], None], state: str
) -> None:
    plan(database, problems=1)
    prepare(database)
    before = rows(database, "SELECT id, state, text, score FROM candidates ORDER BY id")
    fail_all(database)
    assert retry(database).problems == {state: 1}
    assert rows(database, "SELECT state, failure_reason, finished_at FROM problems") == [(state, None, None)]
    assert rows(database, "SELECT id, state, text, score FROM candidates ORDER BY id") == before


def test_only_waiting_rows_restart_their_attempts(database: Database) -> None:
    plan(database, problems=1)
    execute(database, "UPDATE candidates SET propose_attempts = 5 WHERE id = 2")
    execute(database, "UPDATE candidates SET state = 'proposed', propose_attempts = 3, score_attempts = 5 WHERE id = 1")
    fail_all(database)
    retry(database)
    attempts = rows(database, "SELECT propose_attempts, score_attempts FROM candidates ORDER BY id")
    assert attempts == [(3, 0), (0, 0)]
    model = CONFIG.models["m"].fingerprint()
    owed = database.run(lambda connection: sweep.due_model_work(connection, [model], 20.0))
    assert {due.kind for due in owed} == {PROPOSE.name, SCORE.name}


def test_a_lease_of_a_living_worker_stays_and_one_of_a_dead_worker_is_returned(database: Database) -> None:
    plan(database, problems=2)
    living, dead = uuid.uuid4(), uuid.uuid4()
    for worker_id in (living, dead):
        database.run(
            lambda c, w=worker_id: workers.register(c, w, WorkerRole.MODEL, hostname="here", pid=1, model_id=None)
        )
    for worker_id, problem in ((living, 1), (dead, 2)):
        claimed = database.run(
            lambda c, w=worker_id, p=problem: propose.claim(c, [p], worker_id=w, model=MODEL), single=True
        )
        assert claimed.leases
    database.run(lambda connection: workers.mark_stopped(connection, dead, "lost"))
    fail_all(database)
    retry(database)
    of_first = rows(database, "SELECT state, propose_attempts FROM candidates WHERE teacher_id = 1 ORDER BY problem_id")
    assert of_first == [("proposing", 1), ("pending", 0)]


def test_only_the_named_problems_continue_and_a_second_retry_finds_none(database: Database) -> None:
    plan(database)
    fail_all(database)
    execute(database, "UPDATE problems SET state = 'done' WHERE key = 'p2'")
    first = retry(database, "p0", "p2")
    assert (first.problems, first.left_alone) == ({"searching": 1}, {"p2": "done"})
    assert rows(database, "SELECT key FROM problems WHERE state = 'failed'") == [("p1",)]
    assert retry(database, "p0").left_alone == {"p0": "searching"}
    assert retry(database).count == 1
    assert retry(database).count == 0


NO_ROOM = cord.decide(
    SMALL_SEARCH,
    SeedScope(0, "p"),
    ["first"],
    step=1,
    round=0,
    beam=(),
    candidates=[
        Candidate(
            **{
                name: getattr(item, name) for name in ("parent_id", "parent_rank", "step", "round", "teacher", "sample")
            },
            id=1,
            lineage=item.lineage,
            text="",
            finish_reason=None,
            score=None,
            thinking_tokens=None,
            invalid_reason="too_long",
            depth=1,
        )
        for item in cord.initial(SMALL_SEARCH, SeedScope(0, "p"), ["first"]).expansions
    ],
    spent=0,
)
LOOP = (
    "all 3 candidates of step 1 are invalid in the last of 2 rounds (3 loop), and no finished trajectory holds a slot"
)


def test_problems_that_will_fail_the_same_way_again_are_counted(database: Database) -> None:
    assert isinstance(NO_ROOM, Fail)
    plan(database)
    execute(database, "UPDATE problems SET outstanding = 0")

    def fail() -> None:
        fail_all(database)
        execute(database, "UPDATE problems SET failure_reason = :reason WHERE key = 'p0'", reason=NO_ROOM.reason)
        execute(database, "UPDATE problems SET failure_reason = :reason WHERE key = 'p1'", reason=LOOP)

    fail()
    causes = database.run(lambda connection: failure_causes(connection, 1, 5))
    assert [(one.key, one.repeats, one.repeats_from_scratch) for one in causes] == [
        ("p0", True, True),
        ("p1", True, False),
        ("p2", False, False),
    ]
    found = retry(database)
    assert (found.count, found.repeating, found.hopeless) == (3, 2, 1)
    fail()
    restarted = database.run(lambda connection: restart_failed(connection, "run"))
    assert (restarted.count, restarted.repeating, restarted.hopeless) == (3, 1, 1)


def test_an_unknown_problem_and_a_cancelled_run_are_refused(database: Database) -> None:
    plan(database)
    fail_all(database)
    with pytest.raises(StoreError, match=r"run 'run' has no problem 'p8', 'p9'; ids are those of its dataset"):
        retry(database, "p9", "p0", "p8")
    assert rows(database, "SELECT count(*) FROM problems WHERE state = 'failed'") == [(3,)]
    with pytest.raises(RunNotFound):
        database.run(lambda connection: retry_failed(connection, "other"))
    database.run(lambda connection: lifecycle.cancel_run(connection, "run"))
    with pytest.raises(RunConflict, match="cancelled"):
        retry(database)


def test_a_restarted_problem_has_no_rows_left_and_is_queued(database: Database) -> None:
    plan(database)
    fail_all(database)
    begun = database.run(lambda connection: restart_failed(connection, "run", ["p1"]))
    assert begun.problems == {"queued": 1}
    assert rows(database, "SELECT problem_id, count(*) FROM candidates GROUP BY 1 ORDER BY 1") == [(1, 2), (3, 2)]
    restarted = "SELECT state, step, outstanding, admitted_at, failure_reason FROM problems WHERE key = 'p1'"
    assert rows(database, restarted) == [("queued", 0, 0, None, None)]


def test_removing_a_run_leaves_nothing_behind_and_other_runs_unchanged(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removal, "BATCH_PROBLEMS", 2)
    plan(database, "other", 2)
    finished("written")(database)
    tables = ("runs", "teachers", "problems", "candidates", "trajectories", "models")
    before = {table: rows(database, f"SELECT * FROM {table} ORDER BY id") for table in tables}
    plan(database, "run", 5)
    assert rows(database, "SELECT count(*) FROM candidates") == [(14,)]
    with pytest.raises(RunConflict, match=r"active with 5 unfinished.*cordctl cancel run.*cordctl pause run"):
        removal.remove_run(database, "run")
    database.run(lambda connection: lifecycle.pause_run(connection, "run"))
    removed = removal.remove_run(database, "run")
    assert (removed.problems, removed.candidates) == (5, 10)
    assert {table: rows(database, f"SELECT * FROM {table} ORDER BY id") for table in tables} == before
    with pytest.raises(RunNotFound):
        removal.remove_run(database, "run")


def test_an_interrupted_removal_can_be_resumed(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    plan(database)
    fail_all(database)
    monkeypatch.setattr(removal, "BATCH_PROBLEMS", 1)
    batch, calls = removal._delete_batch, 0

    def interrupted(connection: sa.Connection, run_id: int) -> tuple[int, int] | None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        return batch(connection, run_id)

    monkeypatch.setattr(removal, "_delete_batch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        removal.remove_run(database, "run")
    assert rows(database, "SELECT r.state, count(*) FROM runs r JOIN problems p ON p.run_id = r.id GROUP BY 1") == [
        ("cancelled", 2)
    ]
    assert removal.remove_run(database, "run").problems == 2
    assert rows(database, "SELECT count(*) FROM runs") == [(0,)]
