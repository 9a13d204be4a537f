"""Final answers: claims trajectories that wait for one, and writes the answers."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from cord_worker.store.schema import digests
from cord_worker.store.schema.kinds import ANSWER, VERIFY
from cord_worker.store.work.leases import (
    claim_statement,
    claimed_from,
    count_dropped,
    field_arrays,
    is_held,
    lease_fields,
    steps_to,
)
from cord_worker.store.work.values import Claimed, Due, Outcome

_LOCK_PROBLEMS = sa.text("SELECT id FROM problems WHERE id = ANY(:ids) ORDER BY id FOR NO KEY UPDATE")

_CLAIM = claim_statement(
    ANSWER,
    joins="JOIN candidates c ON c.id = j.candidate_id",
    read="p.passage, p.key, j.candidate_id, c.teacher_id, c.lineage,",
    taken=", j.answer_seed AS seed",
    found=f""", due.passage, due.teacher_id, {steps_to("due.candidate_id")} AS steps, claimed.seed, due.key,
          due.lineage""",
)

_DIGEST = digests.ANSWER.sql(
    {
        "answer_text": "r.text",
        "answer_finish_reason": "r.finish_reason",
        "answer_prompt_tokens": "r.prompt_tokens",
        "answer_completion_tokens": "r.completion_tokens",
        "answer_cached_tokens": "r.cached_tokens",
        "answer_seconds": "r.seconds",
        "answer_seed": "coalesce(r.seed, j.answer_seed)",
    }
)

_FINISH = sa.text(
    f"""
    UPDATE trajectories j
    SET answer_state = 'written', answer_seed = coalesce(r.seed, j.answer_seed), answer_text = r.text,
        answer_finish_reason = r.finish_reason,
        answer_prompt_tokens = r.prompt_tokens, answer_completion_tokens = r.completion_tokens,
        answer_cached_tokens = r.cached_tokens, answer_seconds = r.seconds, answer_digest = {_DIGEST},
        answered_at = now(), touched_at = now()
    FROM unnest(
        CAST(:trajectory_id AS bigint[]), CAST(:attempt AS int[]), CAST(:text AS text[]),
        CAST(:finish_reason AS text[]), CAST(:prompt_tokens AS int[]), CAST(:completion_tokens AS int[]),
        CAST(:cached_tokens AS int[]), CAST(:seconds AS float8[]), CAST(:seed AS bigint[])
    ) AS r(id, attempt, text, finish_reason, prompt_tokens, completion_tokens, cached_tokens, seconds, seed)
    WHERE {is_held(ANSWER)}
    RETURNING j.problem_id
    """
)

_RETURN = sa.text(
    """
    UPDATE trajectories SET answer_state = 'pending', touched_at = now()
    WHERE problem_id = :problem_id AND answer_state = 'writing' AND answer_worker_id = :worker_id
    """
)

_ANSWERED = sa.text(
    """
    UPDATE problems SET state = 'verifying', touched_at = now()
    WHERE id = ANY(:ids) AND state = 'answering' AND NOT EXISTS (
        SELECT 1 FROM trajectories j WHERE j.problem_id = problems.id AND j.answer_state IN ('pending', 'writing')
    )
    RETURNING id, step
    """
)


@dataclass(frozen=True, slots=True)
class LeasedAnswer:
    """The lease of a final answer that must be written. `steps` are the texts of the trajectory's steps; `key` is the
    problem's, `lineage` that of the last step."""

    trajectory_id: int
    attempt: int
    problem_id: int
    run_id: int
    teacher_id: int
    question: str
    passage: str | None
    steps: tuple[str, ...]
    seed: int
    key: str
    lineage: str


@dataclass(frozen=True, slots=True)
class AnswerResult:
    """A final answer, as generated; 0 tokens if the model refused the request.

    `seed` is the seed that it was generated with, None for that of the lease.
    """

    trajectory_id: int
    attempt: int
    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    seconds: float
    seed: int | None = None


def claim(
    connection: sa.Connection, problem_ids: Sequence[int], *, worker_id: uuid.UUID, model: str, exclusive: bool = False
) -> Claimed:
    """Leases the due final answers of these problems that teachers of `model` (a fingerprint) write."""
    parameters = {
        "problem_ids": sorted(set(problem_ids)),
        "worker_id": worker_id,
        "model": model,
        "exclusive": exclusive,
    }
    return claimed_from(connection.execute(_CLAIM, parameters), lambda row: LeasedAnswer(**lease_fields(row)))


def finish(connection: sa.Connection, results: Sequence[AnswerResult], *, worker_id: uuid.UUID) -> Outcome:
    """Writes final answers whose lease is still held. A problem whose answers are all written becomes `verifying`."""
    rows = connection.execute(_FINISH, {"worker_id": worker_id, **field_arrays(AnswerResult, results)}).all()
    dropped = count_dropped(connection, worker_id, len(results) - len(rows))
    ids = sorted({row.problem_id for row in rows})
    if not ids:
        return Outcome((), dropped)
    connection.execute(_LOCK_PROBLEMS, {"ids": ids})
    # This is a separate statement after the lock, so that it sees the answers that the previous holder committed.
    answered = sorted((row.id, row.step) for row in connection.execute(_ANSWERED, {"ids": ids}))
    return Outcome(tuple(Due(VERIFY, *problem) for problem in answered), dropped)


def return_answers(connection: sa.Connection, worker_id: uuid.UUID, problem_id: int) -> None:
    """Returns the worker's leases of the problem's answers, because one of the answers cannot be written."""
    connection.execute(_RETURN, {"problem_id": problem_id, "worker_id": worker_id})
