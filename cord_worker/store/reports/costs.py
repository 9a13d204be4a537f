"""What a run cost its engines, and the result of each of its problems: for `cordctl cost` and `cordctl compare`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import sqlalchemy as sa


@dataclass(frozen=True, slots=True)
class CostRow:
    """One model and kind of request (the view run_costs). `engine_seconds` is the time in which the engines worked on
    at least one such request, summed over replicas; `request_seconds` is the sum of the requests' durations."""

    model: str
    kind: str
    requests: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    request_seconds: float
    engine_seconds: float


@dataclass(frozen=True, slots=True)
class Walls:
    """Final problems of a run and their wall time, in seconds.

    `run_seconds`: from the first request in an engine to the end of the last problem; it includes pauses, but not the
    loading of models. `problem_seconds`: mean time from admission (or that first request, if later) to the end of one
    problem; problems overlap. `generation_seconds` and `scoring_seconds`: the mean part of it with at least one such
    request of the problem in an engine.
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
    without a decision. `generated_tokens` are the teachers' tokens, answers included.
    """

    key: str
    score: float | None
    correct: float | None
    undecided: int
    steps: float | None
    generated_tokens: int


def engine_seconds(rows: Iterable[CostRow]) -> float:
    """Engine seconds of a run, over all its models and kinds of request: the figure behind every `engine_seconds` of a
    run in outputs."""
    return sum(row.engine_seconds for row in rows)


_COSTS = sa.text(
    """
    SELECT model, kind, requests, prompt_tokens, cached_tokens, completion_tokens, request_seconds, engine_seconds
    FROM run_costs WHERE run = :run
    """
)

_WALLS = sa.text(
    """
    WITH final AS (
        SELECT id, admitted_at, finished_at FROM problems WHERE run_id = :run_id AND state IN ('done', 'failed')
    ),
    requests AS (
        SELECT c.problem_id, 'generation' AS phase, c.proposed_at AS ended_at, c.propose_seconds AS seconds
        FROM candidates c JOIN final p ON p.id = c.problem_id WHERE c.propose_seconds IS NOT NULL
        UNION ALL
        SELECT j.problem_id, 'generation', j.answered_at, j.answer_seconds
        FROM trajectories j JOIN final p ON p.id = j.problem_id WHERE j.answer_seconds IS NOT NULL
        UNION ALL
        SELECT c.problem_id, 'scoring', c.scored_at, c.score_seconds
        FROM candidates c JOIN final p ON p.id = c.problem_id WHERE c.score_seconds IS NOT NULL
        UNION ALL
        SELECT c.problem_id, 'scoring', c.judged_at, c.judgment_seconds
        FROM candidates c JOIN final p ON p.id = c.problem_id WHERE c.judgment_seconds IS NOT NULL
    ),
    spans AS (
        SELECT problem_id, phase, tstzrange(ended_at - make_interval(secs => seconds), ended_at) AS span FROM requests
    ),
    started AS (SELECT min(ended_at - make_interval(secs => seconds)) AS at FROM requests),
    busy AS (
        SELECT phase, coalesce(sum(seconds), 0)::float8 AS seconds
        FROM (
            SELECT phase, (SELECT extract(epoch FROM sum(upper(one) - lower(one))) FROM unnest(spans) AS one) AS seconds
            FROM (SELECT phase, range_agg(span) AS spans FROM spans GROUP BY problem_id, phase) AS of_problem
        ) AS lengths
        GROUP BY phase
    )
    SELECT count(p.id) AS problems,
           coalesce(extract(epoch FROM max(p.finished_at) - coalesce(s.at, min(p.admitted_at))), 0)::float8
               AS run_seconds,
           avg(extract(epoch FROM p.finished_at - greatest(p.admitted_at, s.at)))::float8 AS problem_seconds,
           (SELECT seconds FROM busy WHERE phase = 'generation') / nullif(count(p.id), 0) AS generation_seconds,
           (SELECT seconds FROM busy WHERE phase = 'scoring') / nullif(count(p.id), 0) AS scoring_seconds
    FROM (SELECT at FROM started) AS s LEFT JOIN final p ON p.finished_at IS NOT NULL
    GROUP BY s.at
    """
)

_PROBLEM_RESULTS = sa.text(
    """
    SELECT p.key, answers.score, CASE WHEN p.state = 'failed' THEN 0 ELSE answers.correct END AS correct,
           answers.undecided, answers.steps,
           coalesce(answers.tokens, 0) + coalesce((
               SELECT sum(c.completion_tokens) FROM candidates c WHERE c.problem_id = p.id
           ), 0) AS generated_tokens
    FROM problems p
    CROSS JOIN LATERAL (
        SELECT avg(j.score) AS score, avg(j.correct::int)::float8 AS correct, avg(j.steps)::float8 AS steps,
               count(*) FILTER (WHERE j.correct IS NULL AND j.verification IS NOT NULL) AS undecided,
               sum(j.answer_completion_tokens) AS tokens
        FROM trajectories j WHERE j.problem_id = p.id AND j.answer_state <> 'none'
    ) answers
    WHERE p.run_id = :run_id AND p.state IN ('done', 'failed') ORDER BY p.position
    """
)


def read_costs(connection: sa.Connection, run_name: str) -> list[CostRow]:
    """What the run cost, by model and kind of request."""
    return [CostRow(**row._mapping) for row in connection.execute(_COSTS, {"run": run_name})]


def read_walls(connection: sa.Connection, run_id: int) -> Walls:
    """How long the run and its problems took."""
    return Walls(**connection.execute(_WALLS, {"run_id": run_id}).one()._mapping)


def problem_results(connection: sa.Connection, run_id: int) -> list[ProblemResult]:
    """Every done or failed problem of the run, in dataset order."""
    return [ProblemResult(**row._mapping) for row in connection.execute(_PROBLEM_RESULTS, {"run_id": run_id})]
