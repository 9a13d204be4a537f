"""Selection judgments: claims scored candidates that the selection model must judge, and writes the judgments."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from cord_worker.store.schema import digests
from cord_worker.store.schema.kinds import JUDGE_CANDIDATE
from cord_worker.store.schema.verification_sql import METHOD, REFERENCE
from cord_worker.store.work.leases import (
    claim_statement,
    claimed_from,
    finish_candidates,
    in_state,
    is_held,
    lease_fields,
    lower_barrier,
    steps_to,
)
from cord_worker.store.work.values import Claimed, Outcome

_CLAIM = claim_statement(
    JUDGE_CANDIDATE,
    condition=f"c.step = p.step AND {in_state('c.state', 'unjudged')}",
    read=f"c.lineage, p.key, p.passage, {REFERENCE} AS reference, {METHOD} AS method,",
    found=f", due.key, due.lineage, due.passage, due.reference, due.method, {steps_to('claimed.id')} AS steps",
)

_DIGEST = digests.JUDGMENT.sql(
    {
        "judgment": "r.judgment",
        "judgment_detail": "CAST(r.detail AS jsonb)",
        "invalid_reason": "r.invalid_reason",
        "judgment_prompt_tokens": "r.prompt_tokens",
        "judgment_completion_tokens": "r.completion_tokens",
        "judgment_cached_tokens": "r.cached_tokens",
        "judgment_seconds": "r.seconds",
    }
)

_FINISH = sa.text(
    f"""
    WITH written AS (
        UPDATE candidates c
        SET state = CASE WHEN r.invalid_reason IS NULL THEN 'scored' ELSE 'invalid' END,
            invalid_reason = r.invalid_reason, judgment = r.judgment, judgment_detail = CAST(r.detail AS jsonb),
            judgment_prompt_tokens = r.prompt_tokens, judgment_completion_tokens = r.completion_tokens,
            judgment_cached_tokens = r.cached_tokens, judgment_seconds = r.seconds,
            judgment_digest = {_DIGEST}, judged_at = now(), touched_at = now()
        FROM unnest(
            CAST(:candidate_id AS bigint[]), CAST(:attempt AS int[]), CAST(:invalid_reason AS text[]),
            CAST(:judgment AS float8[]), CAST(:detail AS text[]), CAST(:prompt_tokens AS int[]),
            CAST(:completion_tokens AS int[]), CAST(:cached_tokens AS int[]), CAST(:seconds AS float8[])
        ) AS r(id, attempt, invalid_reason, judgment, detail, prompt_tokens, completion_tokens, cached_tokens, seconds)
        WHERE {is_held(JUDGE_CANDIDATE)}
        RETURNING c.problem_id, false AS is_text, true AS is_final, c.step, NULL AS next_model
    ), {lower_barrier("false")}
    """
)


@dataclass(frozen=True, slots=True)
class LeasedJudgment:
    """The lease of a selection judgment. `steps` are the texts of the trajectory up to the candidate, `key` is the
    problem's; answers are checked against `reference` by `method` (verify.method, or the row's own)."""

    candidate_id: int
    attempt: int
    problem_id: int
    run_id: int
    key: str
    lineage: str
    question: str
    passage: str | None
    reference: str
    method: str
    steps: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class JudgmentResult:
    """The result of a selection judgment: either a `judgment` in [0, 1] or an `invalid_reason`. `detail` is a JSON text
    with the parts of the judgment."""

    candidate_id: int
    attempt: int
    invalid_reason: str | None
    judgment: float | None
    detail: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    cached_tokens: int | None
    seconds: float | None


def claim(
    connection: sa.Connection, problem_ids: Sequence[int], *, worker_id: uuid.UUID, model: str, exclusive: bool = False
) -> Claimed:
    """Leases every candidate of the problems' current steps that `model` (a fingerprint) must judge."""
    parameters = {
        "problem_ids": sorted(set(problem_ids)),
        "worker_id": worker_id,
        "model": model,
        "exclusive": exclusive,
    }
    return claimed_from(connection.execute(_CLAIM, parameters), lambda row: LeasedJudgment(**lease_fields(row)))


def finish(connection: sa.Connection, results: Sequence[JudgmentResult], *, worker_id: uuid.UUID) -> Outcome:
    """Writes judgments whose lease is still held, and lowers the barrier of their problems."""
    return finish_candidates(
        connection, _FINISH, JudgmentResult, results, worker_id=worker_id, next_kind=JUDGE_CANDIDATE.name
    )
