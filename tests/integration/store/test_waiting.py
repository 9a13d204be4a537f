"""What a run waits for, read from its tables."""

from __future__ import annotations

import uuid
from dataclasses import replace

import sqlalchemy as sa

from cord_worker.config import RunConfig
from cord_worker.dataset import ProblemRecord
from cord_worker.search import cord
from cord_worker.search.types import SeedScope
from cord_worker.store.database import Database
from cord_worker.store.reports.backlog import read_backlog
from cord_worker.store.reports.status import read_counts
from cord_worker.store.runs.admission import admit
from cord_worker.store.runs.enqueue import enqueue
from cord_worker.store.schema.tables import WorkerRole
from cord_worker.store.search import decisions
from cord_worker.store.work import propose, workers
from cord_worker.store.work.propose import ProposalResult
from tests.support.rows import SMALL_SEARCH

CONFIG = RunConfig.model_validate(
    {
        "models": {"m": {"path": "m", "engine": "instant"}, "n": {"path": "n", "engine": "instant"}},
        "teachers": [{"name": "first", "model": "m"}],
        "prover": {"model": "n"},
    }
)
TEACHER, PROVER = (CONFIG.models[name].fingerprint() for name in ("m", "n"))
SETTINGS = replace(SMALL_SEARCH, beam_width=1, samples_per_teacher=2)


def proposal(lease_id: int, attempt: int) -> ProposalResult:
    return ProposalResult(
        candidate_id=lease_id,
        attempt=attempt,
        text="It is 2.",
        finish_reason="step",
        invalid_reason=None,
        prompt_tokens=3,
        completion_tokens=3,
        cached_tokens=0,
        seconds=0.1,
    )


def test_a_run_waits_first_for_its_coordinator_then_for_its_teachers_then_for_its_prover(database: Database) -> None:
    records = [ProblemRecord(key, f"What is 1 + {key}?", "2", None, {}, "data.jsonl:1") for key in ("1", "2")]
    run = database.run(lambda connection: enqueue(connection, "run", CONFIG, records)).run_id

    def owed() -> list[tuple[str, str | None, int, int]]:
        found = database.run(lambda connection: read_backlog(connection, run))
        return [(one.kind, one.model, one.waiting, one.in_work) for one in found]

    assert owed() == [("admission", None, 2, 0)]
    due = database.run(admit)
    assert owed() == [("decision", None, 2, 0)]

    def plan(connection: sa.Connection) -> None:
        teachers = connection.execute(sa.text("SELECT id FROM teachers WHERE run_id = :id"), {"id": run}).scalars()
        snapshot = decisions.lock_problem(connection, due[0].problem_id)
        assert snapshot is not None
        expansion = cord.initial(SETTINGS, SeedScope(0, "1"), ["first"])
        decisions.write_expand(connection, snapshot, expansion, list(teachers))

    database.run(plan)
    assert owed() == [("decision", None, 1, 0), ("proposal", TEACHER, 2, 0)]

    worker = uuid.uuid4()
    database.run(
        lambda connection: workers.register(connection, worker, WorkerRole.MODEL, hostname="h", pid=1, model_id=None)
    )
    claimed = database.run(
        lambda connection: propose.claim(
            connection, [due[0].problem_id], worker_id=worker, model=TEACHER, exclusive=False
        ),
        single=True,
    ).leases
    assert owed()[1] == ("proposal", TEACHER, 0, 2)
    [_, at_work] = database.run(lambda connection: read_backlog(connection, run))
    assert at_work.seconds is not None
    assert 0 <= at_work.seconds < 60

    # The prover is waited for once a text is there and its earlier siblings have theirs.
    for index, lease in enumerate(claimed):
        result = proposal(lease.candidate_id, lease.attempt)
        database.run(
            lambda connection, result=result: propose.finish(connection, [result], worker_id=worker), single=True
        )
        assert [one[0] for one in owed()] == ["decision", *(["proposal"] if index == 0 else []), "score"]
    assert owed()[1] == ("score", PROVER, 2, 0)


def test_a_run_is_idle_since_its_last_result_or_else_since_its_creation(database: Database) -> None:
    records = [ProblemRecord("1", "What is 1 + 1?", "2", None, {}, "data.jsonl:1")]
    run = database.run(lambda connection: enqueue(connection, "run", CONFIG, records)).run_id
    with_age = sa.text("UPDATE runs SET created_at = now() - interval '100 seconds'")
    database.run(lambda connection: connection.execute(with_age))
    assert 100 <= database.run(lambda connection: read_counts(connection, run)).idle_seconds < 160
    finished = sa.text("UPDATE problems SET finished_at = now() - interval '30 seconds', state = 'failed'")
    database.run(lambda connection: connection.execute(finished))
    assert 30 <= database.run(lambda connection: read_counts(connection, run)).idle_seconds < 90
