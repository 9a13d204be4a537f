"""Checks: finds final answers that wait for a comparison, leases them, and writes the results.

These are the `written` answers without a verification whose method is neither `none` nor `judge`. A lease is fenced as
in `leases`: (answer_state, check_worker_id, check_attempts). A checked answer is `written` again, with its
verification, or `unjudged` if the comparison left it undecided and the LLM judge is asked next.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from cord_worker.store.schema import digests
from cord_worker.store.schema.isolation import MAX_ATTEMPTS
from cord_worker.store.schema.kinds import CHECK_ANSWER
from cord_worker.store.schema.rollups import write_rollups
from cord_worker.store.schema.verification_sql import IS_OWED, METHOD, OWED_TO_CHECK, REFERENCE, WITH_JUDGE
from cord_worker.store.work.leases import claim_statement, claimed_from, count_dropped, field_arrays, in_state, is_held
from cord_worker.store.work.values import Claimed

_READ_OWED = sa.text(
    f"""
    SELECT p.run_id, count(*) FILTER (WHERE {OWED_TO_CHECK}) AS unchecked,
           count(*) FILTER (WHERE j.answer_state = 'checking') AS checking,
           count(*) FILTER (WHERE {WITH_JUDGE}) AS with_judge
    FROM problems p
    JOIN runs r ON r.id = p.run_id AND r.state = 'active'
    JOIN trajectories j ON j.problem_id = p.id AND j.answer_state <> 'none'
    WHERE p.id = :problem_id AND p.state = 'verifying'
    GROUP BY p.run_id
    """
)

_CLAIM = claim_statement(
    CHECK_ANSWER,
    condition=f"{in_state('j.answer_state', 'written')} AND {OWED_TO_CHECK}",
    read=f"coalesce(j.answer_text, '') AS text, {REFERENCE} AS reference, {METHOD} AS method,",
    found=", due.text, due.reference, due.method",
    at_most="LIMIT CASE WHEN :exclusive THEN 1 END",
)

_DIGEST = digests.CORRECTNESS.sql({"correct": "r.correct", "verification": "r.verification"})

_FINISH = sa.text(
    f"""
    UPDATE trajectories j
    SET answer_state = CASE WHEN r.for_judge THEN 'unjudged' ELSE 'written' END, correct = r.correct,
        verification = r.verification, correctness_digest = {_DIGEST}, touched_at = now()
    FROM unnest(
        CAST(:trajectory_id AS bigint[]), CAST(:attempt AS int[]), CAST(:correct AS boolean[]),
        CAST(:verification AS jsonb[]), CAST(:for_judge AS boolean[])
    ) AS r(id, attempt, correct, verification, for_judge)
    WHERE {is_held(CHECK_ANSWER)}
    RETURNING j.problem_id
    """
)

_LOCK_PROBLEMS = sa.text("SELECT id FROM problems WHERE id = ANY(:ids) ORDER BY id FOR NO KEY UPDATE")

_SET_DONE = sa.text(
    f"""
    UPDATE problems p SET state = 'done', finished_at = now(), touched_at = now()
    FROM runs r
    WHERE p.id = ANY(CAST(:ids AS bigint[])) AND p.state = 'verifying' AND r.id = p.run_id
      AND NOT EXISTS (SELECT 1 FROM trajectories j WHERE j.problem_id = p.id AND {IS_OWED})
    RETURNING p.id
    """
)

_GIVEN_UP_RESULT = """
    jsonb_build_object(
        'method', 'crashed', 'extracted', NULL, 'type', NULL, 'readings', CAST('[]' AS jsonb), 'detail',
        'the check was given up after ' || j.check_attempts || ' attempts: its coordinator was lost, or its process '
        'ended, each time')
"""

_GIVE_UP = sa.text(
    f"""
    WITH given_up AS (
        UPDATE trajectories j
        SET answer_state = CASE WHEN r.judges_undecided THEN 'unjudged' ELSE 'written' END,
            verification = {_GIVEN_UP_RESULT},
            correctness_digest = {digests.CORRECTNESS.sql({"verification": _GIVEN_UP_RESULT})},
            touched_at = 'epoch'
        FROM problems p JOIN runs r ON r.id = p.run_id
        WHERE p.id = j.problem_id AND p.state = 'verifying' AND {OWED_TO_CHECK}
          AND j.check_attempts >= {MAX_ATTEMPTS}
        RETURNING j.problem_id
    ), touched AS (
        UPDATE problems p SET touched_at = 'epoch' FROM given_up WHERE p.id = given_up.problem_id
    )
    SELECT problem_id FROM given_up
    """
)


@dataclass(frozen=True, slots=True)
class OwedChecks:
    """What a `verifying` problem waits for. Numbers of answers: `unchecked` ones wait for a comparison, `checking` ones
    are being compared, and `with_judge` ones wait for the LLM judge or are being judged."""

    run_id: int
    unchecked: int
    checking: int
    with_judge: int


@dataclass(frozen=True, slots=True)
class LeasedCheck:
    """The lease of the comparison of a final answer with its reference, by `method` (verify.method, or the row's
    own)."""

    trajectory_id: int
    attempt: int
    problem_id: int
    run_id: int
    question: str
    text: str
    reference: str
    method: str


@dataclass(frozen=True, slots=True)
class FinishedCheck:
    """The result of a comparison; `verification` is a JSON text. With `for_judge`, the answer is undecided and waits
    for the LLM judge."""

    trajectory_id: int
    attempt: int
    correct: bool | None
    verification: str
    for_judge: bool


def read_owed_checks(connection: sa.Connection, problem_id: int) -> OwedChecks | None:
    """What the problem waits for; None if it is not `verifying`, or if its run is not active."""
    row = connection.execute(_READ_OWED, {"problem_id": problem_id}).one_or_none()
    return None if row is None else OwedChecks(**row._mapping)


def claim(
    connection: sa.Connection, problem_ids: Sequence[int], *, worker_id: uuid.UUID, exclusive: bool = False
) -> Claimed:
    """Leases the written answers of these problems that need a comparison. With `exclusive`, leases one of those that
    must be exclusive."""
    parameters = {"problem_ids": sorted(set(problem_ids)), "worker_id": worker_id, "exclusive": exclusive}
    return claimed_from(connection.execute(_CLAIM, parameters), lambda row: LeasedCheck(**row._mapping))


def finish(connection: sa.Connection, results: Sequence[FinishedCheck], *, worker_id: uuid.UUID) -> list[int]:
    """Writes results whose lease is still held; returns the keys of the problems that are done now."""
    rows = connection.execute(_FINISH, {"worker_id": worker_id, **field_arrays(FinishedCheck, results)}).all()
    count_dropped(connection, worker_id, len(results) - len(rows))
    return end_verified(connection, sorted({row.problem_id for row in rows}))


def end_verified(connection: sa.Connection, problem_ids: Sequence[int]) -> list[int]:
    """Sets those of the problems to `done` whose answers wait for nothing; returns their keys."""
    if not problem_ids:
        return []
    connection.execute(_LOCK_PROBLEMS, {"ids": list(problem_ids)})
    # This is a separate statement after the lock, so that it sees the results that the previous holder committed.
    done = list(connection.execute(_SET_DONE, {"ids": list(problem_ids)}).scalars())
    write_rollups(connection, done)
    return done


def give_up_checks(connection: sa.Connection) -> list[int]:
    """Gives up checks that used up their attempts (`run.max_attempts`): their answers stay undecided, unless the LLM
    judge is asked. `cordctl recheck` can check them again. Returns the keys of their problems."""
    return list(connection.execute(_GIVE_UP).scalars())
