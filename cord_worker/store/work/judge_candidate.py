"""Judgments of candidates, in runs that select by them: leased, written once and given back like scores (`leases`)."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from cord_worker.store.schema import digests
from cord_worker.store.schema.isolation import must_be_alone
from cord_worker.store.work.judge_answer import METHOD, REFERENCE
from cord_worker.store.work.leases import (
    WITHOUT_FLUSH,
    claimed_rows,
    finish,
    in_state,
    lower_barrier,
    of_lease,
    steps_to,
)
from cord_worker.store.work.values import Claimed, Outcome

_CLAIM_JUDGMENTS = sa.text(
    f"""
    WITH {WITHOUT_FLUSH}, due AS MATERIALIZED (
        SELECT c.id, c.lineage, p.id AS problem_id, p.run_id, p.key, p.question, p.passage,
               {REFERENCE} AS reference, {METHOD} AS method, {must_be_alone("c.judgment_attempts")} = :alone AS fits
        FROM unflushed, problems p
        JOIN runs r ON r.id = p.run_id AND r.state = 'active'
        JOIN candidates c ON c.problem_id = p.id AND c.step = p.step
        WHERE p.id = ANY(CAST(:problem_ids AS bigint[])) AND p.state = 'searching' AND {in_state("c.state", "unjudged")}
        ORDER BY c.id
        FOR UPDATE OF c SKIP LOCKED
    ), claimed AS (
        UPDATE candidates c
        SET state = 'judging', judgment_worker_id = :worker_id, judgment_attempts = c.judgment_attempts + 1,
            touched_at = now()
        FROM due WHERE c.id = due.id AND due.fits
        RETURNING c.id, c.judgment_attempts AS attempt
    )
    SELECT due.problem_id, claimed.id AS candidate_id, claimed.attempt, due.run_id, due.key, due.lineage, due.question,
           due.passage, due.reference, due.method, {steps_to("claimed.id")} AS steps
    FROM due LEFT JOIN claimed ON claimed.id = due.id
    ORDER BY due.id
    """
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

_FINISH_JUDGMENTS = sa.text(
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
        WHERE c.id = r.id AND {in_state("c.state", "judging")} AND c.judgment_worker_id = :worker_id
          AND c.judgment_attempts = r.attempt
        RETURNING c.problem_id, false AS is_text, true AS is_final, c.step, NULL AS next_model
    ), {lower_barrier("false")}
    """
)


@dataclass(frozen=True, slots=True)
class LeasedJudgment:
    """A scored candidate to be judged; `steps` is its whole trajectory, `key` its problem's, `reference` what answers
    to that are checked against, by `method` (verify.method, or the row's own)."""

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
    """What became of a leased judgment; either a `judgment` in [0, 1] or an `invalid_reason`. `detail` is a JSON text
    of what it was made from."""

    candidate_id: int
    attempt: int
    invalid_reason: str | None
    judgment: float | None
    detail: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    cached_tokens: int | None
    seconds: float | None


def claim_judgments(
    connection: sa.Connection, worker_id: uuid.UUID, problem_ids: Sequence[int], *, alone: bool = False
) -> Claimed[LeasedJudgment]:
    """Leases every candidate of the problems' current steps that is scored and not judged yet."""
    asked = {"problem_ids": sorted(set(problem_ids)), "worker_id": worker_id, "alone": alone}
    return claimed_rows(connection.execute(_CLAIM_JUDGMENTS, asked), lambda row: LeasedJudgment(**of_lease(row)))


def finish_judgments(connection: sa.Connection, worker_id: uuid.UUID, results: Sequence[JudgmentResult]) -> Outcome:
    """Writes judgments whose lease is still held, and lowers the barrier of their problems."""
    return finish(connection, _FINISH_JUDGMENTS, worker_id, JudgmentResult, results)
