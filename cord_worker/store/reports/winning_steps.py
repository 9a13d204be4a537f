"""Which teacher wrote each step of the winners, and where in the trajectory: for the paper's Figure 2."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa


@dataclass(frozen=True, slots=True)
class WinningStep:
    """One step of a winner: its problem's key in the dataset, its teacher, and the tenth (1-10) of the decoding
    position.

    A step that N proposals have in common is listed once for each, with the `share` 1/N.
    """

    key: str
    teacher: str
    tenth: int
    share: float = 1.0


_WINNING_STEPS = sa.text(
    """
    SELECT p.key, t.name AS teacher, least(floor(10 * (c.depth - 0.5) / j.steps)::int, 9) + 1 AS tenth,
           CAST(1.0 / count(*) OVER (PARTITION BY c.id) AS float8) AS share
    FROM candidates c
    JOIN problems p ON p.id = c.problem_id
    JOIN LATERAL (
        SELECT c.teacher_id, c.sample
        UNION ALL
        SELECT duplicate.teacher_id, duplicate.sample FROM candidates duplicate WHERE duplicate.duplicate_of = c.id
    ) proposal ON true
    JOIN teachers t ON t.id = proposal.teacher_id
    JOIN trajectories j ON j.problem_id = p.id AND j.winner
    WHERE p.run_id = :run_id AND c.winning
    ORDER BY p.position, c.depth, t.ordinal, proposal.sample
    """
)


def winning_steps(connection: sa.Connection, run_id: int) -> list[WinningStep]:
    """The steps of the run's winners, by problem and depth."""
    return [WinningStep(**row._mapping) for row in connection.execute(_WINNING_STEPS, {"run_id": run_id})]
