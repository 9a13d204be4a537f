"""Judgments of candidates, in runs that select by them: leased, written once and given back like scores (`leases`)."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from cord_worker.store.isolation import must_be_alone
from cord_worker.store.leases import WITHOUT_FLUSH, columns, count_dropped, in_state, lower_barrier, read_paths
from cord_worker.store.verdicts import METHOD, REFERENCE
from cord_worker.store.work import Outcome

_CLAIM_JUDGMENTS = sa.text(
    f"""
    WITH {WITHOUT_FLUSH}, due AS (
        SELECT c.id
        FROM unflushed, problems p
        JOIN runs r ON r.id = p.run_id AND r.state = 'active'
        JOIN candidates c ON c.problem_id = p.id AND c.step = p.step
        WHERE p.id = ANY(:problem_ids) AND p.state = 'searching' AND {in_state("c.state", "unjudged")}
          AND {must_be_alone("c.judgment_attempts")} = :alone
        ORDER BY c.id
        FOR UPDATE OF c SKIP LOCKED
    )
    UPDATE candidates c
    SET state = 'judging', judgment_worker_id = :worker_id, judgment_attempts = c.judgment_attempts + 1,
        touched_at = now()
    FROM due, problems p, runs r
    WHERE c.id = due.id AND p.id = c.problem_id AND r.id = p.run_id
    RETURNING c.id, c.judgment_attempts, c.problem_id, c.lineage, p.run_id, p.key, p.question, p.passage,
              {REFERENCE} AS reference, {METHOD} AS method
    """
)

_FINISH_JUDGMENTS = sa.text(
    f"""
    UPDATE candidates c
    SET state = CASE WHEN r.invalid_reason IS NULL THEN 'scored' ELSE 'invalid' END,
        invalid_reason = r.invalid_reason, judgment = r.judgment, judgment_detail = CAST(r.detail AS jsonb),
        judgment_prompt_tokens = r.prompt_tokens, judgment_completion_tokens = r.completion_tokens,
        judgment_cached_tokens = r.cached_tokens, judgment_seconds = r.seconds, judged_at = now(), touched_at = now()
    FROM unnest(
        CAST(:candidate_id AS bigint[]), CAST(:attempt AS int[]), CAST(:invalid_reason AS text[]),
        CAST(:judgment AS float8[]), CAST(:detail AS text[]), CAST(:prompt_tokens AS int[]),
        CAST(:completion_tokens AS int[]), CAST(:cached_tokens AS int[]), CAST(:seconds AS float8[])
    ) AS r(id, attempt, invalid_reason, judgment, detail, prompt_tokens, completion_tokens, cached_tokens, seconds)
    WHERE c.id = r.id AND {in_state("c.state", "judging")} AND c.judgment_worker_id = :worker_id
      AND c.judgment_attempts = r.attempt
    RETURNING c.problem_id
    """
)

_JUDGES_OF = sa.text(
    """
    SELECT p.id AS problem_id, p.step, m.fingerprint AS model
    FROM problems p JOIN runs r ON r.id = p.run_id JOIN models m ON m.id = r.reward_model_id
    WHERE p.id = ANY(:ids) AND p.state = 'searching' AND r.state = 'active' ORDER BY p.id
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


@dataclass(frozen=True, slots=True)
class ProblemJudge:
    """A problem with the fingerprint of the model that judges its candidates."""

    problem_id: int
    step: int
    model: str


def judges_of(connection: sa.Connection, problem_ids: Sequence[int]) -> list[ProblemJudge]:
    """Who judges these problems' candidates; problems that are not being searched are left out."""
    if not problem_ids:
        return []
    return [ProblemJudge(**row._mapping) for row in connection.execute(_JUDGES_OF, {"ids": list(problem_ids)})]


def claim_judgments(
    connection: sa.Connection, worker_id: uuid.UUID, problem_ids: Sequence[int], *, alone: bool = False
) -> list[LeasedJudgment]:
    """Leases every candidate of the problems' current steps that is scored and not judged yet."""
    parameters = {"problem_ids": sorted(set(problem_ids)), "worker_id": worker_id, "alone": alone}
    rows = connection.execute(_CLAIM_JUDGMENTS, parameters).all()
    paths = read_paths(connection, (row.id for row in rows))
    return [
        LeasedJudgment(
            candidate_id=row.id,
            attempt=row.judgment_attempts,
            problem_id=row.problem_id,
            run_id=row.run_id,
            key=row.key,
            lineage=row.lineage,
            question=row.question,
            passage=row.passage,
            reference=row.reference,
            method=row.method,
            steps=paths[row.id],
        )
        for row in sorted(rows, key=lambda row: row.id)
    ]


def finish_judgments(connection: sa.Connection, worker_id: uuid.UUID, results: Sequence[JudgmentResult]) -> Outcome:
    """Writes judgments whose lease is still held, and lowers the barrier of their problems."""
    rows = connection.execute(
        _FINISH_JUDGMENTS,
        {
            "worker_id": worker_id,
            **columns(JudgmentResult, results),
        },
    ).all()
    count_dropped(connection, worker_id, len(results) - len(rows))
    return Outcome(
        to_advance=lower_barrier(connection, [row.problem_id for row in rows]), dropped=len(results) - len(rows)
    )
