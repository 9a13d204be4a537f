"""Several workers of one model: a problem's work prefers one of them, and an idle one helps."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from cord_worker.store.database import Database
from tests.support.cluster import Cluster
from tests.support.tables import count

PROBLEMS = 24


@pytest.fixture
def cluster(tmp_path: Path, database_url: str, broker_url: str) -> Iterator[Cluster]:
    with Cluster(tmp_path, database_url, broker_url) as cluster:
        yield cluster


def start_with_two_alphas(cluster: Cluster, database: Database) -> None:
    cluster.start()
    cluster.processes["first alpha"] = cluster.processes.pop("alpha")
    cluster.start("alpha")
    cluster.wait_until(lambda: count(database, "stopped_at IS NULL AND ready_at IS NOT NULL", "workers") == 5, 60)


def shard_of(database: Database, pid: int) -> int:
    query = sa.text("SELECT shard FROM workers WHERE pid = :pid AND stopped_at IS NULL")
    return int(database.run(lambda connection: connection.execute(query, {"pid": pid}).scalar_one()))


def test_replicas_take_different_shards_and_share_the_work(cluster: Cluster, database: Database) -> None:
    start_with_two_alphas(cluster, database)
    shards = {shard_of(database, cluster.processes[name].pid) for name in ("first alpha", "alpha")}
    assert shards == {0, 1}
    cluster.enqueue(database, PROBLEMS)
    cluster.wait_until(lambda: count(database, "state = 'done'") == PROBLEMS, 90)
    for name in ("first alpha", "alpha"):
        written = f"propose_worker_id IN (SELECT id FROM workers WHERE pid = {cluster.processes[name].pid})"
        assert count(database, written, "candidates") > 0, name


def test_an_idle_replica_takes_over_the_work_of_a_halted_one(cluster: Cluster, database: Database) -> None:
    start_with_two_alphas(cluster, database)
    halted = cluster.processes["first alpha"]
    halted.send_signal(signal.SIGSTOP)  # alive in the tables until its heartbeat is missed, but reads no message
    cluster.enqueue(database, PROBLEMS)
    cluster.wait_until(lambda: count(database, "state = 'done'") == PROBLEMS, 90)
    written = f"propose_worker_id IN (SELECT id FROM workers WHERE pid = {halted.pid})"
    assert count(database, written, "candidates") == 0


def test_a_late_worker_finds_the_waiting_work(cluster: Cluster, database: Database) -> None:
    cluster.start("coordinator")
    cluster.enqueue(database, PROBLEMS)
    cluster.wait_until(lambda: count(database, "state = 'pending'", "candidates") > 0, 60)
    cluster.kill("coordinator")
    cluster.start("alpha")
    waiting = "state = 'pending' AND teacher_id IN (SELECT id FROM teachers WHERE name = 'alpha')"
    cluster.wait_until(lambda: count(database, waiting, "candidates") == 0, 60)
    taken = f"propose_worker_id IN (SELECT id FROM workers WHERE pid = {cluster.processes['alpha'].pid})"
    assert count(database, taken, "candidates") > 0


def test_a_worker_told_to_stop_leaves_its_shard_to_others(cluster: Cluster, database: Database) -> None:
    start_with_two_alphas(cluster, database)
    assert cluster.stop("first alpha") == 0
    query = sa.text("SELECT count(*) FROM workers WHERE role = 'model' AND stopped_at IS NOT NULL AND shard IS NULL")
    assert database.run(lambda connection: connection.execute(query).scalar_one()) == 1
    cluster.enqueue(database, PROBLEMS)
    cluster.wait_until(lambda: count(database, "state = 'done'") == PROBLEMS, 90)


def test_workers_that_start_at_once_get_different_shards(
    cluster: Cluster, database: Database, database_url: str
) -> None:
    del database
    for number in range(4):
        cluster.start("alpha")
        cluster.processes[f"alpha {number}"] = cluster.processes.pop("alpha")
    with psycopg.connect(database_url.replace("postgresql+psycopg", "postgresql"), autocommit=True) as connection:

        def shards() -> list[int]:
            rows = connection.execute("SELECT shard FROM workers WHERE stopped_at IS NULL ORDER BY shard")
            return [row[0] for row in rows]

        cluster.wait_until(lambda: len(shards()) == 4, 90)
        assert shards() == [0, 1, 2, 3]
