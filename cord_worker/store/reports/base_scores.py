"""The base scores of a run, and the gains of its winners over them."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

BY_HEART = 0.9
"""A problem with at least this base score counts as known by heart."""


@dataclass(frozen=True, slots=True)
class BaseScores:
    """The base scores of a run's done problems.

    `problems` of them have a winner. For `known` of these the base score is known; the other figures are about those.
    `by_heart`: the base score is at least `BY_HEART`. `unmoved`: the winner's score is not above the base score.
    `mean_gain` is the mean of the winner's score minus the base score.
    """

    problems: int
    known: int
    by_heart: int
    unmoved: int
    mean_base_score: float | None
    mean_gain: float | None


_BASE_SCORES = sa.text(
    """
    SELECT count(*) AS problems, count(p.base_score) AS known,
           count(*) FILTER (WHERE p.base_score >= :by_heart) AS by_heart,
           count(*) FILTER (WHERE k.winner_score <= p.base_score) AS unmoved,
           avg(p.base_score) AS mean_base_score, avg(k.winner_score - p.base_score) AS mean_gain
    FROM problems p
    JOIN (SELECT * FROM current_problem_rollups WHERE run_id = :run_id AND state = 'done') k ON k.problem_id = p.id
    WHERE p.run_id = :run_id AND k.winner_score IS NOT NULL
    """
)


def read_base_scores(connection: sa.Connection, run_id: int) -> BaseScores:
    """The base scores of the run so far."""
    row = connection.execute(_BASE_SCORES, {"run_id": run_id, "by_heart": BY_HEART}).one()
    return BaseScores(**row._mapping)
