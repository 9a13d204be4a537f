"""Both embedded servers together: adopted, restarted, shared, and ended when no process needs them."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import kombu
import psycopg
import pytest
import sqlalchemy
from kombu.transport import _transport_cache
from kombu.transport.redis import Transport

from cord_worker.config import Settings
from cord_worker.errors import LocalServiceError
from cord_worker.local import processes
from cord_worker.local.daemon import DaemonSpec, start_daemon, start_stopped, stop_daemon
from cord_worker.local.services import LocalServices, ensure_started, held, release, stop
from cord_worker.local.state import Services, StateDir
from cord_worker.local.supervisor import ProcessSpec
from cord_worker.local.watchdog import INTERVAL_SECONDS
from cord_worker.operations.database import database_url_for
from tests.support.waiting import LIFETIME, wait_until

OWNER = f"""
import sys, time
from pathlib import Path
from cord_worker.local.services import ensure_started
print(ensure_started(Path(sys.argv[1])).broker_url, flush=True)
time.sleep({LIFETIME})
"""


@pytest.fixture
def plain_transport(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kombu's own transport for Redis. An earlier test may have put the service's in its place, which refuses messages
    that are not the service's."""
    monkeypatch.setitem(_transport_cache, "redis", Transport)


def server_processes(state_dir: Path) -> list[processes.ProcessId]:
    recorded = StateDir.open(state_dir).read()
    return [server.process for server in (recorded.postgres, recorded.redis) if server is not None]


@contextlib.contextmanager
def another_owner(state_dir: Path) -> Iterator[subprocess.Popen[str]]:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(state_dir)],
        env=processes.python_environment(),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield owner
    finally:
        owner.kill()
        owner.communicate()


@pytest.mark.usefixtures("plain_transport")
def test_both_servers_serve_sqlalchemy_and_celerys_broker_and_stop_with_their_only_owner(state_dir: Path) -> None:
    with held(state_dir) as endpoints:
        with sqlalchemy.create_engine(endpoints.database_url).connect() as connection:
            row = connection.execute(sqlalchemy.text("SELECT current_user, current_database()")).one()
        assert tuple(row) == ("cord", "cord")
        for url, database in ((endpoints.broker_url, 0), (f"{endpoints.broker_url}?virtual_host=5", 5)):
            with kombu.Connection(url) as broker:
                queue = broker.SimpleQueue("bell")
                queue.put({"id": 1})
                message = queue.get(timeout=60)
                message.ack()
                assert message.payload == {"id": 1}
                assert broker.default_channel.client.connection_pool.connection_kwargs["db"] == database
        servers = server_processes(state_dir)
        assert len(servers) == 2
        assert json.loads((state_dir / "services.json").read_text())["redis"]["url"] == endpoints.broker_url
        assert LocalServices(state_dir).endpoints() == endpoints
    assert not any(server.is_alive() for server in servers)
    assert StateDir.open(state_dir).read() == Services()


def test_starting_again_adopts_the_running_servers_and_stopping_again_does_nothing(state_dir: Path) -> None:
    first = ensure_started(state_dir)
    servers = server_processes(state_dir)
    assert ensure_started(state_dir) == first
    with held(state_dir) as endpoints:
        assert endpoints == first
    assert server_processes(state_dir) == servers, "an inner owner's end stopped the servers of an outer one"
    assert all(server.is_alive() for server in servers)
    release(state_dir)
    assert not any(server.is_alive() for server in servers)
    stop(state_dir)
    stop(state_dir)


def test_concurrent_starts_of_processes_and_threads_share_one_pair_of_servers(state_dir: Path) -> None:
    with another_owner(state_dir) as one, another_owner(state_dir) as two, ThreadPoolExecutor(3) as pool:
        seen = {endpoints.broker_url for endpoints in pool.map(ensure_started, [state_dir] * 3)}
        for owner in (one, two):
            assert owner.stdout is not None
            seen.add(owner.stdout.readline().strip())
        assert len(seen) == 1
        services = LocalServices(state_dir)
        assert len(processes.all_in(services.redis.home, ("redis-server", "valkey-server"))) == 1
        assert len(StateDir.open(state_dir).read().living_owners()) == 3


def test_servers_end_soon_after_their_owner_is_killed(state_dir: Path) -> None:
    with another_owner(state_dir) as owner:
        assert owner.stdout is not None
        owner.stdout.readline()
        recorded = StateDir.open(state_dir).read()
        everyone = [*server_processes(state_dir), recorded.watchdog]
        os.killpg(owner.pid, signal.SIGKILL)
        owner.wait()
        assert wait_until(lambda: not any(one and one.is_alive() for one in everyone)), everyone


def test_servers_of_a_killed_owner_stay_for_another_one(state_dir: Path) -> None:
    with another_owner(state_dir) as owner:
        assert owner.stdout is not None
        owner.stdout.readline()
        with held(state_dir):
            servers = server_processes(state_dir)
            owner.kill()
            owner.wait()
            threading.Event().wait(2.5 * INTERVAL_SECONDS)  # the watchdog looks twice
            assert all(server.is_alive() for server in servers)


def test_a_command_that_reads_keeps_the_servers_when_the_one_that_started_them_ends(state_dir: Path) -> None:
    with contextlib.ExitStack() as reading:
        with held(state_dir) as endpoints:
            url = reading.enter_context(database_url_for(Settings(state_dir=state_dir)))
            assert url == endpoints.database_url
        with sqlalchemy.create_engine(url).connect() as connection:
            assert connection.execute(sqlalchemy.text("SELECT 1")).scalar_one() == 1
    assert not LocalServices(state_dir).are_running()


def test_the_watchdog_restarts_servers_that_were_killed_under_the_same_urls(state_dir: Path) -> None:
    with held(state_dir) as endpoints:
        services = LocalServices(state_dir)
        before = server_processes(state_dir)
        for server in before:
            os.kill(server.pid, signal.SIGKILL)
        assert wait_until(
            lambda: len(after := server_processes(state_dir)) == len(before) and not set(after) & set(before)
        )
        assert services.endpoints() == endpoints
        with psycopg.connect(host=endpoints.database_url.partition("host=")[2], user="cord", dbname="cord") as db:
            assert db.execute("SELECT 1").fetchone() == (1,)


def test_servers_whose_watchdog_was_killed_too_are_adopted_and_watched_again(state_dir: Path) -> None:
    with another_owner(state_dir) as owner:
        assert owner.stdout is not None
        owner.stdout.readline()
        watchdog = StateDir.open(state_dir).read().watchdog
        assert watchdog is not None
        os.kill(watchdog.pid, signal.SIGKILL)
        assert wait_until(lambda: not watchdog.is_alive())
        owner.kill()
        owner.wait()
    servers = server_processes(state_dir)
    with held(state_dir):
        assert server_processes(state_dir) == servers
        successor = StateDir.open(state_dir).read().watchdog
        assert successor is not None
        assert successor != watchdog
        assert successor.is_alive()


def test_deleting_the_state_folder_ends_its_servers(state_dir: Path) -> None:
    with another_owner(state_dir) as owner:
        assert owner.stdout is not None
        owner.stdout.readline()
        servers = server_processes(state_dir)
        while state_dir.exists():
            shutil.rmtree(state_dir, ignore_errors=True)
        assert wait_until(lambda: not any(server.is_alive() for server in servers))


def test_a_server_that_cannot_start_is_an_error_and_leaves_nothing_running(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CORD_REDIS_SERVER", "/bin/false")
    with pytest.raises(LocalServiceError, match="CORD_REDIS_SERVER"):
        ensure_started(state_dir)
    services = LocalServices(state_dir)
    assert not services.postgres.is_running()
    assert services.state.read() == Services()


def test_running_servers_are_found_despite_a_damaged_services_file(state_dir: Path) -> None:
    endpoints = ensure_started(state_dir)
    servers = server_processes(state_dir)
    (state_dir / "services.json").write_text('{"postgres": {"ur')
    assert ensure_started(state_dir) == endpoints
    assert server_processes(state_dir) == servers


def test_a_daemon_keeps_processes_and_servers_until_it_is_stopped(state_dir: Path, tmp_path: Path) -> None:
    worker = ProcessSpec(
        "teacher-a",
        (sys.executable, "-S", "-c", f"import time; time.sleep({LIFETIME})"),
        tmp_path / "a.log",
        {"X": "1"},
    )
    daemon = start_daemon(DaemonSpec(state_dir, (worker,), grace_seconds=5))
    state = StateDir.open(state_dir)
    [seen] = state.read().workers
    assert (seen.name, seen.state, seen.restarts) == ("teacher-a", "running", 0)
    with pytest.raises(LocalServiceError, match=f"pid {daemon.pid}"):
        start_daemon(DaemonSpec(state_dir))
    servers = server_processes(state_dir)
    with held(state_dir):
        pass
    assert all(server.is_alive() for server in servers), "a foreground run ended the servers of `up`"
    assert seen.pid is not None
    os.kill(seen.pid, signal.SIGKILL)
    assert wait_until(lambda: [w.restarts for w in state.read().workers] == [1])
    worker_pid = state.read().workers[0].pid
    assert worker_pid is not None
    assert stop_daemon(state_dir)
    assert processes.start_mark(worker_pid) is None
    assert not any(server.is_alive() for server in servers)
    assert state.read() == Services()
    assert not stop_daemon(state_dir)


def test_a_daemon_restarts_processes_that_stopped_or_were_given_up(state_dir: Path, tmp_path: Path) -> None:
    """A second `cordctl up` asks for this. A drained worker exits with 0, one that can never start with 78."""
    ends = tmp_path / "ends"
    script = f"import os, time; p = {str(ends)!r}; os.path.exists(p) and os._exit(int(open(p).read())); time.sleep"
    worker = ProcessSpec("w", (sys.executable, "-S", "-c", f"{script}({LIFETIME})"), tmp_path / "w.log")
    state = StateDir.open(state_dir)
    for code, name in ((0, "stopped"), (78, "given_up")):
        ends.write_text(str(code))
        if state.read().living_daemon() is None:
            start_daemon(DaemonSpec(state_dir, (worker,)))
        else:
            [running] = state.read().workers
            assert running.pid is not None
            os.kill(running.pid, signal.SIGKILL)
        assert wait_until(lambda name=name: [one.state for one in state.read().workers] == [name])
        ends.unlink()
        start_stopped(state_dir)
        [again] = state.read().workers
        assert (again.state, again.error) == ("running", None)
        assert again.pid is not None
        assert processes.start_mark(again.pid) is not None
    assert stop_daemon(state_dir)
    start_stopped(state_dir)  # no process runs, nothing to do


def test_a_daemon_that_is_told_to_stop_twice_waits_for_no_process(state_dir: Path, tmp_path: Path) -> None:
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep"
    worker = ProcessSpec("w", (sys.executable, "-S", "-c", f"{deaf}({LIFETIME})"), tmp_path / "w.log")
    daemon = start_daemon(DaemonSpec(state_dir, (worker,), grace_seconds=LIFETIME))
    state = StateDir.open(state_dir)
    log = state.logs / "daemon.log"
    [seen] = state.read().workers
    servers = server_processes(state_dir)
    assert wait_until(lambda: "deaf" in (tmp_path / "w.log").read_text())
    os.kill(daemon.pid, signal.SIGTERM)
    assert wait_until(lambda: "stopping" in log.read_text())
    assert daemon.is_alive()
    os.kill(daemon.pid, signal.SIGTERM)
    os.kill(daemon.pid, signal.SIGTERM)  # a third signal changes nothing
    assert wait_until(lambda: not daemon.is_alive())
    assert "asked twice" in log.read_text()
    assert seen.pid is not None
    assert processes.start_mark(seen.pid) is None
    assert not any(server.is_alive() for server in servers)
    assert state.read() == Services()


def test_all_processes_of_a_killed_daemon_end(state_dir: Path, tmp_path: Path) -> None:
    worker = ProcessSpec("w", (sys.executable, "-S", "-c", f"import time; time.sleep({LIFETIME})"), tmp_path / "w.log")
    daemon = start_daemon(DaemonSpec(state_dir, (worker,)))
    [seen] = StateDir.open(state_dir).read().workers
    servers = server_processes(state_dir)
    os.kill(daemon.pid, signal.SIGKILL)
    assert seen.pid is not None
    worker_pid = seen.pid
    assert wait_until(lambda: processes.start_mark(worker_pid) is None)
    assert wait_until(lambda: not any(server.is_alive() for server in servers))


def test_a_daemon_that_cannot_start_says_why(state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORD_POSTGRES_BIN", "/nonexistent")
    with pytest.raises(LocalServiceError, match="CORD_POSTGRES_BIN is '/nonexistent'"):
        start_daemon(DaemonSpec(state_dir))
