"""A Redis that delivers messages but accepts none, and the connections that Redis needs room for."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import redis

from cord_worker.config import Settings
from cord_worker.coordination.celery.app import create_app
from cord_worker.coordination.messaging.messenger import Messenger
from cord_worker.coordination.messaging.routing import Shards
from cord_worker.local import limits
from cord_worker.local.redis import EmbeddedRedis
from cord_worker.operations.fleet import needs
from cord_worker.store.database import Database
from cord_worker.store.schema.kinds import ADVANCE
from cord_worker.store.work.values import Due
from tests.support.cluster import Cluster
from tests.support.redis_server import private_redis
from tests.support.tables import count

PROBLEMS = 6
OUT_OF_MEMORY = "cannot send messages to its broker at %: it is out of memory and takes no messages%"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    with private_redis(tmp_path_factory.mktemp("full")) as server:
        yield server


@pytest.fixture
def client(server: EmbeddedRedis) -> Iterator[redis.Redis]:
    with redis.Redis(unix_socket_path=str(server.socket_path), single_connection_client=True) as client:
        client.flushall()
        yield client


@contextmanager
def full(client: redis.Redis) -> Iterator[None]:
    client.config_set("maxmemory", 1)
    try:
        yield
    finally:
        client.config_set("maxmemory", 0)


def wait_until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_failed_send_is_reported_until_the_broker_takes_messages_again_without_another_send(
    server: EmbeddedRedis, client: redis.Redis, database: Database
) -> None:
    described: list[str | None] = []
    app = create_app(server.url, Settings())
    messenger = Messenger(app, Shards(database), described.append)
    assert messenger.send([Due(ADVANCE, 1, 1)])
    assert described == []
    with full(client):
        assert not messenger.send([Due(ADVANCE, 1, 2)])
        assert described[0] is not None
        assert described[0].startswith(f"cannot send messages to its broker at {server.socket_path}: it is out of mem")
    wait_until(lambda: described[-1] is None)
    app.close()


def test_a_full_broker_is_named_in_the_condition_of_the_process_and_only_while_it_is_full(
    tmp_path: Path, server: EmbeddedRedis, client: redis.Redis, database: Database, database_url: str
) -> None:
    with Cluster(tmp_path, database_url, server.url) as cluster:
        cluster.start()
        cluster.wait_until(lambda: count(database, "ready_at IS NOT NULL", "workers") == 4, 120)
        with full(client):
            cluster.enqueue(database, PROBLEMS)
            cluster.wait_until(lambda: count(database, f"condition LIKE '{OUT_OF_MEMORY}'", "workers") > 0, 60)
        cluster.wait_until(lambda: count(database, "state = 'done'") == PROBLEMS, 120)
        cluster.wait_until(lambda: count(database, "condition IS NOT NULL", "workers") == 0, 60)
        for name in cluster.names:
            assert "Traceback" not in (tmp_path / f"{name}.log").read_text(errors="replace")


def connections(client: redis.Redis) -> int:
    return len(cast("list[Any]", client.client_list()))


def test_the_limit_of_open_files_counts_at_least_the_connections_that_processes_open(
    tmp_path: Path, server: EmbeddedRedis, client: redis.Redis, database: Database, database_url: str
) -> None:
    most, own = 0, connections(client)

    def is_done() -> bool:
        nonlocal most
        most = max(most, connections(client) - own)
        return count(database, "state = 'done'") == 5 * PROBLEMS

    with Cluster(tmp_path, database_url, server.url) as cluster:
        cluster.start()
        cluster.enqueue(database, 5 * PROBLEMS)
        cluster.wait_until(is_done, 120)
        counted = sum(need.broker_connections for need in needs(cluster.config, embedded=True))
    assert most <= counted
    assert most > counted / 2  # a limit far above the need would refuse machines that suffice
    redis_need = needs(cluster.config, embedded=True)[-1]
    assert redis_need.handles == 32 + counted
    assert limits.POSTGRES in needs(cluster.config, embedded=True)
