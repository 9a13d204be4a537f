"""`cordctl` under low limits, killed, or called twice prints one error line and leaves nothing half done."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.cordctl_process import Cordctl


def limited(cordctl: Cordctl, limit: int, value: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs a command, and all that it starts, under a limit."""
    return subprocess.run(
        cordctl.command(*arguments),
        cwd=cordctl.folder,
        env=cordctl.variables(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        preexec_fn=lambda: resource.setrlimit(limit, (value, value)),
    )


LIMITS = [
    (resource.RLIMIT_NOFILE, 32, "file handles"),
    (resource.RLIMIT_NOFILE, 64, "file handles"),  # enough for each process, but not for Redis with all of them
    (resource.RLIMIT_AS, 512 << 20, "memory"),
    (resource.RLIMIT_FSIZE, 10 << 20, "file size"),
]


@pytest.mark.parametrize(("limit", "value", "subject"), LIMITS)
@pytest.mark.long
def test_doctor_and_run_report_a_low_limit_in_one_line_before_anything_starts(
    embedded_cordctl: Cordctl, limit: int, value: int, subject: str
) -> None:
    doctor = limited(embedded_cordctl, limit, value, "doctor")
    assert doctor.returncode == 4
    assert f"fail  {subject}: " in doctor.stdout
    run = limited(embedded_cordctl, limit, value, "run", "problems.jsonl", "-o", "out.jsonl")
    assert run.returncode == 1
    errors = [line for line in run.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert "raise the limit" in errors[0]
    assert "Traceback" not in doctor.stderr + run.stderr
    assert not (Path(embedded_cordctl.environment["CORD_STATE_DIR"]) / "postgres").exists()


_OTHER_USER = 64123
"""The id of a user without processes: the limit of processes does not apply to root."""


def _as_other_user() -> list[str]:
    """The prefix that runs a command as a user without root's exemption from limits, who may read all files."""
    if os.geteuid():
        return []
    capability = ("--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search")
    prefix = ["setpriv", "--reuid", str(_OTHER_USER), "--regid", str(_OTHER_USER), "--clear-groups", *capability]
    try:
        probe = subprocess.run([*prefix, sys.executable, "-c", ""], capture_output=True, check=False)
    except OSError as error:
        pytest.skip(f"root cannot be another user here: {error}")
    if probe.returncode:
        pytest.skip(f"root cannot be another user here: {probe.stderr.decode(errors='replace')}")
    return prefix


@pytest.fixture
def folder_of_other_user(embedded_cordctl: Cordctl) -> Iterator[Path]:
    """A copy of the folder of `embedded_cordctl` that the user `_OTHER_USER` may use."""
    folder = Path(tempfile.mkdtemp(prefix="cord-c-"))
    for name in ("cord.toml", "problems.jsonl"):
        shutil.copy(embedded_cordctl.folder / name, folder)
    if not os.geteuid():
        for path in (folder, *folder.iterdir()):
            os.chown(path, _OTHER_USER, _OTHER_USER)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (("doctor",), 4),
        (("run", "problems.jsonl", "-o", "out.jsonl"), 1),
        (("coordinator",), 78),
        (("worker", "alpha"), 78),
    ],
)
@pytest.mark.long
def test_a_limit_that_forbids_new_processes_and_threads_is_reported_in_one_line(
    embedded_cordctl: Cordctl, folder_of_other_user: Path, command: tuple[str, ...], code: int
) -> None:
    variables = {**embedded_cordctl.variables(), "PYTHONDONTWRITEBYTECODE": "1"}
    ended = subprocess.run(
        # The limit applies only after the user was changed: the program that changes it is already a process.
        [*_as_other_user(), *embedded_cordctl.command(*command)],
        cwd=folder_of_other_user,
        env={**variables, "CORD_STATE_DIR": str(folder_of_other_user / "state")},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NPROC, (1, 1)),
    )
    output = ended.stdout + ended.stderr
    assert ended.returncode == code, output
    assert output.count("more processes and threads may be started") == 1
    assert "ulimit -u" in output
    assert "Traceback" not in output
    assert "OpenBLAS" not in output


@pytest.mark.parametrize("process", [("worker", "alpha"), ("coordinator",)])
def test_a_process_under_a_limit_ends_with_the_exit_code_for_no_restart(
    embedded_cordctl: Cordctl, process: tuple[str, ...]
) -> None:
    ended = limited(embedded_cordctl, resource.RLIMIT_NOFILE, 32, *process)
    assert ended.returncode == 78
    assert ended.stderr.count("\n") == 1
    assert "ulimit -n" in ended.stderr


def test_export_exits_with_1_if_standard_error_is_full(embedded_cordctl: Cordctl) -> None:
    with Path("/dev/full").open("w") as full:
        command = embedded_cordctl.command("export", "-o", "out.jsonl")
        ended = subprocess.run(
            command, cwd=embedded_cordctl.folder, env=embedded_cordctl.variables(), stderr=full, check=False
        )
    assert ended.returncode == 1


@pytest.mark.long
def test_two_concurrent_calls_of_up_start_one_daemon_also_after_a_killed_call(embedded_cordctl: Cordctl) -> None:
    state = Path(embedded_cordctl.environment["CORD_STATE_DIR"])
    killed = embedded_cordctl.start("up", "--no-wait")
    wait_for(lambda: (state / "postgres" / "data.new").exists() or (state / "postgres" / "data").exists())
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    both = [embedded_cordctl.start("up", "--no-wait", "--json") for _ in range(2)]
    outputs = [one.communicate(timeout=120) for one in both]
    assert [one.returncode for one in both] == [0, 0], outputs
    pids = {
        line.partition("(pid ")[2].partition(")")[0]
        for _, errors in outputs
        for line in errors.splitlines()
        if "(pid" in line
    }
    assert len(pids) == 1
    down = embedded_cordctl.start("down")
    up = embedded_cordctl.start("up", "--no-wait")
    assert (down.wait(120), up.wait(120)) == (0, 0)
    for one in (down, up):
        one.communicate()
    # Either order is allowed; after one more `down` no process is left.
    assert embedded_cordctl("down").exit_code == 0
    wait_for(lambda: not working_in(state))


def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Returns once the condition holds; fails after a timeout."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def working_in(folder: Path) -> list[str]:
    """Command lines of processes that work in a folder or name it."""
    import psutil

    found = []
    for process in psutil.process_iter():
        try:
            line = " ".join(process.cmdline())
            if process.pid != os.getpid() and (str(folder) in line or str(folder) in process.cwd()):
                found.append(line)
        except psutil.Error:
            continue
    return found
