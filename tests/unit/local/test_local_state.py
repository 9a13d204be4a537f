"""The state folder, its record, process identities and socket folders."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pytest

from cord_worker.errors import LocalServiceError
from cord_worker.local import processes
from cord_worker.local.daemon import DaemonSpec
from cord_worker.local.processes import ProcessId
from cord_worker.local.sockets import private_dir, socket_dir
from cord_worker.local.state import Owner, Server, Services, StateDir, Worker
from cord_worker.local.supervisor import ProcessSpec, RestartPolicy

ME = os.geteuid()


def test_the_state_folder_is_the_argument_then_the_setting_then_dot_cord_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CORD_STATE_DIR", raising=False)
    assert StateDir.open().path == tmp_path / ".cord"
    monkeypatch.setenv("CORD_STATE_DIR", str(tmp_path / "set"))
    assert StateDir.open().path == tmp_path / "set"
    assert StateDir.open(tmp_path / "given").path == tmp_path / "given"
    assert stat.S_IMODE((tmp_path / "given").stat().st_mode) == 0o700
    assert (tmp_path / "given" / ".gitignore").read_text() == "*\n"


def test_a_folder_that_others_can_read_is_made_private_or_refused_if_it_holds_other_files(tmp_path: Path) -> None:
    empty, foreign, old = tmp_path / "empty", tmp_path / "foreign", tmp_path / "old"
    for folder in (empty, foreign, old):
        folder.mkdir(mode=0o755)
    (foreign / "thesis.tex").touch()
    (old / "services.json").touch()
    for folder in (empty, old):
        assert stat.S_IMODE(StateDir.open(folder).path.stat().st_mode) == 0o700
    with pytest.raises(LocalServiceError, match="holds other files"):
        StateDir.open(foreign)
    assert stat.S_IMODE(foreign.stat().st_mode) == 0o755


def test_a_file_in_the_place_of_the_state_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "state").touch()
    with pytest.raises(LocalServiceError, match="state cannot be used"):
        StateDir.open(tmp_path / "state")


def test_a_written_record_is_read_again(tmp_path: Path) -> None:
    state = StateDir.open(tmp_path / "state")
    assert state.read() == Services()
    me = processes.current()
    services = Services(
        postgres=Server("postgresql+psycopg://cord@/cord?host=/x", me, 12.5),
        owners=(Owner(me, "a"), Owner(ProcessId(me.pid, "before"), "b")),
        daemon=ProcessId(1, "then"),
        workers=(Worker("w", "running", 7, 1, None), Worker("v", "given_up", None, 2, "why")),
    )
    state.write(services)
    assert state.read() == services
    assert state.read().living_owners() == (Owner(me, "a"),)
    assert state.read().living_daemon() is None
    assert state.update(daemon=me) == replace(services, daemon=me)
    assert state.read().living_daemon() == me


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"postgres": 3}', '{"postgres": {"url": "x"}}'])
def test_a_damaged_record_counts_as_none(tmp_path: Path, text: str) -> None:
    state = StateDir.open(tmp_path / "state")
    (state.path / "services.json").write_text(text)
    assert state.read() == Services()


def test_the_lock_keeps_another_process_out_and_lets_its_holder_in_again(tmp_path: Path) -> None:
    state = StateDir.open(tmp_path / "state")
    code = (
        "import sys; from pathlib import Path; from cord_worker.local.state import StateDir\n"
        f"state = StateDir.open(Path({str(state.path)!r}))\n"
        "print('waiting', flush=True)\n"
        "with state.locked(): print('in', flush=True)"
    )
    with state.locked(), StateDir.open(state.path).locked():
        other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        assert other.stdout is not None
        assert other.stdout.readline() == "waiting\n"
        time.sleep(0.3)
        assert other.poll() is None
    assert other.communicate(timeout=120)[0] == "in\n"


def test_a_process_is_identified_by_its_start_time_and_not_by_its_pid_alone() -> None:
    child = subprocess.Popen(["sleep", "60"])
    identity = processes.identify(child.pid)
    assert identity is not None
    assert identity.is_alive()
    assert not ProcessId(child.pid, "another start").is_alive()
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not identity.is_alive(), "a zombie does no work"
    child.wait()
    assert not identity.is_alive()
    assert processes.identify(child.pid) is None


@pytest.mark.parametrize("length", [1, 70, 85, 90, 120, 200])
def test_the_path_of_a_socket_always_fits(length: int) -> None:
    home = Path(tempfile.mkdtemp(prefix="cord-u-", suffix="x" * length, dir="/tmp"))
    folder = socket_dir(home, ME)
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(folder / ".s.PGSQL.5432"))
        (folder / ".s.PGSQL.5432").unlink()
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    finally:
        folder.rmdir()
        home.rmdir()


def test_two_long_paths_have_two_socket_folders(tmp_path: Path) -> None:
    one, two = (socket_dir(tmp_path / (letter * 120), ME) for letter in "ab")
    assert one != two
    one.rmdir()
    two.rmdir()


def test_a_socket_folder_that_was_prepared_by_another_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o770)
    (tmp_path / "file").touch(0o600)
    for name in ("link", "open", "file"):
        with pytest.raises(LocalServiceError, match="not a private folder"):
            private_dir(tmp_path / name, ME)
    with pytest.raises(LocalServiceError, match="not a private folder of user 4242"):
        private_dir(tmp_path / "real", 4242)
    assert private_dir(tmp_path / "real", ME) == tmp_path / "real"


def test_a_daemons_spec_is_read_as_it_was_written_and_a_wrong_one_is_refused() -> None:
    spec = DaemonSpec(
        Path("/s"), (ProcessSpec("w", ("a", "b c"), Path("/l"), {"K": "ü"}),), False, 3.5, RestartPolicy(1, 2, 3, 4)
    )
    assert DaemonSpec.from_json(spec.to_json()) == spec
    for text in ("", "{}", "[]", '{"state_dir": "/s", "processes": [{}]}', '{"state_dir": 1, "processes": []}'):
        with pytest.raises(LocalServiceError, match="not understood"):
            DaemonSpec.from_json(text)


@pytest.mark.parametrize("lines", [1, 3, 100])
def test_the_tail_of_a_log_is_its_last_lines(tmp_path: Path, lines: int) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"\xff\n" + b"".join(b"line %d\n" % number for number in range(50)))
    expected = [f"line {number}" for number in range(50)][-lines:]
    assert processes.tail(log, lines).splitlines()[-50:] == expected
    assert processes.tail(tmp_path / "none") == ""
