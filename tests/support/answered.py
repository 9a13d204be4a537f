"""Problems whose final answers are written, without a search."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from cord_worker.config import RunConfig
from cord_worker.dataset import ProblemRecord
from cord_worker.store.runs.enqueue import enqueue

_STEPS = """
    INSERT INTO candidates (problem_id, parent_rank, step, depth, round, teacher_id, sample, lineage, seed, max_tokens,
                            whole, state, text, score, log_prob_sum, answer_tokens)
    SELECT p.id, 0, 1, 1, 0, t.id, 0, 'l' || p.id, 0, 8, false, 'scored', 'a step', 0.5, ln(0.5), 1
    FROM problems p JOIN teachers t ON t.run_id = p.run_id
"""
_ANSWERS = """
    INSERT INTO trajectories (problem_id, candidate_id, steps, score, finish, winner, answer_state, answer_text)
    SELECT c.problem_id, c.id, 1, 0.5, 'think_end', true, 'written', CAST(:answer AS text) FROM candidates c
"""


def enqueue_answered(
    connection: sa.Connection, config: RunConfig, records: Sequence[ProblemRecord], answer: str
) -> list[int]:
    """Enqueues the run's problems with one scored step each and this final answer; returns their ids in order."""
    enqueue(connection, "run", config, list(records))
    connection.execute(sa.text(_STEPS))
    connection.execute(sa.text(_ANSWERS), {"answer": answer})
    connection.execute(sa.text("UPDATE problems SET state = 'verifying', step = 1"))
    return list(connection.execute(sa.text("SELECT id FROM problems ORDER BY id")).scalars())
