"""Runs that share workers, workers that leave, and migrations while they run, with real processes."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from cord_worker.dataset import ProblemRecord
from cord_worker.engines.instant import takes
from cord_worker.errors import SchemaMismatch
from cord_worker.store.database import Database
from cord_worker.store.runs.enqueue import enqueue
from cord_worker.store.runs.processes import live_processes, request_drain
from cord_worker.store.schema.migration import downgrade, upgrade
from tests.support.cluster import Cluster
from tests.support.tables import count

CONFIG = """
[models.alpha]
path = "alpha"
engine = "instant"
[[teachers]]
name = "alpha"
model = "alpha"
[prover]
model = "alpha"
[search]
beam_width = 2
max_steps = 3
[run]
max_active = 8
max_attempts = 20
"""


@pytest.fixture
def cluster(tmp_path: Path, database_url: str, broker_url: str) -> Iterator[Cluster]:
    with Cluster(tmp_path, database_url, broker_url, CONFIG) as cluster:
        yield cluster


def add(cluster: Cluster, database: Database, run: str, problems: int, seconds: float) -> None:
    records = [
        ProblemRecord(f"{run}-{n}", f"What is {n} + {n}? {takes(seconds)}", str(2 * n), None, {}, f"x:{n}")
        for n in range(problems)
    ]
    database.run(lambda connection: enqueue(connection, run, cluster.config, records))


def begin(cluster: Cluster, database: Database) -> None:
    cluster.start()
    cluster.wait_until(lambda: count(database, "ready_at IS NOT NULL", "workers") == 2, 120)


def address(cluster: Cluster, name: str) -> str:
    return f"{socket.gethostname()}:{cluster.processes[name].pid}"


def test_a_small_run_ends_long_before_the_big_one_that_was_enqueued_before_it(
    cluster: Cluster, database: Database
) -> None:
    begin(cluster, database)
    add(cluster, database, "big", 40, 0.1)
    cluster.wait_until(lambda: count(database, "state = 'done'") >= 4, 120)
    add(cluster, database, "small", 4, 0.1)
    of_small = "run_id = (SELECT id FROM runs WHERE name = 'small')"
    cluster.wait_until(lambda: count(database, f"state = 'done' AND {of_small}") == 4, 120)
    assert count(database, "state NOT IN ('done', 'failed')") > 15


def test_a_drained_worker_finishes_its_leases_without_a_time_limit_and_takes_no_new_work(
    cluster: Cluster, database: Database
) -> None:
    cluster.environment["CORD_GRACE_SECONDS"] = "0.5"
    begin(cluster, database)
    add(cluster, database, "run", 4, 4.0)
    cluster.wait_until(lambda: count(database, "state = 'proposing'", "candidates") == 4, 120)
    asked = database.run(lambda c: request_drain(c, address(cluster, "alpha"), timeout_seconds=60.0))
    assert (asked.state, asked.kind) == ("running", "worker")
    states = {one.address: one.state for one in database.run(lambda c: live_processes(c, 60.0))}
    assert states == {address(cluster, "alpha"): "draining", address(cluster, "coordinator"): "running"}
    assert cluster.processes["alpha"].wait(timeout=120) == 0
    # Its leases were written once, at the first attempt; later work was left to others.
    assert count(database, "state = 'proposed' AND propose_attempts = 1", "candidates") == 4
    assert count(database, "state IN ('proposing', 'scoring')", "candidates") == 0
    assert cluster.processes["coordinator"].poll() is None


def test_a_second_signal_ends_a_worker_at_once_and_its_leases_are_returned(
    cluster: Cluster, database: Database
) -> None:
    cluster.environment["CORD_GRACE_SECONDS"] = "300"
    begin(cluster, database)
    add(cluster, database, "run", 2, 300.0)
    cluster.wait_until(lambda: count(database, "state = 'proposing'", "candidates") == 2, 120)
    alpha = cluster.processes["alpha"]
    alpha.send_signal(signal.SIGTERM)
    cluster.wait_until(lambda: "a second signal ends it at once" in cluster.log_of("alpha").read_text(), 60)
    assert alpha.poll() is None
    alpha.send_signal(signal.SIGTERM)
    assert alpha.wait(timeout=30) == 128 + signal.SIGTERM
    assert count(database, "state = 'pending' AND propose_attempts = 0", "candidates") == 2
    coordinator = cluster.processes["coordinator"]
    coordinator.send_signal(signal.SIGTERM)
    assert coordinator.wait(timeout=60) == 0


def test_a_migration_is_refused_while_workers_run_and_a_forced_one_ends_them(
    cluster: Cluster, database: Database, database_url: str
) -> None:
    begin(cluster, database)
    upgrade(database_url)  # nothing to do, nothing to refuse
    with pytest.raises(SchemaMismatch, match=r"2 processes up.*cordctl drain"):
        downgrade(database_url, "0003")
    downgrade(database_url, "0003", while_workers_run=True)
    for name in cluster.names:
        assert cluster.processes[name].wait(timeout=60) == 78
        log = (cluster.config_path.parent / f"{name}.log").read_text()
        assert "the database schema is at 0003, this code needs" in log
        assert "Run: cordctl db upgrade" in log
    cluster.start("coordinator")
    assert cluster.processes["coordinator"].wait(timeout=60) == 78
    database.run(lambda c: c.execute(sa.text("UPDATE workers SET stopped_at = now()")))
    upgrade(database_url)


def test_a_process_that_starts_without_tables_waits_for_them(cluster: Cluster, database: Database) -> None:
    """A dump is restored, or the job that migrates comes later than the processes."""
    rename = "ALTER SCHEMA {} RENAME TO {}"
    database.run(lambda c: c.execute(sa.text(rename.format("public", "away"))))
    cluster.start("coordinator")
    log = cluster.config_path.parent / "coordinator.log"
    cluster.wait_until(lambda: "cordctl db upgrade makes them" in log.read_text(), 60)
    assert cluster.processes["coordinator"].poll() is None
    database.run(lambda c: c.execute(sa.text(rename.format("away", "public"))))
    cluster.wait_until(lambda: count(database, "stopped_at IS NULL", "workers") == 1, 60)


def test_workers_end_when_a_newer_version_has_migrated(cluster: Cluster, database: Database) -> None:
    begin(cluster, database)
    database.run(lambda c: c.execute(sa.text("UPDATE alembic_version SET version_num = '9999'")))
    for name in cluster.names:
        assert cluster.processes[name].wait(timeout=60) == 78
        assert "Install that version of cord-worker" in (cluster.config_path.parent / f"{name}.log").read_text()
    assert count(database, "stopped_at IS NULL", "workers") == 0


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ('path = "./broken"', "broken' could not be loaded"),
        ('path = "nobody/no-such-model"\nrevision = "v9"', "check the name, the revision, the network"),
    ],
    ids=["weights that cannot be read", "a revision that cannot be had"],
)
def test_a_model_that_cannot_be_hosted_is_one_error_and_exit_code_78(
    tmp_path: Path, database_url: str, broker_url: str, model: str, message: str
) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{")
    config = CONFIG.replace('path = "alpha"\nengine = "instant"', f'{model}\nengine = "transformers"')
    with Cluster(tmp_path, database_url, broker_url, config) as cluster:
        cluster.environment["HF_HUB_OFFLINE"] = "1"
        cluster.start("alpha")
        assert cluster.processes["alpha"].wait(timeout=180) == 78
        log = (tmp_path / "alpha.log").read_text()
    assert message in log
    assert "Traceback" not in log
    assert log.count("error:") == 1
