"""A planned step in the tables of the store, and claims and results of its candidates."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import replace

import sqlalchemy as sa

from cord_worker.config import RunConfig
from cord_worker.dataset import ProblemRecord
from cord_worker.search import cord
from cord_worker.search.types import SeedScope
from cord_worker.search.validity import text_key
from cord_worker.store.database import Database
from cord_worker.store.runs.admission import admit
from cord_worker.store.runs.enqueue import enqueue
from cord_worker.store.schema.kinds import SCORE
from cord_worker.store.search import decisions
from cord_worker.store.work import propose, score
from cord_worker.store.work.propose import LeasedProposal, ProposalResult
from cord_worker.store.work.score import LeasedScore, ScoreResult
from cord_worker.store.work.values import Claimed, Due, Outcome
from tests.support.rows import SMALL_SEARCH

CONFIG = RunConfig.model_validate(
    {
        "models": {"m": {"path": "m", "engine": "instant"}, "n": {"path": "n", "engine": "instant"}},
        "teachers": [{"name": "first", "model": "m"}, {"name": "second", "model": "n"}],
        "prover": {"model": "m"},
        "run": {"max_attempts": 3},
    }
)
MODELS = [CONFIG.models[teacher.model].fingerprint() for teacher in CONFIG.teachers]


def planned_problem(database: Database) -> int:
    """Plans a problem's first step: one candidate of each of two teachers with different models; returns its id."""

    def plan(connection: sa.Connection) -> int:
        records = [ProblemRecord("p", "What is 1 + 1?", "2", None, {}, "data.jsonl:1")]
        run = enqueue(connection, "run", CONFIG, records)
        problem_id = admit(connection)[0].problem_id
        snapshot = decisions.lock_problem(connection, problem_id)
        assert snapshot is not None
        expansion = cord.initial(SMALL_SEARCH, SeedScope(0, "p"), ["first", "second"])
        decisions.write_expand(connection, snapshot, expansion, teachers(connection, run.run_id))
        return problem_id

    return database.run(plan)


def teachers(connection: sa.Connection, run_id: int) -> list[int]:
    rows = connection.execute(sa.text("SELECT id FROM teachers WHERE run_id = :id ORDER BY ordinal"), {"id": run_id})
    return list(rows.scalars())


def claim(
    database: Database, worker_id: uuid.UUID, problem_id: int, teacher: int = 0, *, exclusive: bool = False
) -> list[LeasedProposal]:
    claimed = database.run(
        lambda c: propose.claim(c, [problem_id], worker_id=worker_id, model=MODELS[teacher], exclusive=exclusive),
        single=True,
    )
    return list(claimed.leases)


def claim_scores(
    database: Database, worker_id: uuid.UUID, problem_id: int, mode: str = "instant", *, model: str = MODELS[0]
) -> list[LeasedScore]:
    claimed = database.run(
        lambda c: score.claim(c, [problem_id], worker_id=worker_id, model=model, scoring_mode=mode), single=True
    )
    return list(claimed.leases)


def proposed(
    claimed: Sequence[LeasedProposal], text: str = " 1 + 1 = 2.", invalid: str | None = None
) -> list[ProposalResult]:
    return [
        ProposalResult(lease.candidate_id, lease.attempt, text, "step", invalid, 10, 5, 0, 0.1) for lease in claimed
    ]


def finish(database: Database, worker_id: uuid.UUID, results: list[ProposalResult]) -> Outcome:
    return database.run(lambda connection: propose.finish(connection, results, worker_id=worker_id), single=True)


def to_advance(result: Claimed | Outcome) -> frozenset[int]:
    """Problems whose decision is due now."""
    return frozenset(due.problem_id for due in result.due if due.model is None)


def passed_on(outcome: Outcome) -> frozenset[Due]:
    """Messages to the next model of finished work."""
    return frozenset(due for due in outcome.due if due.model is not None)


def states(database: Database) -> list[str]:
    return database.run(
        lambda connection: list(connection.execute(sa.text("SELECT state FROM candidates ORDER BY id")).scalars())
    )


PASSED_ON = frozenset({Due(SCORE.name, 1, 1, CONFIG.prover_model.fingerprint())})


def write_text(database: Database, worker_id: uuid.UUID, problem_id: int, teacher: int, text: str) -> Outcome:
    """Writes the text of the teacher's candidate, with the key that a worker computes."""
    results = [
        replace(one, text_key=text_key(text)) for one in proposed(claim(database, worker_id, problem_id, teacher), text)
    ]
    return finish(database, worker_id, results)


def rows_of(database: Database, columns: str, of: str = "candidates") -> list[tuple[object, ...]]:
    found = sa.text(f"SELECT {columns} FROM {of} ORDER BY id")
    return database.run(lambda connection: [tuple(row) for row in connection.execute(found)])


def write_scores(database: Database, worker_id: uuid.UUID, found: Sequence[LeasedScore]) -> Outcome:
    results = [
        ScoreResult(one.candidate_id, one.attempt, None, 0.5, -0.6931471805599453, 1, 4, 20, 0, 0.1) for one in found
    ]
    return database.run(lambda c: score.finish(c, results, worker_id=worker_id, scoring_mode="instant"), single=True)
