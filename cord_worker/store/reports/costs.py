"""The tokens and seconds that a run cost, and the result of each problem, for `cordctl cost` and `cordctl compare`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import sqlalchemy as sa


@dataclass(frozen=True, slots=True)
class TokenRow:
    """The tokens of one model in one kind of request, over all workers. `model` is its path; `cached_tokens` of the
    prompt tokens came from the prefix cache (0 if that is not known)."""

    model: str
    kind: str
    requests: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class CostRow(TokenRow):
    """A TokenRow with times (the view model_usage). `engine_seconds` is the time in which the engines worked on at
    least one such request, summed over replicas; `request_seconds` is the sum of the requests' durations."""

    request_seconds: float
    engine_seconds: float


@dataclass(frozen=True, slots=True)
class WallTimes:
    """Final problems of a run and their wall time, in seconds.

    `run_seconds`: from the first request in an engine to the end of the last problem; it includes pauses, but not the
    loading of models. `problem_seconds`: mean time from admission (or that first request, if later) to the end of one
    problem; problems overlap. `generation_seconds` and `scoring_seconds`: mean time in which at least one request of
    the problem, for generation or for scoring, was in an engine.
    """

    problems: int
    run_seconds: float
    problem_seconds: float | None
    generation_seconds: float | None
    scoring_seconds: float | None


@dataclass(frozen=True, slots=True)
class ProblemResult:
    """The result of one problem.

    A failed problem has no score and counts as not correct. `correct` is the share of right answers among its decided
    ones (only a run of samples has several), None if none was decided; `undecided` counts the answers that were checked
    and are neither right nor wrong. `generated_tokens` are the teachers' tokens, answers included, without copies in a
    trimmed run.
    `result_tokens` are those that a student would read: of the trajectory and its final answer (a mean over samples);
    None for a failed problem.
    """

    key: str
    score: float | None
    correct: float | None
    undecided: int
    steps: float | None
    generated_tokens: int
    result_tokens: float | None


def engine_seconds(rows: Iterable[CostRow]) -> float:
    """Engine seconds of a run, over all its models and kinds of request. Every output of a run's `engine_seconds` uses
    this sum."""
    return sum(row.engine_seconds for row in rows)


_TOKENS = sa.text(
    """
    SELECT m.path AS model, k.kind, sum(k.requests)::bigint AS requests, sum(k.prompt_tokens)::bigint AS prompt_tokens,
           coalesce(sum(k.cached_tokens), 0)::bigint AS cached_tokens,
           sum(k.completion_tokens)::bigint AS completion_tokens
    FROM (SELECT * FROM current_request_rollups WHERE run_id = :run_id) k JOIN models m ON m.id = k.model_id
    GROUP BY m.path, m.fingerprint, k.kind ORDER BY m.path, k.kind
    """
)

_COSTS = sa.text(
    """
    SELECT model, kind, sum(requests)::bigint AS requests, sum(prompt_tokens)::bigint AS prompt_tokens,
           coalesce(sum(cached_tokens), 0)::bigint AS cached_tokens,
           sum(completion_tokens)::bigint AS completion_tokens, sum(request_seconds) AS request_seconds,
           sum(engine_seconds) AS engine_seconds
    FROM model_usage WHERE run = :run GROUP BY model, fingerprint, kind ORDER BY model, kind
    """
)

_WORKER_SECONDS = sa.text(
    """
    SELECT m.path AS model, sum((
        SELECT coalesce(extract(epoch FROM sum(upper(span) - lower(span))), 0) FROM unnest(w.busy) AS span
    ))::float8 AS seconds
    FROM (
        SELECT model_id, worker_id, range_agg(busy) AS busy FROM current_request_rollups
        WHERE run_id = :run_id GROUP BY model_id, worker_id
    ) w
    JOIN models m ON m.id = w.model_id GROUP BY m.path
    """
)

_WALLS = sa.text(
    """
    WITH final AS (
        SELECT p.admitted_at, p.finished_at, k.first_request_at, k.generation_seconds, k.scoring_seconds,
               min(k.first_request_at) OVER () AS started_at
        FROM problems p
        LEFT JOIN (SELECT * FROM current_problem_rollups WHERE run_id = :run_id) k ON k.problem_id = p.id
        WHERE p.run_id = :run_id AND p.state IN ('done', 'failed') AND p.finished_at IS NOT NULL
    ), asked AS (
        SELECT kind FROM current_request_rollups WHERE run_id = :run_id
    )
    SELECT count(*) AS problems,
           coalesce(extract(epoch FROM max(finished_at) - coalesce(min(started_at), min(admitted_at))), 0)::float8
               AS run_seconds,
           avg(extract(epoch FROM finished_at - greatest(admitted_at, started_at)))::float8 AS problem_seconds,
           CASE WHEN (SELECT bool_or(kind IN ('propose', 'answer')) FROM asked)
                THEN coalesce(sum(generation_seconds), 0) / nullif(count(*), 0) END AS generation_seconds,
           CASE WHEN (SELECT bool_or(kind IN ('score', 'judge')) FROM asked)
                THEN coalesce(sum(scoring_seconds), 0) / nullif(count(*), 0) END AS scoring_seconds
    FROM final
    """
)

_PROBLEM_RESULTS = sa.text(
    """
    SELECT p.key, k.score_sum / nullif(k.scored_answers, 0) AS score,
           CASE WHEN p.state = 'failed' THEN 0 ELSE k.correct::float8 / nullif(k.checked, 0) END AS correct,
           coalesce(k.undecided, 0) AS undecided, k.answer_steps::float8 / nullif(k.answers, 0) AS steps,
           coalesce(k.step_tokens + k.answer_tokens, 0) AS generated_tokens,
           CASE WHEN p.state = 'done' THEN k.result_tokens END AS result_tokens
    FROM problems p
    LEFT JOIN (SELECT * FROM current_problem_rollups WHERE run_id = :run_id) k ON k.problem_id = p.id
    WHERE p.run_id = :run_id AND p.state IN ('done', 'failed') ORDER BY p.position
    """
)


def read_tokens(connection: sa.Connection, run_id: int) -> list[TokenRow]:
    """The tokens of the run so far, by model and kind of request; faster than `read_costs`, which reads times too."""
    return [TokenRow(**row._mapping) for row in connection.execute(_TOKENS, {"run_id": run_id})]


def read_costs(connection: sa.Connection, run_name: str) -> list[CostRow]:
    """What the run cost, by model and kind of request."""
    return [CostRow(**row._mapping) for row in connection.execute(_COSTS, {"run": run_name})]


def read_worker_seconds(connection: sa.Connection, run_id: int) -> dict[str, float]:
    """By path of a model: the time in which its workers had at least one request of the run, of any kind, summed over
    replicas."""
    return {row.model: row.seconds for row in connection.execute(_WORKER_SECONDS, {"run_id": run_id})}


def read_wall_times(connection: sa.Connection, run_id: int) -> WallTimes:
    """How long the run and its problems took."""
    return WallTimes(**connection.execute(_WALLS, {"run_id": run_id}).one()._mapping)


def problem_results(connection: sa.Connection, run_id: int) -> list[ProblemResult]:
    """Every done or failed problem of the run, in dataset order."""
    return [ProblemResult(**row._mapping) for row in connection.execute(_PROBLEM_RESULTS, {"run_id": run_id})]
