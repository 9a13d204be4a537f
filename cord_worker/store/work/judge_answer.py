"""Answer judgments: claims final answers that the LLM judge must read, and writes its verdicts.

These are the `written` answers of the method `judge`, and the `unjudged` ones: a comparison left these undecided, in a
run that then asks the judge. The result of the comparison stays in their verification, as `compared`.

The coordinator ends a problem with judged answers in the same way as one with compared answers.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from cord_worker.store.schema import digests
from cord_worker.store.schema.kinds import JUDGE_ANSWER, VERIFY
from cord_worker.store.schema.verification_sql import IS_JUDGED, REFERENCE
from cord_worker.store.work.leases import claim_statement, claimed_from, count_dropped, field_arrays, in_state, is_held
from cord_worker.store.work.values import Claimed, Due, Outcome

_CLAIM = claim_statement(
    JUDGE_ANSWER,
    joins="JOIN candidates c ON c.id = j.candidate_id",
    condition=f"""({in_state("j.answer_state", "written")} AND {IS_JUDGED}
                   OR {in_state("j.answer_state", "unjudged")})""",
    read=f"p.key, c.lineage, p.passage, {REFERENCE} AS reference, coalesce(j.answer_text, '') AS answer,",
    found=", due.key, due.lineage, due.passage, due.reference, due.answer",
)

_VERIFICATION = """r.verification || CASE WHEN j.verification IS NULL THEN '{}'::jsonb
                                              ELSE jsonb_build_object('compared', j.verification) END"""
_DIGEST = digests.CORRECTNESS.sql(
    {
        "correct": "r.correct",
        "verification": f"({_VERIFICATION})",
        "verdict_prompt_tokens": "r.prompt_tokens",
        "verdict_completion_tokens": "r.completion_tokens",
        "verdict_seconds": "r.seconds",
    }
)

_FINISH = sa.text(
    f"""
    UPDATE trajectories j
    SET answer_state = 'judged', correct = r.correct,
        verification = {_VERIFICATION}, correctness_digest = {_DIGEST},
        verdict_prompt_tokens = r.prompt_tokens, verdict_completion_tokens = r.completion_tokens,
        verdict_seconds = r.seconds, judged_at = now(), touched_at = now()
    FROM unnest(
        CAST(:trajectory_id AS bigint[]), CAST(:attempt AS int[]), CAST(:correct AS boolean[]),
        CAST(:verification AS jsonb[]), CAST(:prompt_tokens AS int[]), CAST(:completion_tokens AS int[]),
        CAST(:seconds AS float8[])
    ) AS r(id, attempt, correct, verification, prompt_tokens, completion_tokens, seconds)
    WHERE {is_held(JUDGE_ANSWER)}
    RETURNING j.problem_id, (SELECT p.step FROM problems p WHERE p.id = j.problem_id) AS step
    """
)


@dataclass(frozen=True, slots=True)
class LeasedVerdict:
    """The lease of a final answer that the judge must compare with its reference."""

    trajectory_id: int
    attempt: int
    problem_id: int
    run_id: int
    key: str
    lineage: str
    question: str
    passage: str | None
    reference: str
    answer: str


@dataclass(frozen=True, slots=True)
class VerdictResult:
    """The result of an answer judgment. `correct` is the verdict, None if the judge gave none; `verification` is a JSON
    text. Tokens and seconds are sums over all replies of the judge, and None if the engine could not take the
    request."""

    trajectory_id: int
    attempt: int
    correct: bool | None
    verification: str
    prompt_tokens: int | None
    completion_tokens: int | None
    seconds: float | None


def claim(
    connection: sa.Connection, problem_ids: Sequence[int], *, worker_id: uuid.UUID, model: str, exclusive: bool = False
) -> Claimed:
    """Leases the written answers of these problems that the LLM `model` (a fingerprint) must judge."""
    parameters = {
        "problem_ids": sorted(set(problem_ids)),
        "worker_id": worker_id,
        "model": model,
        "exclusive": exclusive,
    }
    return claimed_from(connection.execute(_CLAIM, parameters), lambda row: LeasedVerdict(**row._mapping))


def finish(connection: sa.Connection, results: Sequence[VerdictResult], *, worker_id: uuid.UUID) -> Outcome:
    """Writes verdicts whose lease is still held. For their problems the message `verify` is due, because they may be
    done."""
    rows = connection.execute(_FINISH, {"worker_id": worker_id, **field_arrays(VerdictResult, results)}).all()
    due = tuple(Due(VERIFY, *problem) for problem in sorted({(row.problem_id, row.step) for row in rows}))
    return Outcome(due, count_dropped(connection, worker_id, len(results) - len(rows)))
