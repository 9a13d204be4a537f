"""Conditions that keep a worker from its work: written with heartbeats, shown by status."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
import sqlalchemy as sa

from cord_worker.config import RunConfig
from cord_worker.coordination.process.registration import Registration
from cord_worker.dataset import ProblemRecord
from cord_worker.errors import CordError, TablesMissing
from cord_worker.operations.run_watch import RunWatch
from cord_worker.progress import line
from cord_worker.store.database import Database
from cord_worker.store.reports.status import live_workers, worker_conditions
from cord_worker.store.runs.enqueue import enqueue, ensure_model
from cord_worker.store.runs.processes import live_processes
from cord_worker.store.runs.runs import resolve_run
from cord_worker.store.schema.tables import WorkerRole
from cord_worker.store.work import workers
from tests.support.waiting import wait_until


def test_a_condition_lasts_until_a_heartbeat_without_it_or_the_end_of_its_worker(database: Database) -> None:
    worker = uuid.uuid4()

    def work(connection: sa.Connection) -> None:
        model = ensure_model(connection, "f" * 16, "models/one", {})
        workers.register(connection, worker, WorkerRole.MODEL, hostname="gpu-7", pid=12, model_id=model)
        assert worker_conditions(connection, 60) == []
        workers.write_heartbeat(connection, worker, workers.Condition("waits for its server", 90.0))
        [found] = worker_conditions(connection, 60)
        assert (found.model, found.path, found.process) == ("f" * 16, "models/one", "gpu-7:12")
        assert found.text == "waits for its server"
        assert 90.0 <= found.seconds < 150.0
        [process] = live_processes(connection, 60)
        assert process.to_json({})["condition"] == "waits for its server"
        assert process.to_json({})["condition_since"] == found.since.isoformat()
        workers.write_heartbeat(connection, worker)
        assert worker_conditions(connection, 60) == []
        workers.write_heartbeat(connection, worker, workers.Condition("waits for its server", 1.0))
        workers.mark_stopped(connection, worker, "shutdown")
        assert worker_conditions(connection, 60) == []

    database.run(work)


def test_a_worker_whose_row_was_lost_registers_again_as_it_was(database: Database) -> None:
    model = database.run(lambda connection: ensure_model(connection, "f" * 16, "models/one", {}))
    with Registration(database, WorkerRole.MODEL, heartbeat_seconds=0.05, model_id=model) as registration:
        registration.mark_ready()
        before = database.run(workers.live_shards)
        database.run(lambda connection: connection.execute(sa.text("DELETE FROM workers")))
        assert wait_until(lambda: database.run(workers.live_shards) == before)
        row = "SELECT id, role, model_id FROM workers"
        again = database.run(lambda connection: connection.execute(sa.text(row)).one())
        assert tuple(again) == (registration.worker_id, "model", model)


def test_a_worker_whose_model_was_lost_too_ends_and_says_why(database: Database) -> None:
    model = database.run(lambda connection: ensure_model(connection, "f" * 16, "models/one", {}))
    failures: list[CordError] = []
    with Registration(database, WorkerRole.MODEL, heartbeat_seconds=0.05, model_id=model) as registration:
        registration.set_handlers(drain=lambda: None, fail=failures.append)
        for table in ("workers", "models"):
            database.run(lambda connection, t=table: connection.execute(sa.text(f"DELETE FROM {t}")))
        assert wait_until(lambda: bool(failures))
    assert "an older state of it was restored" in str(failures[0])


def test_a_worker_waits_while_its_tables_are_missing(database_url: str) -> None:
    """Tables are missing while a dump is restored, for example. The worker then goes on with its old row."""
    failures: list[CordError] = []
    database = Database(database_url, waits_for_tables=True)
    rename = "ALTER TABLE {} RENAME TO {}"
    with Registration(database, WorkerRole.COORDINATOR, heartbeat_seconds=0.05) as registration:
        registration.set_handlers(drain=lambda: None, fail=failures.append)
        beaten = "SELECT count(*) FROM workers WHERE heartbeat_at > :since AND stopped_at IS NULL"
        names = [(table, f"{table}_away") for table in ("workers", "alembic_version")]
        for here, away in names:
            database.run(lambda c, h=here, a=away: c.execute(sa.text(rename.format(h, a))))
        with pytest.raises(TablesMissing, match="no tables of cord-worker at present"):
            database.run(workers.read_heartbeats, retry_seconds=0.2)
        for here, away in reversed(names):
            database.run(lambda c, h=here, a=away: c.execute(sa.text(rename.format(a, h))))
        since = database.run(lambda c: c.execute(sa.text("SELECT now()")).scalar_one())
        assert wait_until(
            lambda: database.run(lambda c: c.execute(sa.text(beaten), {"since": since}).scalar_one()) == 1
        )
    assert failures == []
    database.close()


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


def test_status_shows_only_conditions_of_the_runs_models_by_their_names_in_the_run(database: Database) -> None:
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
