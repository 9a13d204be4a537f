"""Compares the scores of a rescoring with those of its run, problem by problem."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa


@dataclass(frozen=True, slots=True)
class RescoredProblem:
    """One problem of a rescoring, over the candidates that have a score in both sets; in a run without scores, over all
    that the rescoring has scored. `score` and `rescore` are means.

    `correlation` is the mean of Spearman's rank correlations within the problem's decisions, None if no decision has
    two candidates that differ in both sets. `decisions` counts those with at least two candidates; in `other_first` of
    them the rescoring puts another candidate first. `is_other_winner`: whether it gives another finished trajectory the
    highest score; None if there are fewer than two. `best_correct`: whether the finished trajectory with the highest
    new score has a right answer; `correct`: the share of right answers; both are None if unknown.
    """

    candidates: int
    score: float | None
    rescore: float
    correlation: float | None
    decisions: int
    other_first: int
    is_other_winner: bool | None
    best_correct: bool | None
    correct: float | None


_PROBLEMS = sa.text(
    """
    WITH both_scores AS MATERIALIZED (
        SELECT c.problem_id, c.id, c.step, c.round, c.rank, c.score, x.score AS other
        FROM rescores x JOIN candidates c ON c.id = x.candidate_id
        WHERE x.rescoring_id = :rescoring_id AND x.state = 'scored' AND (c.score IS NOT NULL OR NOT :is_scored)
    ), ranked AS (
        SELECT b.*,
               CAST(rank() OVER (PARTITION BY problem_id, step, round ORDER BY score) AS float8)
               + (count(*) OVER (PARTITION BY problem_id, step, round, score) - 1) / 2.0 AS place,
               CAST(rank() OVER (PARTITION BY problem_id, step, round ORDER BY other) AS float8)
               + (count(*) OVER (PARTITION BY problem_id, step, round, other) - 1) / 2.0 AS other_place
        FROM both_scores b WHERE score IS NOT NULL
    ), decisions AS (
        SELECT problem_id, corr(place, other_place) AS correlation,
               (array_agg(other ORDER BY score DESC, rank, id))[1] < max(other) AS is_other_first
        FROM ranked GROUP BY problem_id, step, round HAVING count(*) > 1
    ), of_decisions AS (
        SELECT problem_id, avg(correlation) AS correlation, count(*) AS decisions,
               count(*) FILTER (WHERE is_other_first) AS other_first
        FROM decisions GROUP BY problem_id
    ), of_ends AS (
        SELECT b.problem_id,
               CASE WHEN count(b.score) > 1 THEN
                   (array_agg(b.other ORDER BY b.score DESC, j.winner DESC, j.id))[1] < max(b.other)
               END AS is_other_winner,
               (array_agg(j.correct ORDER BY b.other DESC, j.id))[1] AS best_correct,
               CAST(avg(CAST(j.correct AS int)) AS float8) AS correct
        FROM both_scores b JOIN trajectories j ON j.candidate_id = b.id GROUP BY b.problem_id
    )
    SELECT count(*) AS candidates, avg(b.score) AS score, avg(b.other) AS rescore, d.correlation,
           coalesce(d.decisions, 0) AS decisions, coalesce(d.other_first, 0) AS other_first,
           e.is_other_winner, e.best_correct, e.correct
    FROM both_scores b JOIN problems p ON p.id = b.problem_id
    LEFT JOIN of_decisions d ON d.problem_id = b.problem_id
    LEFT JOIN of_ends e ON e.problem_id = b.problem_id
    GROUP BY p.id, d.correlation, d.decisions, d.other_first, e.is_other_winner, e.best_correct, e.correct
    ORDER BY p.position
    """
)
"""Equal scores share their mean rank. The candidate that is first by the stored scores stays first unless another one
has a higher new score: a tie is not a change."""


def rescored_problems(connection: sa.Connection, rescoring_id: int, *, is_scored: bool) -> list[RescoredProblem]:
    """The problems of the rescoring with at least one candidate to compare, in dataset order; `is_scored`: whether the
    run has scores."""
    parameters = {"rescoring_id": rescoring_id, "is_scored": is_scored}
    return [RescoredProblem(**row._mapping) for row in connection.execute(_PROBLEMS, parameters)]
