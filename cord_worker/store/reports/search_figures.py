"""Figures about the searches of a run that `cordctl stats` draws: scores by depth, and gains by teacher.

Both read every candidate of the run.
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
    """How much the steps of a teacher raised the score: all of them, and those on winning paths.

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
    WITH gains AS (
        SELECT c.teacher_id, original.winning, original.id,
               original.score - CASE WHEN original.parent_id IS NULL THEN p.base_score ELSE parent.score END AS gain,
               count(*) OVER (PARTITION BY original.id) AS equals
        FROM problems p JOIN candidates c ON c.problem_id = p.id
        JOIN candidates original ON original.id = coalesce(c.duplicate_of, c.id)
        LEFT JOIN candidates parent ON parent.id = original.parent_id
        WHERE p.run_id = :run_id
    )
    SELECT t.name AS teacher, count(g.gain) AS steps, avg(g.gain) AS mean_gain,
           coalesce(sum(1.0 / g.equals) FILTER (WHERE g.winning AND g.gain IS NOT NULL), 0)::float8 AS winning_steps,
           sum(g.gain / g.equals) FILTER (WHERE g.winning)
               / nullif(sum(1.0 / g.equals) FILTER (WHERE g.winning AND g.gain IS NOT NULL), 0)::float8
               AS mean_winning_gain
    FROM teachers t LEFT JOIN gains g ON g.teacher_id = t.id
    WHERE t.run_id = :run_id GROUP BY t.id, t.name, t.ordinal ORDER BY t.ordinal
    """
)


def scores_by_depth(connection: sa.Connection, run_id: int) -> list[DepthScores]:
    """Mean scores by depth, in order; empty in a run without scores."""
    return [DepthScores(**row._mapping) for row in connection.execute(_DEPTHS, {"run_id": run_id})]


def gains_by_teacher(connection: sa.Connection, run_id: int) -> list[TeacherGains]:
    """Mean gains of every teacher, in their order."""
    return [TeacherGains(**row._mapping) for row in connection.execute(_GAINS, {"run_id": run_id})]
