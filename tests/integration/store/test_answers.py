"""Final answers: their tokens from the prefix cache are in the costs of the run."""

from __future__ import annotations

import sqlalchemy as sa

from cord_worker.config import RunConfig
from cord_worker.dataset import ProblemRecord
from cord_worker.store.database import Database
from cord_worker.store.runs.enqueue import enqueue
from cord_worker.store.schema.kinds import VERIFY
from cord_worker.store.work import answer
from cord_worker.store.work.answer import AnswerResult
from tests.support.rows import registered

CONFIG = RunConfig.model_validate(
    {
        "models": {"m": {"path": "m", "engine": "instant"}},
        "teachers": [{"name": "first", "model": "m"}],
        "prover": {"model": "m"},
    }
)

_SEARCHED = (
    """
    INSERT INTO candidates (problem_id, parent_rank, step, depth, round, teacher_id, sample, lineage, seed, max_tokens,
                            whole, state, text, score)
    SELECT p.id, 0, 1, 1, 0, t.id, 0, 'l', 0, 8, false, 'scored', 'a step', 0.5
    FROM problems p JOIN teachers t ON t.run_id = p.run_id
    """,
    """
    INSERT INTO trajectories (problem_id, candidate_id, steps, score, finish, winner, answer_state, answer_seed)
    SELECT c.problem_id, c.id, 1, 0.5, 'think_end', true, 'pending', 7 FROM candidates c
    """,
    "UPDATE problems SET state = 'answering', step = 1",
)


def test_cached_tokens_of_an_answer_are_in_the_costs_and_in_the_use_of_the_cache(database: Database) -> None:
    def search(connection: sa.Connection) -> int:
        enqueue(connection, "run", CONFIG, [ProblemRecord("p", "Why?", "So.", None, {}, "d:1")])
        for statement in _SEARCHED:
            connection.execute(sa.text(statement))
        return int(connection.execute(sa.text("SELECT id FROM problems")).scalar_one())

    problem = database.run(search)
    holder = registered(database)
    model = CONFIG.models["m"].fingerprint()
    (lease,) = database.run(lambda c: answer.claim(c, [problem], worker_id=holder, model=model), single=True).leases
    result = AnswerResult(lease.trajectory_id, lease.attempt, "So.", "eos", 40, 3, 32, 0.5)
    outcome = database.run(lambda c: answer.finish(c, [result], worker_id=holder))
    assert [(due.kind, due.problem_id) for due in outcome.due] == [(VERIFY, problem)]
    use = "SELECT kind, requests, prompt_tokens, cached_tokens, hit_rate FROM model_usage"
    assert tuple(database.run(lambda c: c.execute(sa.text(use)).one())) == ("answer", 1, 40, 32, 0.8)
    cost = "SELECT kind, prompt_tokens, cached_tokens, completion_tokens FROM model_usage"
    assert tuple(database.run(lambda c: c.execute(sa.text(cost)).one())) == ("answer", 40, 32, 3)
