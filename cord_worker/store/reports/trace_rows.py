"""The rows that a trace is made of: requests with their workers and times, without any text."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from cord_worker.errors import StoreError


@dataclass(frozen=True, slots=True)
class RequestRow:
    """One request to a model. `at` is when its result was committed, `seconds` its time in the engine (None: no request
    was made), `worker` host:pid of the worker."""

    at: datetime | None
    seconds: float | None
    model: str | None
    worker: str | None
    attempts: int
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    completion_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class CandidateRow:
    """A candidate with its requests: `propose` to its teacher, `score_request` to the prover, `judge` to the selection
    model."""

    id: int
    lineage: str
    step: int
    round: int
    parent_rank: int
    sample: int
    teacher: str
    state: str
    finish_reason: str | None
    invalid_reason: str | None
    score: float | None
    rank: int | None
    kept: bool | None
    winning: bool
    created_at: datetime
    propose: RequestRow
    score_request: RequestRow
    judge: RequestRow


@dataclass(frozen=True, slots=True)
class AnswerRow:
    """The final answer of a trajectory, with its requests. `lineage` is that of the trajectory's last step."""

    lineage: str
    steps: int
    score: float | None
    winner: bool
    correct: bool | None
    method: str | None
    answer: RequestRow
    verdict: RequestRow


@dataclass(frozen=True, slots=True)
class ProblemRow:
    """A problem of the run with its candidates in the order of planning, and its answers. `base` is the request for the
    base score."""

    id: int
    key: str
    state: str
    step: int
    failure_reason: str | None
    base_score: float | None
    created_at: datetime
    admitted_at: datetime | None
    finished_at: datetime | None
    base: RequestRow
    candidates: Sequence[CandidateRow]
    answers: Sequence[AnswerRow]


_KEYS = sa.text(
    """
    SELECT id, key FROM problems
    WHERE run_id = :run_id AND (CAST(:keys AS text[]) IS NULL OR key = ANY(CAST(:keys AS text[]))) ORDER BY position
    """
)


def _worker(column: str) -> str:
    """SQL: host:pid of the worker with the id in this column."""
    return f"(SELECT w.hostname || ':' || w.pid FROM workers w WHERE w.id = {column})"


_FINAL = sa.text("SELECT id FROM problems WHERE run_id = :run_id AND state IN ('done', 'failed') ORDER BY position")

_PROBLEMS = sa.text(
    f"""
    SELECT p.*, m.path AS model, {_worker("p.base_scored_by")} AS base_worker
    FROM problems p JOIN runs r ON r.id = p.run_id LEFT JOIN models m ON m.id = r.prover_model_id
    WHERE p.id = ANY(:problems) ORDER BY p.position
    """
)

_CANDIDATES = sa.text(
    f"""
    SELECT c.id, c.problem_id, c.lineage, c.step, c.round, c.parent_rank, c.sample, t.name AS teacher, c.state,
           c.finish_reason, c.invalid_reason, c.score, c.rank, c.kept, c.winning, c.created_at,
           c.proposed_at, c.propose_seconds, c.propose_attempts, c.prompt_tokens, c.cached_tokens, c.completion_tokens,
           m.path AS model, {_worker("c.propose_worker_id")} AS propose_worker,
           c.scored_at, c.score_seconds, c.score_attempts, c.score_prompt_tokens, c.score_cached_tokens,
           prover.path AS prover, {_worker("c.score_worker_id")} AS score_worker,
           c.judged_at, c.judgment_seconds, c.judgment_attempts, c.judgment_prompt_tokens, c.judgment_cached_tokens,
           c.judgment_completion_tokens, selection.path AS selection, {_worker("c.judgment_worker_id")} AS judge_worker
    FROM candidates c JOIN teachers t ON t.id = c.teacher_id JOIN models m ON m.id = t.model_id
    JOIN runs r ON r.id = t.run_id
    LEFT JOIN models prover ON prover.id = r.prover_model_id
    LEFT JOIN models selection ON selection.id = r.selection_model_id
    WHERE c.problem_id = ANY(:problems)
    ORDER BY c.problem_id, c.step, c.round, c.parent_rank, t.ordinal, c.sample, c.id
    """
)

_ANSWERS = sa.text(
    f"""
    SELECT j.problem_id, c.lineage, j.steps, j.score, j.winner, j.correct, j.verification ->> 'method' AS method,
           j.answered_at, j.answer_seconds, j.answer_attempts, j.answer_prompt_tokens, j.answer_cached_tokens,
           j.answer_completion_tokens, m.path AS model, {_worker("j.answer_worker_id")} AS answer_worker,
           j.judged_at, j.verdict_seconds, j.verdict_attempts, j.verdict_prompt_tokens, j.verdict_completion_tokens,
           judge.path AS judge, {_worker("j.verdict_worker_id")} AS verdict_worker
    FROM trajectories j JOIN candidates c ON c.id = j.candidate_id JOIN teachers t ON t.id = c.teacher_id
    JOIN models m ON m.id = t.model_id JOIN runs r ON r.id = t.run_id
    LEFT JOIN models judge ON judge.id = r.judge_model_id
    WHERE j.problem_id = ANY(:problems) AND j.answer_state <> 'none'
    ORDER BY j.problem_id, c.lineage
    """
)


def chosen_problem_ids(
    connection: sa.Connection, run_id: int, run_name: str, keys: Collection[str] | None = None
) -> list[int]:
    """Ids of the rows of the run's problems, or of those called `keys`, in dataset order. Raises StoreError if a key
    belongs to no problem of the run."""
    rows = connection.execute(_KEYS, {"run_id": run_id, "keys": None if keys is None else list(keys)}).all()
    unknown = set(keys or ()) - {row.key for row in rows}
    if unknown:
        raise StoreError(f"run {run_name!r} has no problem called {min(unknown)!r}")
    return [row.id for row in rows]


def final_problem_ids(connection: sa.Connection, run_id: int) -> list[int]:
    """Keys in `problems` of those that are done or failed, in dataset order."""
    return list(connection.execute(_FINAL, {"run_id": run_id}).scalars())


def problem_rows(connection: sa.Connection, problems: Sequence[int]) -> Iterator[ProblemRow]:
    """These problems (ids of their rows) with all that was done for them, in dataset order."""
    parameters = {"problems": list(problems)}
    candidates: dict[int, list[CandidateRow]] = {problem: [] for problem in problems}
    for row in connection.execute(_CANDIDATES, parameters):
        candidates[row.problem_id].append(_candidate(row))
    answers: dict[int, list[AnswerRow]] = {problem: [] for problem in problems}
    for row in connection.execute(_ANSWERS, parameters):
        answers[row.problem_id].append(_answer(row))
    for row in connection.execute(_PROBLEMS, parameters):
        yield ProblemRow(
            id=row.id,
            key=row.key,
            state=row.state,
            step=row.step,
            failure_reason=row.failure_reason,
            base_score=row.base_score,
            created_at=row.created_at,
            admitted_at=row.admitted_at,
            finished_at=row.finished_at,
            base=RequestRow(
                row.base_scored_at,
                row.base_score_seconds,
                row.model,
                row.base_worker,
                1,
                row.base_prompt_tokens,
                row.base_cached_tokens,
            ),
            candidates=candidates[row.id],
            answers=answers[row.id],
        )


def _candidate(row: sa.Row[Any]) -> CandidateRow:
    return CandidateRow(
        id=row.id,
        lineage=row.lineage,
        step=row.step,
        round=row.round,
        parent_rank=row.parent_rank,
        sample=row.sample,
        teacher=row.teacher,
        state=row.state,
        finish_reason=row.finish_reason,
        invalid_reason=row.invalid_reason,
        score=row.score,
        rank=row.rank,
        kept=row.kept,
        winning=row.winning,
        created_at=row.created_at,
        propose=RequestRow(
            row.proposed_at,
            row.propose_seconds,
            row.model,
            row.propose_worker,
            row.propose_attempts,
            row.prompt_tokens,
            row.cached_tokens,
            row.completion_tokens,
        ),
        score_request=RequestRow(
            row.scored_at,
            row.score_seconds,
            row.prover,
            row.score_worker,
            row.score_attempts,
            row.score_prompt_tokens,
            row.score_cached_tokens,
        ),
        judge=RequestRow(
            row.judged_at,
            row.judgment_seconds,
            row.selection,
            row.judge_worker,
            row.judgment_attempts,
            row.judgment_prompt_tokens,
            row.judgment_cached_tokens,
            row.judgment_completion_tokens,
        ),
    )


def _answer(row: sa.Row[Any]) -> AnswerRow:
    return AnswerRow(
        lineage=row.lineage,
        steps=row.steps,
        score=row.score,
        winner=row.winner,
        correct=row.correct,
        method=row.method,
        answer=RequestRow(
            row.answered_at,
            row.answer_seconds,
            row.model,
            row.answer_worker,
            row.answer_attempts,
            row.answer_prompt_tokens,
            row.answer_cached_tokens,
            row.answer_completion_tokens,
        ),
        verdict=RequestRow(
            row.judged_at,
            row.verdict_seconds,
            row.judge,
            row.verdict_worker,
            row.verdict_attempts,
            row.verdict_prompt_tokens,
            None,
            row.verdict_completion_tokens,
        ),
    )
