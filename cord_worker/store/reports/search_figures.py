"""Figures about the searches of a run that `cordctl stats` draws: scores by depth, and gains by teacher.

Scores by depth read every candidate of the run; gains are read from its rollups.
"""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa


@dataclass(frozen=True, slots=True)
class DepthScores:
    """Mean scores of the candidates at one depth; depth 0 has the base scores, in the fields of the winners.

    `winners`: problems whose winner has a step at this depth. `winning_score` is not over the same problems at each
    depth: short trajectories end earlier.
    """

    depth: int
    candidates: int
    mean_score: float | None
    kept: int
    kept_score: float | None
    winners: int
    winning_score: float | None


@dataclass(frozen=True, slots=True)
class TeacherGains:
    """How much the steps of a teacher raised the score: all of its steps, and those on winning paths.

    Proposals of one step with equal texts share their gain; on a winning path each of N counts 1/N.
    """

    teacher: str
    steps: int
    mean_gain: float | None
    winning_steps: float
    mean_winning_gain: float | None


_DEPTHS = sa.text(
    """
    SELECT 0 AS depth, 0 AS candidates, NULL::float8 AS mean_score, 0 AS kept, NULL::float8 AS kept_score,
           count(base_score) AS winners, avg(base_score) AS winning_score
    FROM problems WHERE run_id = :run_id AND state = 'done' HAVING count(base_score) > 0
    UNION ALL
    SELECT c.depth, count(*), avg(c.score), count(*) FILTER (WHERE c.kept), avg(c.score) FILTER (WHERE c.kept),
           count(*) FILTER (WHERE c.winning), avg(c.score) FILTER (WHERE c.winning)
    FROM problems p JOIN candidates c ON c.problem_id = p.id
    WHERE p.run_id = :run_id AND c.score IS NOT NULL
    GROUP BY c.depth ORDER BY depth
    """
)

_GAINS = sa.text(
    """
    WITH k AS MATERIALIZED (
        SELECT problem_id, teacher_id, gains, gain_sum, winning_parts, winning_gain,
               bool_and(gains = 0 OR (gains = scores AND unscored = 0))
                   OVER (PARTITION BY problem_id, teacher_id) AS is_known
        FROM current_teacher_rollups WHERE run_id = :run_id
    ), sums AS (
        SELECT teacher_id, sum(gains)::bigint AS steps, sum(gain_sum) AS gain,
               coalesce(sum(winning_parts) FILTER (WHERE is_known AND gains > 0), 0) AS winning_steps,
               sum(winning_gain) AS winning_gain
        FROM k GROUP BY teacher_id
    ), counted AS (
        SELECT c.teacher_id, sum(1.0 / (twins.others + 1)) AS winning_steps
        FROM (SELECT DISTINCT problem_id, teacher_id FROM k WHERE NOT is_known) of_rows
        JOIN problems p ON p.id = of_rows.problem_id
        JOIN candidates c ON c.problem_id = p.id AND c.teacher_id = of_rows.teacher_id
        JOIN candidates original ON original.id = coalesce(c.duplicate_of, c.id)
        LEFT JOIN candidates parent ON parent.id = original.parent_id
        CROSS JOIN LATERAL (
            SELECT count(*) AS others FROM candidates duplicate WHERE duplicate.duplicate_of = original.id
        ) twins
        WHERE original.winning AND original.score IS NOT NULL
          AND CASE WHEN original.parent_id IS NULL THEN p.base_score ELSE parent.score END IS NOT NULL
        GROUP BY c.teacher_id
    )
    SELECT t.name AS teacher, coalesce(g.steps, 0) AS steps, g.gain / nullif(g.steps, 0) AS mean_gain,
           w.steps AS winning_steps, g.winning_gain / nullif(w.steps, 0) AS mean_winning_gain
    FROM teachers t
    LEFT JOIN sums g ON g.teacher_id = t.id
    LEFT JOIN counted n ON n.teacher_id = t.id
    CROSS JOIN LATERAL (SELECT (coalesce(g.winning_steps, 0) + coalesce(n.winning_steps, 0))::float8 AS steps) w
    WHERE t.run_id = :run_id ORDER BY t.ordinal
    """
)
"""A rollup has the sum of its winning steps' gains, but not the number of winning steps with a gain. If it has a gain
for each score and no candidate without a score, all of them have one; if it has no gain, none has. For other rollups
(of problems without a base score) the teacher's candidates are read."""


def scores_by_depth(connection: sa.Connection, run_id: int) -> list[DepthScores]:
    """Mean scores by depth, in order; empty in a run without scores."""
    return [DepthScores(**row._mapping) for row in connection.execute(_DEPTHS, {"run_id": run_id})]


def gains_by_teacher(connection: sa.Connection, run_id: int) -> list[TeacherGains]:
    """Mean gains of every teacher, in the teachers' order."""
    return [TeacherGains(**row._mapping) for row in connection.execute(_GAINS, {"run_id": run_id})]
