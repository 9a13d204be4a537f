"""Promise 1: whatever is killed, emptied or restarted, the tables end like those of an undisturbed run."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
import sqlalchemy as sa

from cord_worker.engines.instant import ENGINE_DIES, IMPOSSIBLE, NOT_FINITE
from cord_worker.local.redis import EmbeddedRedis
from cord_worker.local.state import StateDir
from cord_worker.store.database import Database
from tests.support.cluster import Cluster
from tests.support.redis_server import private_redis
from tests.support.tables import content, count, differences, empty_tables

PROBLEMS = 12


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    """A private broker, which the test may empty and kill."""
    with private_redis(tmp_path / "broker") as server:
        yield server


@pytest.fixture
def cluster(tmp_path: Path, database_url: str, broker: EmbeddedRedis) -> Iterator[Cluster]:
    with Cluster(tmp_path, database_url, broker.url) as cluster:
        yield cluster


def finish(cluster: Cluster, database: Database, seconds: float = 120.0) -> None:
    cluster.wait_until(lambda: count(database, "state = 'done'") == PROBLEMS, seconds)


def scored_of(database: Database, problems: int) -> int:
    """Scored candidates of the first `problems` problems."""
    first = f"problem_id IN (SELECT id FROM problems ORDER BY position LIMIT {problems})"
    return count(database, f"state = 'scored' AND {first}", "candidates")


@pytest.mark.long
def test_faults_of_every_kind_change_nothing_in_the_tables(
    cluster: Cluster, database: Database, broker: EmbeddedRedis
) -> None:
    cluster.enqueue(database, PROBLEMS)
    cluster.start()
    finish(cluster, database)
    undisturbed = content(database)
    assert len(undisturbed["candidates"]) > 250
    # Work is added with every fault once half of the present work is scored: so no fault is too late on a fast machine.
    portions = range(PROBLEMS // 6, PROBLEMS + 1, PROBLEMS // 6)
    halves = [scored_of(database, portion) // 2 for portion in (0, *portions)]
    for name in cluster.names:
        assert cluster.stop(name) == 0
    empty_tables(database)

    chance = random.Random(7)
    cluster.start()
    client = redis.Redis(unix_socket_path=str(broker.socket_path))
    for place, enqueued in enumerate(portions):
        cluster.wait_until(lambda half=halves[place]: count(database, "state = 'scored'", "candidates") >= half, 120)
        victim = cluster.names[place % len(cluster.names)]
        if victim == "coordinator":
            cluster.enqueue(database, enqueued)
            cluster.kill(victim)
        else:
            with cluster.no_result_of(victim, database):
                cluster.enqueue(database, enqueued)
                cluster.kill_holding_a_lease(victim, database)
        if place % 2:
            client.flushall()
        time.sleep(chance.random())
        cluster.start(victim)
    finish(cluster, database)

    assert differences(undisturbed, content(database)) == []
    assert count(database, "propose_attempts > 1 OR score_attempts > 1", "candidates") > 0


def test_a_restarted_broker_stops_no_process(cluster: Cluster, database: Database, broker: EmbeddedRedis) -> None:
    cluster.enqueue(database, PROBLEMS)
    cluster.start()
    cluster.wait_until(lambda: count(database, "state = 'scored'", "candidates") > 50, 120)
    with StateDir.open(broker.home.parent).locked():
        broker.stop()
        time.sleep(1.0)
        broker.start()
    finish(cluster, database)
    assert [name for name, process in cluster.processes.items() if process.poll() is not None] == []


def test_a_worker_told_to_stop_returns_its_leases(cluster: Cluster, database: Database) -> None:
    cluster.enqueue(database, PROBLEMS)
    cluster.start()
    cluster.wait_until(lambda: count(database, "state = 'scored'", "candidates") > 50, 120)
    assert cluster.stop("beta") == 0
    assert (
        count(
            database,
            "state = 'proposing' AND propose_worker_id IN (SELECT id FROM workers WHERE stopped_at IS NOT NULL)",
            "candidates",
        )
        == 0
    )
    cluster.start("beta")
    finish(cluster, database)


def test_two_coordinators_at_once_decide_every_step_once(cluster: Cluster, database: Database) -> None:
    cluster.enqueue(database, PROBLEMS)
    cluster.start()
    first = cluster.processes.pop("coordinator")
    cluster.start("coordinator")
    cluster.processes["first coordinator"] = first
    finish(cluster, database)
    twice = "SELECT problem_id, step FROM beams GROUP BY problem_id, step HAVING count(*) <> count(DISTINCT rank)"
    assert database.run(lambda connection: connection.execute(sa.text(twice)).all()) == []
    assert count(database, "outstanding <> 0") == 0


def test_a_dead_engine_ends_only_its_own_worker(cluster: Cluster, database: Database) -> None:
    cluster.enqueue(database, 1, addition=ENGINE_DIES)
    cluster.start("coordinator", "alpha")
    assert cluster.processes["alpha"].wait(timeout=120) == 1
    assert "the engine died" in (cluster.config_path.parent / "alpha.log").read_text()
    assert count(database, "state = 'proposing'", "candidates") == 0
    assert cluster.processes["coordinator"].poll() is None


def test_an_impossible_request_fails_its_own_problem_and_no_other(cluster: Cluster, database: Database) -> None:
    cluster.enqueue(database, 1, run="impossible", addition=IMPOSSIBLE)
    cluster.enqueue(database, 1, run="not finite", addition=NOT_FINITE)
    cluster.enqueue(database, 3)
    cluster.start()
    cluster.wait_until(lambda: count(database, "state = 'done'") == 3, 120)
    for reason in ("too_long", "not_finite"):
        failed = f"state = 'failed' AND failure_reason LIKE '%{reason}%'"
        cluster.wait_until(lambda failed=failed: count(database, failed) == 1, 120)
    assert [name for name, process in cluster.processes.items() if process.poll() is not None] == []
