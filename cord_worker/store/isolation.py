"""Which work may only be done alone, so that a problem that ends its worker takes nobody with it.

A worker that dies loses every lease that it holds, and nobody can tell which of them killed it. So a lost attempt
counts towards giving a problem up only where the problem was alone in its worker: a piece of work is tried `COMPANIONS`
times (at most) beside others, then with nothing else in its worker (`coordination.company`). Who is innocent is through
with the first of these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

COMPANIONS = 2
"""Attempts beside others. The first loss is mostly a machine's; a second one makes every companion suspect."""

MOST_ATTEMPTS = "greatest((r.config -> 'run' ->> 'max_attempts')::int, 2)"
"""SQL: attempts after which the run `r` gives a piece of work up; the last one is always alone."""


def must_be_alone(attempts: str) -> str:
    """SQL: whether a piece of work of the run `r` that was tried so often (a column) may only be done alone."""
    return f"({attempts} >= least({COMPANIONS}, {MOST_ATTEMPTS} - 1))"


@dataclass(frozen=True, slots=True)
class Asked:
    """Work that a message asked for; `teacher_id` is set for proposals."""

    kind: str
    problem_id: int
    teacher_id: int | None = None


_WAITS_ALONE = sa.text(
    f"""
    SELECT EXISTS (
        SELECT 1 FROM problems p
        JOIN runs r ON r.id = p.run_id AND r.state = 'active'
        JOIN candidates c ON c.problem_id = p.id AND c.step = p.step
        WHERE p.id = asked.problem_id AND p.state = 'searching' AND CASE asked.kind
            WHEN 'propose' THEN c.state = 'pending' AND c.teacher_id = asked.teacher_id
                                AND {must_be_alone("c.propose_attempts")}
            WHEN 'score' THEN c.state = 'proposed' AND {must_be_alone("c.score_attempts")}
            WHEN 'judge' THEN c.state = 'unjudged' AND {must_be_alone("c.judgment_attempts")}
        END
        UNION ALL
        SELECT 1 FROM problems p
        JOIN runs r ON r.id = p.run_id AND r.state = 'active'
        JOIN trajectories j ON j.problem_id = p.id
        WHERE p.id = asked.problem_id AND CASE asked.kind
            WHEN 'answer' THEN p.state = 'answering' AND j.answer_state = 'pending'
                               AND {must_be_alone("j.answer_attempts")}
            WHEN 'verdict' THEN p.state = 'verifying' AND j.answer_state = 'written'
                                AND {must_be_alone("j.judgment_attempts")}
        END
    ) AS waits
    FROM unnest(CAST(:kinds AS text[]), CAST(:problem_ids AS bigint[]), CAST(:teacher_ids AS bigint[]))
        WITH ORDINALITY AS asked(kind, problem_id, teacher_id, place)
    ORDER BY asked.place
    """
)


def waits_alone(connection: sa.Connection, asked: Sequence[Asked]) -> list[bool]:
    """Whether work that was asked for waits, but may only be done alone."""
    rows = connection.execute(
        _WAITS_ALONE,
        {
            "kinds": [one.kind for one in asked],
            "problem_ids": [one.problem_id for one in asked],
            "teacher_ids": [one.teacher_id for one in asked],
        },
    )
    return list(rows.scalars())
