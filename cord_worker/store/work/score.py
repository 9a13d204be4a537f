"""Scores: claims candidates that have their text, and writes the scores. A candidate that repeats a sibling's text
becomes final here.

The base score of a problem (the prover's score of the known answer before any step) has no lease of its own: the lease
of one score carries it, and one statement writes both. So nothing is written twice, and after a lost lease both are
computed again.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from cord_worker.store.schema import digests
from cord_worker.store.schema.isolation import must_be_exclusive
from cord_worker.store.schema.kinds import ADVANCE, JUDGE_CANDIDATE, SCORE, is_comparable
from cord_worker.store.work.leases import (
    WITHOUT_FLUSH,
    claimed_from,
    finish_candidates,
    in_state,
    is_for_model,
    is_held,
    lease_fields,
    lower_barrier,
    steps_to,
)
from cord_worker.store.work.values import Claimed, Due, Outcome

_ADOPT_SCORING_MODE = sa.text(
    """
    UPDATE runs SET scoring_mode = :mode
    WHERE scoring_mode IS NULL AND id IN (SELECT run_id FROM problems WHERE id = ANY(CAST(:problem_ids AS bigint[])))
    """
)

_IS_FIRST_VALID = """
    c.parent_rank = min(c.parent_rank) OVER (PARTITION BY c.problem_id)
    AND row_number() OVER (
        PARTITION BY c.problem_id, c.parent_rank
        ORDER BY c.state = 'invalid' AND c.scored_at IS NULL, t.ordinal, c.sample
    ) = 1
"""
"""SQL: the candidate is the first one with a valid text, by teacher and sample, of the parent with the best rank.

A candidate is claimed only when all siblings before it have their texts. So every claim finds the same first candidate,
and only its lease carries the base score, in whatever order texts arrive. A candidate that the prover made invalid
counts as valid here, because whether its reason is stored already depends on that order. If all texts of that parent
are invalid, no lease of the step carries the base score.
"""

_CLAIM = sa.text(
    f"""
    WITH {WITHOUT_FLUSH}, written AS MATERIALIZED (
        SELECT c.id, CASE WHEN c.text_key IS NULL THEN c.id ELSE first_value(c.id) OVER (
                   PARTITION BY c.problem_id, c.parent_id, c.parent_rank, c.text_key ORDER BY t.ordinal, c.sample
               ) END AS original,
               p.base_score IS NULL AND {_IS_FIRST_VALID} AS carries_base
        FROM unflushed, problems p
        JOIN candidates c ON c.problem_id = p.id AND c.step = p.step AND c.round = p.round
        JOIN teachers t ON t.id = c.teacher_id
        WHERE p.id = ANY(CAST(:problem_ids AS bigint[])) AND p.state = 'searching'
    ), due AS MATERIALIZED (
        SELECT c.id, written.original, written.carries_base, p.id AS problem_id, p.run_id, p.question, p.passage,
               p.answer, r.scoring_mode IS NULL AS is_first,
               {must_be_exclusive(f"c.{SCORE.attempts}")} = :exclusive AS fits
        FROM written
        JOIN candidates c ON c.id = written.id
        JOIN problems p ON p.id = c.problem_id
        JOIN runs r ON r.id = p.run_id AND r.state = 'active' AND coalesce(r.scoring_mode, :mode) = :mode
        WHERE {in_state("c.state", "proposed")} AND {is_comparable("c", "p")} AND {is_for_model(SCORE)}
        ORDER BY c.id
        FOR UPDATE OF c SKIP LOCKED
    ), claimed AS (
        UPDATE candidates c
        SET state = 'scoring', score_worker_id = :worker_id, score_attempts = c.score_attempts + 1, touched_at = now()
        FROM due WHERE c.id = due.id AND due.original = due.id AND due.fits AND NOT due.is_first
        RETURNING c.id, c.score_attempts AS attempt
    ), repeated AS (
        UPDATE candidates c
        SET state = 'invalid', invalid_reason = 'duplicate', duplicate_of = due.original, touched_at = now()
        FROM due WHERE c.id = due.id AND due.original <> due.id
        RETURNING c.problem_id
    ), locked AS MATERIALIZED (
        SELECT p.id, done.final
        FROM (SELECT problem_id, count(*) AS final FROM repeated GROUP BY problem_id) done
        JOIN problems p ON p.id = done.problem_id
        ORDER BY p.id FOR NO KEY UPDATE OF p
    ), lowered AS (
        UPDATE problems p SET outstanding = p.outstanding - locked.final, touched_at = now()
        FROM locked WHERE p.id = locked.id
        RETURNING p.id, p.outstanding = 0 AS is_complete
    )
    SELECT due.problem_id, due.is_first, due.original <> due.id AS is_repeated,
           coalesce(lowered.is_complete, false) AS is_complete, claimed.id AS candidate_id, claimed.attempt, due.run_id,
           due.question, due.passage, due.answer, due.carries_base, {steps_to("claimed.id")} AS steps
    FROM due LEFT JOIN claimed ON claimed.id = due.id LEFT JOIN lowered ON lowered.id = due.problem_id
    ORDER BY due.id
    """
)
"""A candidate is claimed only when all siblings that it may repeat have their texts. So every claim finds the same
original: the first of the equal texts, by teacher and sample. A candidate that repeats it becomes final here."""

_DIGEST = digests.SCORE.sql(
    {
        **{
            name: f"r.{name}"
            for name in (
                "score",
                "log_prob_sum",
                "mean_probability",
                "answer_tokens",
                "thinking_tokens",
                "invalid_reason",
            )
        },
        "scoring_mode": ":mode",
        "score_prompt_tokens": "r.prompt_tokens",
        "score_cached_tokens": "r.cached_tokens",
        "score_seconds": "r.seconds",
    },
    owner=digests.CANDIDATE_OWNER,
)

_BASE = {
    "base_score": "also.base_score",
    "base_log_prob_sum": "also.base_log_prob_sum",
    "base_mean_probability": "also.base_mean_probability",
    "base_answer_tokens": "also.base_answer_tokens",
    "base_prompt_tokens": "also.base_prompt_tokens",
    "base_cached_tokens": "also.base_cached_tokens",
    "base_score_seconds": "also.base_seconds",
}
"""SQL by column of a problem: the base score, from the row `also` of the result that carried it."""

_WRITTEN_BASE = {
    **_BASE,
    "base_scored_by": "CAST(:worker_id AS uuid)",
    "base_scored_at": "now()",
    "base_score_digest": digests.BASE_SCORE.sql(_BASE),
}

_FINISH = sa.text(
    f"""
    WITH written AS (
        UPDATE candidates c
        SET state = CASE WHEN r.invalid_reason IS NOT NULL THEN 'invalid'
                         WHEN run.selection_model_id IS NULL THEN 'scored' ELSE 'unjudged' END,
            invalid_reason = r.invalid_reason, score = r.score, log_prob_sum = r.log_prob_sum,
            mean_probability = r.mean_probability, answer_tokens = r.answer_tokens, thinking_tokens = r.thinking_tokens,
            score_prompt_tokens = r.prompt_tokens, score_cached_tokens = r.cached_tokens, score_seconds = r.seconds,
            scoring_mode = :mode, score_digest = {_DIGEST}, scored_at = now(), touched_at = now()
        FROM unnest(
            CAST(:candidate_id AS bigint[]), CAST(:attempt AS int[]), CAST(:invalid_reason AS text[]),
            CAST(:score AS float8[]), CAST(:log_prob_sum AS float8[]), CAST(:answer_tokens AS int[]),
            CAST(:thinking_tokens AS int[]), CAST(:prompt_tokens AS int[]), CAST(:cached_tokens AS int[]),
            CAST(:seconds AS float8[]), CAST(:mean_probability AS float8[]), CAST(:base_score AS float8[]),
            CAST(:base_log_prob_sum AS float8[]), CAST(:base_mean_probability AS float8[]),
            CAST(:base_answer_tokens AS int[]), CAST(:base_prompt_tokens AS int[]), CAST(:base_cached_tokens AS int[]),
            CAST(:base_seconds AS float8[])
        ) AS r(id, attempt, invalid_reason, score, log_prob_sum, answer_tokens, thinking_tokens, prompt_tokens,
               cached_tokens, seconds, mean_probability, base_score, base_log_prob_sum, base_mean_probability,
               base_answer_tokens, base_prompt_tokens, base_cached_tokens, base_seconds),
             problems p JOIN runs run ON run.id = p.run_id
             LEFT JOIN models m ON m.id = run.selection_model_id AND run.state = 'active' AND p.state = 'searching'
        WHERE {is_held(SCORE)} AND p.id = c.problem_id
        RETURNING c.problem_id, false AS is_text, c.state <> 'unjudged' AS is_final, p.step,
                  m.fingerprint AS next_model, r.*
    ), based AS (
        SELECT DISTINCT ON (written.problem_id) written.* FROM written JOIN problems p ON p.id = written.problem_id
        WHERE written.base_score IS NOT NULL AND p.base_score IS NULL ORDER BY written.problem_id, written.id
    ), {lower_barrier("NOT written.is_final", also="based", values=_WRITTEN_BASE)}
    """
)


@dataclass(frozen=True, slots=True)
class LeasedScore:
    """The lease of a score. `steps` are the texts of the trajectory up to the candidate. `carries_base`: the problem
    has no base score yet, and this piece of work computes it too."""

    candidate_id: int
    attempt: int
    problem_id: int
    run_id: int
    question: str
    passage: str | None
    answer: str
    steps: tuple[str, ...]
    carries_base: bool = False


@dataclass(frozen=True, slots=True)
class ScoreResult:
    """The result of a score: either all figures or an `invalid_reason`. The figures of the base score (`base_…`) are
    None if the lease did not carry it, or if the prover gave none."""

    candidate_id: int
    attempt: int
    invalid_reason: str | None
    score: float | None
    log_prob_sum: float | None
    answer_tokens: int | None
    thinking_tokens: int | None
    prompt_tokens: int | None
    cached_tokens: int | None
    seconds: float | None
    mean_probability: float | None = None
    base_score: float | None = None
    base_log_prob_sum: float | None = None
    base_mean_probability: float | None = None
    base_answer_tokens: int | None = None
    base_prompt_tokens: int | None = None
    base_cached_tokens: int | None = None
    base_seconds: float | None = None


def claim(
    connection: sa.Connection,
    problem_ids: Sequence[int],
    *,
    worker_id: uuid.UUID,
    model: str,
    scoring_mode: str,
    exclusive: bool = False,
) -> Claimed:
    """Leases every proposed candidate of the problems' current steps that can be compared with its siblings
    (`is_comparable`), if the prover `model` (a fingerprint) scores it.

    Runs of another scoring mode are left out; a run without a scoring mode takes this one. A candidate that repeats a
    sibling is not leased: it becomes invalid and points at the sibling.
    """
    parameters = {"worker_id": worker_id, "model": model, "mode": scoring_mode, "exclusive": exclusive}
    rows = list(connection.execute(_CLAIM, {"problem_ids": sorted(set(problem_ids)), **parameters}))
    complete = {row.problem_id for row in rows if row.is_complete}
    first = sorted({row.problem_id for row in rows if row.is_first})
    if first:
        connection.execute(_ADOPT_SCORING_MODE, {"problem_ids": first, "mode": scoring_mode})
        rows = [row for row in rows if not row.is_first]
        rows += connection.execute(_CLAIM, {"problem_ids": first, **parameters})
        complete |= {row.problem_id for row in rows if row.is_complete}
    return claimed_from(
        (row for row in rows if not row.is_repeated),
        lambda row: LeasedScore(**lease_fields(row, "is_first", "is_repeated", "is_complete")),
        (Due(ADVANCE, problem_id, 0) for problem_id in sorted(complete)),
    )


def finish(
    connection: sa.Connection, results: Sequence[ScoreResult], *, worker_id: uuid.UUID, scoring_mode: str
) -> Outcome:
    """Writes scores whose lease is still held, with the base scores that they carried, and lowers the barrier of their
    problems. A base score that exists already is kept.

    In a run with selection judgments, valid candidates become final only with their judgment.
    """
    return finish_candidates(
        connection,
        _FINISH,
        ScoreResult,
        results,
        worker_id=worker_id,
        next_kind=JUDGE_CANDIDATE.name,
        mode=scoring_mode,
    )
