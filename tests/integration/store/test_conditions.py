"""Conditions that keep a worker from its work: written with heartbeats, shown by status."""

from __future__ import annotations

import uuid
from pathlib import Path

import sqlalchemy as sa

from cord_worker.config import RunConfig
from cord_worker.coordination.process.registration import Registration
from cord_worker.dataset import ProblemRecord
from cord_worker.operations.run_watch import RunWatch
from cord_worker.progress import line
from cord_worker.store.database import Database
from cord_worker.store.reports.status import live_workers, worker_conditions
from cord_worker.store.runs.enqueue import enqueue, ensure_model
from cord_worker.store.runs.processes import live_processes
from cord_worker.store.runs.runs import resolve_run
from cord_worker.store.schema.tables import WorkerRole
from cord_worker.store.work import workers


def test_a_condition_lasts_until_a_heartbeat_without_it_or_the_end_of_its_worker(database: Database) -> None:
    worker = uuid.uuid4()

    def work(connection: sa.Connection) -> None:
        model = ensure_model(connection, "f" * 16, "models/one", {})
        workers.register(connection, worker, WorkerRole.MODEL, hostname="gpu-7", pid=12, model_id=model)
        assert worker_conditions(connection, 60) == []
        workers.heartbeat(connection, worker, workers.Condition("waits for its server", 90.0))
        [found] = worker_conditions(connection, 60)
        assert (found.model, found.path, found.process) == ("f" * 16, "models/one", "gpu-7:12")
        assert found.text == "waits for its server"
        assert 90.0 <= found.seconds < 150.0
        [process] = live_processes(connection, 60)
        assert process.to_json({})["condition"] == "waits for its server"
        assert process.to_json({})["condition_since"] == found.since.isoformat()
        workers.heartbeat(connection, worker)
        assert worker_conditions(connection, 60) == []
        workers.heartbeat(connection, worker, workers.Condition("waits for its server", 1.0))
        workers.stop(connection, worker, "shutdown")
        assert worker_conditions(connection, 60) == []

    database.run(work)


def test_a_worker_is_present_with_its_condition_before_it_takes_work(database: Database) -> None:
    model = database.run(lambda connection: ensure_model(connection, "f" * 16, "models/one", {}))
    with Registration(
        database, WorkerRole.MODEL, heartbeat_seconds=60, model_id=model, condition="loads its model"
    ) as registration:
        [live] = database.run(lambda connection: live_workers(connection, 60))
        assert (live.count, live.ready) == (1, 0)
        [found] = database.run(lambda connection: worker_conditions(connection, 60))
        assert found.text == "loads its model"
        registration.mark_ready()
        [live] = database.run(lambda connection: live_workers(connection, 60))
        assert (live.count, live.ready) == (1, 1)


def test_status_shows_only_conditions_of_the_runs_models_and_calls_these_as_the_run_does(database: Database) -> None:
    config = RunConfig.parse(
        '[models.alpha]\npath = "alpha"\nengine = "instant"\n[[teachers]]\nname = "a"\nmodel = "alpha"\n'
        '[prover]\nmodel = "alpha"\n',
        source="test",
        folder=Path.cwd(),
    )
    fingerprint = config.models["alpha"].fingerprint()
    problem = ProblemRecord("one", "What is 1 + 1?", "2", None, {}, "x:1")
    database.run(lambda connection: enqueue(connection, "run", config, [problem]))
    run = database.run(lambda connection: resolve_run(connection, "run"))

    def register_workers(connection: sa.Connection) -> None:
        for name, path in ((fingerprint, "alpha"), ("0" * 16, "another")):
            model = ensure_model(connection, name, path, {})
            workers.register(
                connection,
                uuid.uuid4(),
                WorkerRole.MODEL,
                hostname="gpu-7",
                pid=12,
                model_id=model,
                condition=workers.Condition(f"waits for the server of {path}", 65.0),
            )

    database.run(register_workers)
    snapshot = RunWatch(database, run, worker_timeout_seconds=60).snapshot()
    assert line(snapshot).endswith("; alpha waits for the server of alpha (for 1:05)")
    [told] = snapshot.to_json()["conditions"]
    assert (told["model"], told["condition"]) == ("alpha", "waits for the server of alpha")
