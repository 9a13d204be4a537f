"""The problems that two runs have both finished."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from cord_worker.store.reports.problem_list import QUESTION_START


@dataclass(frozen=True, slots=True)
class SharedProblem:
    """A problem that is done or failed in both runs: its id, its positions in both datasets, and the beginning of its
    question. `is_same`: question, answer and passage are the same in both."""

    key: str
    position: int
    other_position: int
    is_same: bool
    question: str


_SHARED = sa.text(
    f"""
    SELECT p.key, p.position, other.position AS other_position, p.content_hash = other.content_hash AS is_same,
           left(p.question, {QUESTION_START}) AS question
    FROM problems p JOIN problems other ON other.run_id = :other_id AND other.key = p.key
    WHERE p.run_id = :run_id AND p.state IN ('done', 'failed') AND other.state IN ('done', 'failed')
    ORDER BY p.position
    """
)


def shared_problems(connection: sa.Connection, run_id: int, other_id: int) -> list[SharedProblem]:
    """The problems that both runs have finished, in the order of the first run's dataset."""
    rows = connection.execute(_SHARED, {"run_id": run_id, "other_id": other_id})
    return [SharedProblem(**row._mapping) for row in rows]
