"""Embedded servers in odd folders, without shared memory and on full disks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from cord_worker.local.postgres import EmbeddedPostgres
from cord_worker.local.redis import EmbeddedRedis
from cord_worker.local.state import StateDir

_START = """
import sys
from pathlib import Path
from cord_worker.errors import CordError
from cord_worker.local.postgres import EmbeddedPostgres
server = EmbeddedPostgres(Path(sys.argv[1]))
try:
    server.start()
    print("runs")
except CordError as error:
    print(error)
finally:
    server.stop()
"""


def _mounts() -> bool:
    if os.geteuid() or shutil.which("unshare") is None:
        return False
    probe = ["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


needs_mounts = pytest.mark.skipif(not _mounts(), reason="nothing can be mounted here")


@pytest.fixture
def base(tmp_path: Path, made_database: Path) -> Iterator[Path]:
    """A state folder with a database. It is not in /dev/shm: a test mounts something else there."""
    StateDir.open(tmp_path / "state")
    (tmp_path / "state" / "postgres").mkdir(mode=0o700)
    shutil.copytree(made_database, tmp_path / "state" / "postgres" / "data", symlinks=True)
    yield tmp_path / "state"
    EmbeddedPostgres(tmp_path / "state").stop()


def _started(mount: str, state: Path) -> str:
    command = f'{mount} && exec "$0" "$@"'
    arguments = ["unshare", "-m", "bash", "-c", command, sys.executable, "-c", _START, str(state)]
    return subprocess.run(arguments, capture_output=True, text=True, check=True, timeout=120).stdout.strip()


@pytest.mark.parametrize("name", ["a b-\u00fc\u6f22-'\"%20%s#$HOME`id`\\x?&=;", "x" * 200])
def test_servers_start_in_a_folder_with_an_odd_or_a_long_name(tmp_path: Path, made_database: Path, name: str) -> None:
    state = StateDir.open(tmp_path / name)
    (state.path / "postgres").mkdir(mode=0o700)
    shutil.copytree(made_database, state.path / "postgres" / "data", symlinks=True)
    postgres, redis = EmbeddedPostgres(state.path), EmbeddedRedis(state.path)
    try:
        postgres.start()
        redis.start()
        with psycopg.connect(postgres.url.replace("+psycopg", "")) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        assert redis.is_running()
    finally:
        redis.stop()
        postgres.stop()


@needs_mounts
def test_postgres_needs_no_shared_memory_of_the_machine(base: Path) -> None:
    assert _started("mount -t tmpfs -o size=64k none /dev/shm", base) == "runs"


@needs_mounts
def test_a_full_disk_is_named_in_one_line_and_the_database_can_be_made_later(tmp_path: Path) -> None:
    state = StateDir.open(tmp_path / "state").path
    said = _started(f"mount -t tmpfs -o size=1m,mode=0700 none {state}", state)
    assert "its disk is full: free some" in said
    assert len(said.splitlines()) == 1
    assert _started("true", state) == "runs"
