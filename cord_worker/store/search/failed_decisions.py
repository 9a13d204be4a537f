"""Failed decisions: which coordinator tries them again and when, and when their problem is given up.

A decision is the same on every coordinator, so a failure is the coordinator's fault as often as the problem's: a wrong
installation, a full memory, a broken clock. The decision is tried again after a pause, by a coordinator that has not
failed at it if there is one. Times are by PostgreSQL's clock.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection

import sqlalchemy as sa

from cord_worker.store.schema.rollups import drop_rollups
from cord_worker.store.search.decisions import fail_problem

MAX_ATTEMPTS = 5
"""Failures of one decision after which its problem fails. It is not `run.max_attempts`, which counts lost workers: a
run on unreliable machines may allow many."""

LONGEST_PAUSE_SECONDS = 60.0
_PATIENCE_SECONDS = 60.0
"""Another coordinator should try a failed decision. If none has tried it for this long, any coordinator may."""

NO_FAILED_DECISION = "decision_attempts = 0, decision_failed_by = '{}', decision_error = NULL, decision_due_at = NULL"
"""SQL: assignments to columns of `problems` that clear the failures of a decision."""

# A due time further ahead than the longest pause counts as past, because PostgreSQL's clock was set back meanwhile.
_IS_TURN = f"""
    p.decision_due_at NOT BETWEEN now() AND now() + make_interval(secs => {LONGEST_PAUSE_SECONDS})
    AND (
        CAST(:worker_id AS uuid) <> ALL(p.decision_failed_by)
        OR p.decision_due_at < now() - make_interval(secs => {_PATIENCE_SECONDS})
        OR NOT EXISTS (
            SELECT 1 FROM workers w
            WHERE w.role = 'coordinator' AND w.stopped_at IS NULL AND w.ready_at IS NOT NULL
              AND w.drain_requested_at IS NULL AND (w.steps_back_until IS NULL OR w.steps_back_until < now())
              AND w.id <> ALL(p.decision_failed_by)
        )
    )
"""

_TURN_OF = sa.text(f"SELECT 1 FROM problems p WHERE p.id = :problem_id AND {_IS_TURN}")

_TO_TRY = sa.text(
    f"""
    SELECT p.id FROM problems p JOIN runs r ON r.id = p.run_id AND r.state = 'active'
    WHERE p.decision_due_at IS NOT NULL AND p.state = 'searching' AND p.outstanding = 0 AND {_IS_TURN}
    ORDER BY random() LIMIT :most
    """
)
"""In random order, because a coordinator that tries one problem at a time must not always try the same failing one."""

_FAILED_BY = """
    CASE WHEN CAST(:worker_id AS uuid) = ANY(decision_failed_by) THEN ARRAY[CAST(:worker_id AS uuid)]
         ELSE decision_failed_by || CAST(:worker_id AS uuid) END
"""
"""SQL: `decision_failed_by` with this coordinator. If it is in the list already, the list begins again with it
alone."""

_NOTE_FAILURE = sa.text(
    f"""
    UPDATE problems
    SET decision_attempts = decision_attempts + :counts, decision_error = :reason, touched_at = now(),
        decision_failed_by = {_FAILED_BY},
        decision_due_at = now() + make_interval(
            secs => least(CAST(:pause AS float8) * 2 ^ least(decision_attempts, 20), {LONGEST_PAUSE_SECONDS})
        )
    WHERE id = :problem_id AND state = 'searching' AND outstanding = 0
    RETURNING decision_attempts
    """
)

_PASS_ON = sa.text(
    f"""
    UPDATE problems
    SET touched_at = now(), decision_failed_by = {_FAILED_BY}, decision_due_at = coalesce(decision_due_at, now())
    WHERE id = :problem_id AND state = 'searching' AND outstanding = 0
      AND NOT (decision_due_at IS NOT NULL AND CAST(:worker_id AS uuid) = ANY(decision_failed_by))
    RETURNING id
    """
)

_FORGET = sa.text(f"UPDATE problems SET {NO_FAILED_DECISION} WHERE id = :problem_id")

_STEP_BACK = sa.text(
    """
    UPDATE workers SET steps_back_until = now() + make_interval(secs => CAST(:seconds AS float8))
    WHERE id = :worker_id
    """
)

_FORGIVE = sa.text(
    """
    UPDATE problems p
    SET state = 'searching', failure_reason = NULL, finished_at = NULL, decision_attempts = 0, touched_at = now()
    FROM runs r
    WHERE p.id = ANY(CAST(:ids AS bigint[])) AND p.state IN ('searching', 'failed') AND p.outstanding = 0
      AND CAST(:worker_id AS uuid) = ANY(p.decision_failed_by) AND r.id = p.run_id AND r.state <> 'cancelled'
    RETURNING p.id
    """
)
"""A problem that has failed meanwhile continues too: only those whose decision failed have a `decision_failed_by`."""


def is_turn_of(connection: sa.Connection, worker_id: uuid.UUID, problem_id: int) -> bool:
    """Whether this coordinator may now try this decision, which failed or was passed on before."""
    return connection.execute(_TURN_OF, {"worker_id": worker_id, "problem_id": problem_id}).one_or_none() is not None


def decisions_to_try(connection: sa.Connection, worker_id: uuid.UUID, most: int) -> list[int]:
    """Keys of problems whose decision this coordinator may now try again."""
    return list(connection.execute(_TO_TRY, {"worker_id": worker_id, "most": most}).scalars())


def note_failure(
    connection: sa.Connection,
    worker_id: uuid.UUID,
    problem_id: int,
    reason: str,
    *,
    counts: bool,
    pause_seconds: float,
) -> bool:
    """Records that the decision failed on this coordinator. It is tried again after a pause, which doubles with every
    failure that `counts`. Returns True if that was the last attempt: then the problem has failed."""
    parameters = {
        "worker_id": worker_id,
        "problem_id": problem_id,
        "reason": reason,
        "counts": int(counts),
        "pause": pause_seconds,
    }
    attempts = connection.execute(_NOTE_FAILURE, parameters).scalar_one_or_none()
    if attempts is None or attempts < MAX_ATTEMPTS:
        return False
    fail_problem(connection, problem_id, f"the decision failed {MAX_ATTEMPTS} times: {reason}")
    return True


def pass_on(connection: sa.Connection, worker_id: uuid.UUID, problem_id: int) -> list[int]:
    """Leaves the decision to another coordinator, without trying it. Returns the key of the problem, or an empty list
    if this coordinator had passed it on before."""
    return list(connection.execute(_PASS_ON, {"worker_id": worker_id, "problem_id": problem_id}).scalars())


def forget_failures(connection: sa.Connection, problem_id: int) -> None:
    """Clears the failures of a decision that has now been taken."""
    connection.execute(_FORGET, {"problem_id": problem_id})


def step_back(connection: sa.Connection, worker_id: uuid.UUID, seconds: float, problems: Collection[int]) -> None:
    """Records that the coordinator takes no decisions for `seconds`, and that its failures at these problems do not
    count: problems that failed because of them continue."""
    connection.execute(_STEP_BACK, {"worker_id": worker_id, "seconds": seconds})
    forgiven = connection.execute(_FORGIVE, {"worker_id": worker_id, "ids": list(problems)}).scalars()
    drop_rollups(connection, list(forgiven))
