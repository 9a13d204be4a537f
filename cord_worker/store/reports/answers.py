"""Final answers and how they were decided: of one problem, and counted by run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa


@dataclass(frozen=True, slots=True)
class DecidedAnswer:
    """The final answer of a trajectory, which the candidate `lineage` ends. `verification` says how `correct` was
    decided; both are None while it is not checked."""

    lineage: str
    winner: bool
    text: str | None
    correct: bool | None
    verification: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class RunCounts:
    """The answers of a run's done problems, and what its models generated. `checked` answers were decided; `correct` of
    them are right. `mean_score` is over their trajectories. `tokens`: of all models, without copies."""

    checked: int = 0
    correct: int = 0
    undecided: int = 0
    mean_score: float | None = None
    tokens: int = 0


_OF_PROBLEM = sa.text(
    """
    SELECT c.lineage, j.winner, j.answer_text AS text, j.correct, j.verification
    FROM trajectories j JOIN candidates c ON c.id = j.candidate_id
    WHERE j.problem_id = :problem_id AND j.answer_state <> 'none' ORDER BY j.winner DESC, j.id
    """
)

_COUNTS = """
    SELECT r.id, coalesce(k.checked, 0) AS checked, coalesce(k.correct, 0) AS correct,
           coalesce(k.undecided, 0) AS undecided, k.score_sum / nullif(k.scored, 0) AS mean_score,
           coalesce(q.tokens, 0) AS tokens
    FROM runs r
    CROSS JOIN LATERAL (
        SELECT sum(k.checked)::bigint AS checked, sum(k.correct)::bigint AS correct,
               sum(k.undecided)::bigint AS undecided, sum(k.score_sum) AS score_sum, sum(k.scored_answers) AS scored
        FROM current_problem_rollups k WHERE k.run_id = r.id AND k.state = 'done'
    ) k
    CROSS JOIN LATERAL (
        SELECT sum(k.completion_tokens)::bigint AS tokens FROM current_request_rollups k WHERE k.run_id = r.id
    ) q
"""
_OF_RUNS = sa.text(_COUNTS)
_OF_RUN = sa.text(f"{_COUNTS} WHERE r.id = :run_id")


def answers_of(connection: sa.Connection, problem_id: int) -> list[DecidedAnswer]:
    """The answers of one problem, the winner's first."""
    return [DecidedAnswer(**row._mapping) for row in connection.execute(_OF_PROBLEM, {"problem_id": problem_id})]


def run_counts(connection: sa.Connection, run_id: int | None = None) -> dict[int, RunCounts]:
    """Counts by the key of the run, for all runs or one."""
    rows = connection.execute(_OF_RUNS) if run_id is None else connection.execute(_OF_RUN, {"run_id": run_id})
    return {row.id: RunCounts(*row[1:]) for row in rows}
