"""States of a private Redis in which it is no broker: named in one line, waited for or refused, and left again."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import pytest
import redis
from kombu import Exchange, Queue

from cord_worker.config import Settings
from cord_worker.coordination.broker.broker_check import broker_warnings, check_broker
from cord_worker.coordination.broker.redis_transport import SET_ASIDE
from cord_worker.coordination.celery.app import create_app
from cord_worker.coordination.messaging.messenger import COORDINATOR_QUEUE, Messenger
from cord_worker.coordination.messaging.routing import Shards
from cord_worker.errors import BrokerError, BrokerRefused
from cord_worker.local.binaries import find_redis
from cord_worker.local.redis import EmbeddedRedis
from cord_worker.operations.services import services_for
from cord_worker.store.database import Database
from cord_worker.store.schema.kinds import ADVANCE
from cord_worker.store.work.values import Due
from tests.support.cluster import Cluster
from tests.support.redis_server import private_redis
from tests.support.tables import count
from tests.support.wire import Wire

PREFIX = "cord-test:"
PROBLEMS = 6


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    with private_redis(tmp_path_factory.mktemp("states")) as server:
        yield server


@pytest.fixture
def client(server: EmbeddedRedis) -> Iterator[redis.Redis]:
    with redis.Redis(unix_socket_path=str(server.socket_path), single_connection_client=True) as client:
        client.flushall()
        yield client


def settings_of(client: redis.Redis, pattern: str) -> dict[str, Any]:
    return cast("dict[str, Any]", client.config_get(pattern))


def info_of(client: redis.Redis, section: str) -> dict[str, Any]:
    return cast("dict[str, Any]", client.info(section))


@contextmanager
def configured(client: redis.Redis, setting: str, value: int | str) -> Iterator[None]:
    before = settings_of(client, setting)[setting]
    client.config_set(setting, value)
    try:
        yield
    finally:
        client.config_set(setting, before)


@contextmanager
def replica(client: redis.Redis) -> Iterator[None]:
    client.replicaof("127.0.0.1", "1")
    try:
        yield
    finally:
        client.replicaof("NO", "ONE")


@contextmanager
def without(client: redis.Redis, command: str) -> Iterator[None]:
    client.execute_command("ACL", "SETUSER", "default", f"-{command}")
    try:
        yield
    finally:
        client.execute_command("ACL", "SETUSER", "default", "+@all")


@contextmanager
def busy(client: redis.Redis) -> Iterator[None]:
    """A script runs for as long as it takes; `client` only ends it."""
    path = client.connection_pool.connection_kwargs["path"]
    with configured(client, "lua-time-limit", 10):

        def run() -> None:
            with redis.Redis(unix_socket_path=path) as other, pytest.raises(redis.ResponseError):
                other.eval("while true do end", 0)

        thread = threading.Thread(target=run)
        thread.start()
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                client.ping()
            except redis.ResponseError:
                break
        try:
            yield
        finally:
            client.script_kill()
            thread.join()


@contextmanager
def cannot_save(client: redis.Redis) -> Iterator[None]:
    """Redis cannot save: a folder has the name of its file."""
    file = Path(settings_of(client, "dir")["dir"]) / settings_of(client, "dbfilename")["dbfilename"]

    def save(status: str) -> None:
        client.bgsave()
        _until(lambda: not info_of(client, "persistence")["rdb_bgsave_in_progress"])
        assert info_of(client, "persistence")["rdb_last_bgsave_status"] == status

    file.mkdir()
    try:
        with configured(client, "save", "3600 1"):
            save("err")
            yield
    finally:
        file.rmdir()
        save("ok")
        file.unlink()


def _until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@contextmanager
def redis_with(folder: Path, *options: str, port: int = 0) -> Iterator[redis.Redis]:
    """A private server with these options, from the moment that it listens; yields a client."""
    path = folder / "redis.sock"
    path.unlink(missing_ok=True)
    place = ("--port", str(port), "--unixsocket", str(path), "--dir", str(folder), "--save", "", *options)
    process = subprocess.Popen([str(find_redis().path), *place], stdout=subprocess.DEVNULL)
    try:
        _until(lambda: _listens(path))
        with redis.Redis(unix_socket_path=str(path), single_connection_client=True) as client:
            yield client
    finally:
        process.terminate()
        process.wait()


def _listens(path: Path) -> bool:
    """Whether a server answers at the socket: its file exists a moment before that."""
    try:
        with redis.Redis(unix_socket_path=str(path)) as client:
            return bool(client.ping())
    except redis.BusyLoadingError:
        return True
    except redis.ConnectionError:
        return False


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a name short enough for a socket."""
    with TemporaryDirectory(prefix="cord-redis-") as name:
        yield Path(name)


@pytest.mark.parametrize(
    ("state", "told", "kind"),
    [
        (replica, "it is a replica, which takes no messages", BrokerError),
        (lambda client: configured(client, "min-replicas-to-write", 1), "too few replicas follow it", BrokerError),
        (lambda client: configured(client, "maxmemory", 1), "it is out of memory", BrokerError),
        (lambda client: configured(client, "maxclients", 1), "no room for another client", BrokerError),
        (cannot_save, "it is read-only, because it cannot save to its disk", BrokerError),
        (busy, "busy with a script", BrokerError),
        (lambda client: configured(client, "requirepass", "x"), "refuses the user or password", BrokerRefused),
        (lambda client: without(client, "brpop"), "it forbids its user what a queue needs", BrokerRefused),
        (lambda client: without(client, "lpush"), "it forbids its user what a queue needs", BrokerRefused),
    ],
)
def test_a_redis_that_cannot_be_a_broker_is_named_and_refused_only_if_waiting_cannot_help(
    server: EmbeddedRedis,
    client: redis.Redis,
    state: Callable[[redis.Redis], AbstractContextManager[None]],
    told: str,
    kind: type[BrokerError],
) -> None:
    assert check_broker(server.url, PREFIX).startswith("redis")
    with state(client), pytest.raises(BrokerError, match=told) as caught:
        check_broker(server.url, PREFIX)
    assert type(caught.value) is kind
    assert check_broker(server.url, PREFIX).startswith("redis")
    assert client.keys() == []


def test_a_redis_that_loads_its_data_is_waited_for(folder: Path) -> None:
    url = f"redis+socket://{folder / 'redis.sock'}"
    with redis_with(folder) as client:
        client.mset({f"key-{number}": "x" * 100 for number in range(2_000)})
        client.save()
    slowly = ("--key-load-delay", "20000", "--loading-process-events-interval-bytes", "1024")
    with redis_with(folder, *slowly) as client:
        with pytest.raises(BrokerError, match="it still loads its data") as caught:
            check_broker(url, PREFIX)
        assert type(caught.value) is BrokerError
        client.config_set("key-load-delay", 0)
        _until(lambda: not info_of(client, "persistence")["loading"])
        assert check_broker(url, PREFIX).startswith("redis")
        assert client.dbsize() == 2_000


@pytest.mark.parametrize("command", ["BRPOP", "LPUSH", "LLEN", "SET", "DEL"])
def test_a_redis_without_a_command_that_queues_need_is_refused(folder: Path, command: str) -> None:
    said = "it does not know a command that a queue needs"
    with redis_with(folder, "--rename-command", command, "renamed"), pytest.raises(BrokerRefused, match=said):
        check_broker(f"redis+socket://{folder / 'redis.sock'}", PREFIX)


def test_a_redis_without_the_commands_of_its_administrator_is_used(folder: Path) -> None:
    """Like hosted ones: settings that it does not show cause no remark."""
    renamed = [word for name in ("CONFIG", "INFO", "SCAN") for word in ("--rename-command", name, "")]
    url = f"redis+socket://{folder / 'redis.sock'}"
    with redis_with(folder, *renamed):
        assert check_broker(url, PREFIX).startswith("redis")
        assert broker_warnings(url, PREFIX) == []


def test_run_and_up_report_unsuitable_settings_of_redis_at_their_start(
    server: EmbeddedRedis, client: redis.Redis, database_url: str, tmp_path: Path
) -> None:
    said: list[str] = []
    settings = Settings(
        database_url=database_url, broker_url=server.url, key_prefix=PREFIX, state_dir=tmp_path / "state"
    )
    with services_for(settings, said.append):
        assert said == []
    with (
        configured(client, "maxmemory-policy", "allkeys-lru"),
        configured(client, "maxmemory", "1gb"),
        services_for(settings, said.append),
    ):
        assert len(said) == 1
    assert said[0].startswith("warning: the broker: it deletes messages when its memory is full")
    assert "noeviction" in said[0]


def test_an_unsuitable_setting_of_redis_causes_a_remark(server: EmbeddedRedis, client: redis.Redis) -> None:
    assert broker_warnings(server.url, PREFIX) == []
    client.set(f"{PREFIX}coordinator", "x")
    client.set("coordinator", "somebody else's")
    with (
        configured(client, "maxmemory-policy", "allkeys-lru"),
        configured(client, "maxmemory", "1gb"),
        configured(client, "maxclients", 5),
    ):
        found = [warning.found for warning in broker_warnings(server.url, PREFIX)]
    assert len(found) == 3
    assert "maxmemory-policy allkeys-lru" in found[0]
    assert "more clients" in found[1]
    assert found[2] == f"its key {PREFIX}coordinator is a string and not a list"


def test_a_key_of_a_wrong_type_is_set_aside_and_the_message_sent(
    server: EmbeddedRedis, client: redis.Redis, database: Database
) -> None:
    app = create_app(server.url, Settings(key_prefix=PREFIX))
    messenger = Messenger(app, Shards(database))
    for number, put in enumerate((client.set, lambda key, value: client.sadd(key, value))):
        put(f"{PREFIX}{COORDINATOR_QUEUE}", "theirs")
        assert messenger.lengths([COORDINATOR_QUEUE]) == {COORDINATOR_QUEUE: 0}
        put(f"{PREFIX}{COORDINATOR_QUEUE}", "theirs")
        messenger.send([Due(ADVANCE, 1, number)])
        assert messenger.lengths([COORDINATOR_QUEUE]) == {COORDINATOR_QUEUE: 1}
        assert client.exists(f"{PREFIX}{SET_ASIDE}{COORDINATOR_QUEUE}")
        messenger.discard(COORDINATOR_QUEUE)
    app.close()


def test_the_owner_of_a_broker_is_read_and_written_whatever_is_in_its_key(
    server: EmbeddedRedis, client: redis.Redis, database: Database
) -> None:
    messenger = Messenger(create_app(server.url, Settings(key_prefix=PREFIX)), Shards(database))
    assert [messenger.exchange_owner(owner) for owner in ("one", "one", "two", "one")] == [None, "one", "one", "two"]
    for change in (client.flushall, lambda: _as_list(client, f"{PREFIX}cord.owner")):
        change()
        assert [messenger.exchange_owner("one") for _ in range(2)] == [None, "one"]


def _as_list(client: redis.Redis, key: str) -> None:
    client.delete(key)
    client.rpush(key, "x")


def test_keys_of_wrong_types_do_not_stop_flower(server: EmbeddedRedis, client: redis.Redis) -> None:
    """Kombu keeps bindings in one key per exchange, kombu 5.7 in three."""
    app = create_app(server.url, Settings(key_prefix=PREFIX))
    keys = [f"_kombu.binding{which}" for which in (".asked", "_permanent.asked", "_deadlines")]
    with app.connection_for_write() as connection, connection.channel() as channel:
        for name, arguments in (("lasting", {}), ("passing", {"x-expires": 60_000})):
            for key in keys:
                client.delete(f"{PREFIX}{key}")
                client.set(f"{PREFIX}{key}", "theirs")
            queue = Queue(name, Exchange("asked"), routing_key="here", queue_arguments=arguments)(channel)
            queue.declare()
            assert {bound for *_, bound in channel.get_table("asked")} == {name}
            queue.delete()
    app.close()


def test_a_worker_reports_that_it_waits_for_its_broker_and_then_continues(
    tmp_path: Path, server: EmbeddedRedis, client: redis.Redis, database: Database, database_url: str
) -> None:
    def waiting() -> int:
        return count(database, "condition LIKE 'waits for its broker%it is a replica%'", "workers")

    with Cluster(tmp_path, database_url, server.url) as cluster:
        cluster.start()
        cluster.wait_until(lambda: count(database, "ready_at IS NOT NULL", "workers") == 4, 120)
        with replica(client):
            cluster.enqueue(database, PROBLEMS)
            cluster.wait_until(lambda: waiting() == 4, 60)
        cluster.wait_until(lambda: count(database, "state = 'done'") == PROBLEMS, 120)
        cluster.wait_until(lambda: count(database, "condition IS NOT NULL", "workers") == 0, 60)
        assert all(process.poll() is None for process in cluster.processes.values())
        for name in cluster.names:
            said = (tmp_path / f"{name}.log").read_text(errors="replace")
            assert 1 <= said.count("waiting for the broker") <= 3, said
            assert said.count("the broker is back") == 1, said
            assert "Traceback" not in said
        with replica(client):
            cluster.wait_until(lambda: waiting() == 4, 60)
            for name in cluster.names:
                assert cluster.stop(name) == 0


@pytest.mark.parametrize("is_cut", [False, True], ids=["demoted", "lost"])
def test_the_work_continues_with_an_empty_redis_that_took_over(
    tmp_path: Path, database: Database, database_url: str, *, is_cut: bool
) -> None:
    """The name leads to another server. The old one stays as its replica with its connections, or they are lost."""
    with ExitStack() as stack:
        folders = [Path(stack.enter_context(TemporaryDirectory(prefix="cord-redis-"))) for _ in range(2)]
        ports = [_free_port(), _free_port()]
        old, new = (
            stack.enter_context(redis_with(folder, port=port)) for folder, port in zip(folders, ports, strict=True)
        )
        wire = Wire(("127.0.0.1", ports[0]))
        stack.callback(wire.close)
        cluster = stack.enter_context(Cluster(tmp_path, database_url, f"redis://127.0.0.1:{wire.port}/0"))
        cluster.start()
        cluster.wait_until(lambda: count(database, "ready_at IS NOT NULL", "workers") == 4, 240)
        with cluster.no_result_of("judge", database):
            cluster.enqueue(database, PROBLEMS)
            cluster.wait_until(lambda: cluster.holds_a_lease("judge", database), 120)
            wire.target = ("127.0.0.1", ports[1])
            if is_cut:
                assert wire.cut() >= 4
            else:
                old.replicaof("127.0.0.1", str(ports[1]))
        cluster.wait_until(lambda: count(database, "state = 'done'") == PROBLEMS, 240)
        assert info_of(new, "clients")["connected_clients"] > 4
        cluster.wait_until(lambda: count(database, "condition IS NOT NULL", "workers") == 0, 60)
        assert all(process.poll() is None for process in cluster.processes.values())


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
