"""Processes that a fork server starts, under a real supervisor."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from cord_worker.local import processes
from cord_worker.local.fork_server import ForkServer
from cord_worker.local.supervisor import EventKind, ProcessSpec, RestartPolicy, State, Supervisor
from tests.support.waiting import LIFETIME, wait_until

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="orphans are handed over on Linux only"),
    pytest.mark.usefixtures("modules"),
]

QUICK = RestartPolicy(first_pause=0.05, longest_pause=0.2, quick_failure_seconds=LIFETIME)
JOB = f"""
import os, sys, time
import slow_to_import
print(sys.argv[1:], os.environ["COLOUR"], slow_to_import.PID == os.getpid(), __name__, os.getsid(0) == os.getpid(),
      flush=True)
if sys.argv[1] == "fail":
    raise SystemExit(5)
time.sleep({LIFETIME})
"""


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of modules: one to be imported once, the job that uses it, and two that cannot be forked."""
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "slow_to_import.py").write_text("import os\nPID = os.getpid()\n")
    (folder / "job.py").write_text(JOB)
    (folder / "broken.py").write_text("raise RuntimeError('no such library')\n")
    (folder / "threaded.py").write_text(
        f"import threading, time\nthreading.Thread(target=time.sleep, args=({LIFETIME},), daemon=True).start()\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(folder))


@contextmanager
def supervised(folder: Path, preload: str, *arguments: str) -> Iterator[tuple[Supervisor, ForkServer]]:
    server = ForkServer([preload])
    argv = (sys.executable, "-P", "-m", "job", *arguments)
    spec = ProcessSpec("worker", argv, folder / "worker.log", {"COLOUR": "green"}, module="job")
    try:
        with Supervisor([spec], policy=QUICK, fork_server=server) as supervisor:
            supervisor.wait_until_launched(60)
            yield supervisor, server
    finally:
        server.close()


def pid_of(supervisor: Supervisor) -> int:
    pid = supervisor.status()[0].pid
    assert pid is not None
    return pid


def wait_for_log(folder: Path, text: str) -> None:
    log = folder / "worker.log"
    assert wait_until(lambda: text in log.read_text()), log.read_text()


def fall(supervisor: Supervisor) -> int | None:
    codes: list[int | None] = []

    def has_fallen() -> bool:
        codes.extend(event.exit_code for event in supervisor.poll() if event.kind is EventKind.FAILED)
        return bool(codes)

    assert wait_until(has_fallen)
    return codes[0]


def test_a_forked_process_is_a_child_of_the_supervisor_and_imports_nothing_again(tmp_path: Path) -> None:
    with supervised(tmp_path, "slow_to_import", "a", "--b") as (supervisor, _):
        wait_for_log(tmp_path, "['a', '--b'] green False __main__ True")
        process = psutil.Process(pid_of(supervisor))
        assert process.ppid() == os.getpid()
        assert " ".join(process.cmdline()).endswith("-m job a --b")
    assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    assert supervisor.status()[0].state is State.STOPPED


def test_a_killed_forked_process_is_forked_again(tmp_path: Path) -> None:
    with supervised(tmp_path, "slow_to_import", "a") as (supervisor, _):
        wait_for_log(tmp_path, "green False")
        first = pid_of(supervisor)
        assert supervisor.status()[0].restarts == 0
        os.kill(first, signal.SIGKILL)
        assert fall(supervisor) == -signal.SIGKILL
        assert wait_until(lambda: bool(supervisor.poll()) or supervisor.status()[0].state is State.RUNNING)
        assert pid_of(supervisor) != first
        assert supervisor.status()[0].restarts == 1
        assert wait_until(lambda: (tmp_path / "worker.log").read_text().count("green False") == 2)


def test_the_exit_code_of_a_forked_process_is_known(tmp_path: Path) -> None:
    with supervised(tmp_path, "slow_to_import", "fail") as (supervisor, _):
        assert fall(supervisor) == 5


def test_the_end_of_the_fork_server_ends_no_process_and_the_next_start_is_an_ordinary_one(tmp_path: Path) -> None:
    with supervised(tmp_path, "slow_to_import", "a") as (supervisor, server):
        wait_for_log(tmp_path, "green False")
        server.close()
        process = processes.identify(pid_of(supervisor))
        assert process is not None
        os.kill(process.pid, signal.SIGKILL)
        assert fall(supervisor) == -signal.SIGKILL
        assert wait_until(lambda: bool(supervisor.poll()) and supervisor.status()[0].state is State.RUNNING)
        wait_for_log(tmp_path, "green True")


@pytest.mark.parametrize(("preload", "reason"), [("broken", "no such library"), ("threaded", "1 threads")])
def test_a_process_that_cannot_be_forked_is_started_the_ordinary_way(tmp_path: Path, preload: str, reason: str) -> None:
    with supervised(tmp_path, preload, "a") as (supervisor, server):
        wait_for_log(tmp_path, "green True")
        assert supervisor.status()[0].restarts == 0
        assert reason in str(server.failure)


def test_a_forked_process_ends_with_a_killed_supervisor(tmp_path: Path) -> None:
    code = f"""
import sys, time
from pathlib import Path
from cord_worker.local.fork_server import ForkServer
from cord_worker.local.supervisor import ProcessSpec, Supervisor
folder = Path({str(tmp_path)!r})
spec = ProcessSpec("worker", (sys.executable, "-m", "job", "a"), folder / "worker.log", {{"COLOUR": "green"}}, "job")
supervisor = Supervisor([spec], fork_server=ForkServer(["slow_to_import"]))
supervisor.start()
supervisor.wait_until_launched(60)
print(supervisor.status()[0].pid, supervisor._fork_server._process.pid, flush=True)
time.sleep({LIFETIME})
"""
    environment = processes.python_environment()
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment) as parent:
        assert parent.stdout is not None
        started = [processes.identify(int(pid)) for pid in parent.stdout.readline().split()]
        parent.kill()
    assert None not in started
    assert wait_until(lambda: all(process is None or not process.is_alive() for process in started))
