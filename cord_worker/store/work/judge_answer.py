"""The LLM judge's work: which final answers wait for a verdict, leasing them, and writing what was decided.

They are those of the method `judge` (as soon as they are `written`), and those that a comparison left undecided in a
run that asks the judge then (`unjudged`). What the comparison found of the latter stays in their verification, as
`compared`.

A lease is fenced as in `leases`: (answer_state, judgment_worker_id, judgment_attempts). A problem whose answers are
judged is ended by the coordinator, like one whose answer was compared.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from cord_worker.store.schema import digests
from cord_worker.store.schema.isolation import must_be_alone
from cord_worker.store.work.leases import WITHOUT_FLUSH, claimed_rows, columns, count_dropped, in_state
from cord_worker.store.work.values import Claimed


def method_of(row: str) -> str:
    """SQL: how the answer to the problem in `row` (an alias, such as `p`) of the run `r` is checked."""
    named = f"nullif({row}.attributes ->> (r.config -> 'verify' ->> 'field'), '')"
    return f"coalesce({named}, r.config -> 'verify' ->> 'method')"


def reference_of(row: str) -> str:
    """SQL: what it is checked against; see `method_of`."""
    named = f"nullif({row}.attributes ->> (r.config -> 'verify' ->> 'reference_field'), '')"
    return f"coalesce({named}, {row}.answer)"


METHOD, REFERENCE = method_of("p"), reference_of("p")

IS_JUDGED = f"({METHOD} = 'judge')"
"""SQL: whether an LLM checks it, and nothing else."""

OWED_TO_CHECK = f"(j.answer_state = 'written' AND j.verification IS NULL AND {METHOD} NOT IN ('none', 'judge'))"
"""SQL: whether the final answer `j` (a trajectory) waits for a comparison and nobody holds it."""

OWED_TO_JUDGE = f"(j.answer_state = 'written' AND {IS_JUDGED} OR j.answer_state = 'unjudged')"
"""SQL: whether the final answer `j` (a trajectory) waits for the judge and nobody holds it."""

WITH_JUDGE = f"({OWED_TO_JUDGE} OR j.answer_state = 'judging')"
"""SQL: whether its verdict is the judge's to give."""

IS_OWED = f"({OWED_TO_CHECK} OR j.answer_state = 'checking' OR {WITH_JUDGE})"
"""SQL: whether it waits for a verdict, or somebody is about to give one."""

_CLAIM_VERDICTS = sa.text(
    f"""
    WITH {WITHOUT_FLUSH}, due AS MATERIALIZED (
        SELECT j.id, p.id AS problem_id, p.run_id, p.key, c.lineage, p.question, p.passage, {REFERENCE} AS reference,
               coalesce(j.answer_text, '') AS answer, {must_be_alone("j.judgment_attempts")} = :alone AS fits
        FROM unflushed, problems p
        JOIN runs r ON r.id = p.run_id AND r.state = 'active'
        JOIN trajectories j ON j.problem_id = p.id
        JOIN candidates c ON c.id = j.candidate_id
        WHERE p.id = ANY(CAST(:problem_ids AS bigint[])) AND p.state = 'verifying'
          AND ({in_state("j.answer_state", "written")} AND {IS_JUDGED} OR {in_state("j.answer_state", "unjudged")})
        ORDER BY j.id
        FOR UPDATE OF j SKIP LOCKED
    ), claimed AS (
        UPDATE trajectories j
        SET answer_state = 'judging', judgment_worker_id = :worker_id, judgment_attempts = j.judgment_attempts + 1,
            touched_at = now()
        FROM due WHERE j.id = due.id AND due.fits
        RETURNING j.id, j.judgment_attempts AS attempt
    )
    SELECT due.problem_id, claimed.id AS trajectory_id, claimed.attempt, due.run_id, due.key, due.lineage, due.question,
           due.passage, due.reference, due.answer
    FROM due LEFT JOIN claimed ON claimed.id = due.id
    ORDER BY due.id
    """
)

_VERIFICATION = """v.verification || CASE WHEN j.verification IS NULL THEN '{}'::jsonb
                                              ELSE jsonb_build_object('compared', j.verification) END"""
_DIGEST = digests.VERDICT.sql(
    {
        "correct": "v.correct",
        "verification": f"({_VERIFICATION})",
        "judgment_prompt_tokens": "v.prompt_tokens",
        "judgment_completion_tokens": "v.completion_tokens",
        "judgment_seconds": "v.seconds",
    }
)

_FINISH_VERDICTS = sa.text(
    f"""
    UPDATE trajectories j
    SET answer_state = 'judged', correct = v.correct,
        verification = {_VERIFICATION}, verdict_digest = {_DIGEST},
        judgment_prompt_tokens = v.prompt_tokens, judgment_completion_tokens = v.completion_tokens,
        judgment_seconds = v.seconds, judged_at = now(), touched_at = now()
    FROM unnest(
        CAST(:trajectory_id AS bigint[]), CAST(:attempt AS int[]), CAST(:correct AS boolean[]),
        CAST(:verification AS jsonb[]), CAST(:prompt_tokens AS int[]), CAST(:completion_tokens AS int[]),
        CAST(:seconds AS float8[])
    ) AS v(id, attempt, correct, verification, prompt_tokens, completion_tokens, seconds)
    WHERE j.id = v.id AND {in_state("j.answer_state", "judging")} AND j.judgment_worker_id = :worker_id
      AND j.judgment_attempts = v.attempt
    RETURNING j.problem_id
    """
)


@dataclass(frozen=True, slots=True)
class LeasedVerdict:
    """A final answer that the judge is to read beside its reference."""

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
    """What the judge decided, None where it did not; `verification` is a JSON text. Tokens and seconds add up all of
    its tries, and are None where the engine could not take the request."""

    trajectory_id: int
    attempt: int
    correct: bool | None
    verification: str
    prompt_tokens: int | None
    completion_tokens: int | None
    seconds: float | None


def claim_verdicts(
    connection: sa.Connection, worker_id: uuid.UUID, problem_ids: Sequence[int], *, alone: bool = False
) -> Claimed[LeasedVerdict]:
    """Leases the written answers of these problems that an LLM is to judge."""
    asked = {"problem_ids": sorted(set(problem_ids)), "worker_id": worker_id, "alone": alone}
    return claimed_rows(connection.execute(_CLAIM_VERDICTS, asked), lambda row: LeasedVerdict(**row._mapping))


def finish_verdicts(connection: sa.Connection, worker_id: uuid.UUID, results: Sequence[VerdictResult]) -> set[int]:
    """Writes verdicts whose lease is still held; returns their problems, which may now be ended."""
    parameters = {"worker_id": worker_id, **columns(VerdictResult, results)}
    rows = connection.execute(_FINISH_VERDICTS, parameters).all()
    count_dropped(connection, worker_id, len(results) - len(rows))
    return {row.problem_id for row in rows}
