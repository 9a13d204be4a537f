"""The supervisor with real processes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cord_worker.errors import LocalServiceError
from cord_worker.local import processes
from cord_worker.local.supervisor import (
    DO_NOT_RESTART,
    READY_FILE,
    Event,
    EventKind,
    ProcessSpec,
    RestartPolicy,
    State,
    Supervisor,
)
from tests.support.waiting import LIFETIME, wait_until

QUICK = RestartPolicy(first_pause=0.05, longest_pause=0.2, quick_failure_seconds=LIFETIME)


def spec(folder: Path, code: str, name: str = "worker", **env: str) -> ProcessSpec:
    return ProcessSpec(name, (sys.executable, "-S", "-c", code), folder / f"{name}.log", env)


def follow(supervisor: Supervisor, kind: EventKind, seconds: float = 60) -> list[Event]:
    """Events up to the first of this kind."""
    events: list[Event] = []
    assert wait_until(lambda: any(e.kind is kind for e in _extend(events, supervisor)), seconds), events
    return events


def _extend(events: list[Event], supervisor: Supervisor) -> list[Event]:
    events += supervisor.poll()
    return events


def test_a_process_added_later_runs_like_the_others_and_once(tmp_path: Path) -> None:
    code = f"import time; time.sleep({LIFETIME})"
    with Supervisor([spec(tmp_path, code, "first")], policy=QUICK) as supervisor:
        supervisor.add(spec(tmp_path, code, "second"))
        supervisor.add(spec(tmp_path, code, "second"))
        assert [(one.name, one.state) for one in supervisor.status()] == [
            ("first", State.RUNNING),
            ("second", State.RUNNING),
        ]
        pid = supervisor.status()[1].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        assert follow(supervisor, EventKind.FAILED)[-1].name == "second"
        assert follow(supervisor, EventKind.STARTED)[-1].name == "second"
    idle = Supervisor([])
    idle.add(spec(tmp_path, code, "third"))
    assert [one.state for one in idle.status()] == [State.STOPPED]


def test_a_killed_process_is_started_again_with_its_environment_and_log(tmp_path: Path) -> None:
    code = f"import os, time; print('hello', os.environ['COLOUR'], flush=True); time.sleep({LIFETIME})"
    with Supervisor([spec(tmp_path, code, COLOUR="green")], policy=QUICK) as supervisor:
        first = follow(supervisor, EventKind.STARTED)[0].pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        failed = follow(supervisor, EventKind.FAILED)[-1]
        assert failed.exit_code == -signal.SIGKILL
        again = follow(supervisor, EventKind.STARTED)[-1]
        assert again.pid != first
        assert supervisor.status()[0].restarts == 1
        log = tmp_path / "worker.log"
        assert wait_until(lambda: log.read_text().count("hello green") >= 1)
    assert supervisor.status()[0].state is State.STOPPED


def test_a_process_that_keeps_crashing_is_given_up_with_the_last_lines_of_its_log(tmp_path: Path) -> None:
    with Supervisor([spec(tmp_path, "print('no such device'); raise SystemExit(3)")], policy=QUICK) as supervisor:
        events = follow(supervisor, EventKind.GAVE_UP)
        assert [e.kind for e in events].count(EventKind.STARTED) == QUICK.max_failures_before_work
        assert supervisor.wait(0.5) == []
        assert supervisor.status()[0].state is State.GIVEN_UP
    [error] = supervisor.failures()
    assert events[-1].error is error
    for part in ("worker", "exit code 3", "3 times", "no such device", "worker.log"):
        assert part in str(error)


def test_a_process_that_ends_three_times_before_it_takes_work_is_given_up_however_long_each_took(
    tmp_path: Path,
) -> None:
    policy = RestartPolicy(first_pause=0.05, longest_pause=0.1, quick_failure_seconds=0.0)
    with Supervisor([spec(tmp_path, "raise SystemExit(1)")], policy=policy) as supervisor:
        events = follow(supervisor, EventKind.GAVE_UP)
        assert [e.kind for e in events].count(EventKind.STARTED) == 3
        assert "3 times in a row before it took work" in str(supervisor.failures()[0])


def test_a_process_that_took_work_once_may_end_three_times_more(tmp_path: Path) -> None:
    policy = RestartPolicy(first_pause=0.05, longest_pause=0.1, quick_failure_seconds=0.0)
    code = (
        "import os\n"
        f"path = {str(tmp_path / 'starts')!r}\n"
        "with open(path, 'a') as file: file.write('.')\n"
        f"if os.path.getsize(path) == 3: open(os.environ['{READY_FILE}'], 'w').close()\n"
        "raise SystemExit(1)"
    )
    with Supervisor([spec(tmp_path, code)], policy=policy) as supervisor:
        events = follow(supervisor, EventKind.GAVE_UP)
    assert [e.kind for e in events].count(EventKind.STARTED) == 6


def test_a_process_that_takes_work_each_time_before_it_crashes_is_given_up_later(tmp_path: Path) -> None:
    policy = RestartPolicy(
        first_pause=0.05,
        longest_pause=0.1,
        quick_failure_seconds=LIFETIME,
        max_failures_before_work=2,
        max_failures_at_work=4,
    )
    code = f"import os; open(os.environ['{READY_FILE}'], 'w').close(); raise SystemExit(9)"
    with Supervisor([spec(tmp_path, code)], policy=policy) as supervisor:
        events = follow(supervisor, EventKind.GAVE_UP)
    assert [e.kind for e in events].count(EventKind.STARTED) == 4


def test_the_pause_before_a_restart_grows(tmp_path: Path) -> None:
    policy = RestartPolicy(
        first_pause=0.1, longest_pause=1.0, max_failures_before_work=4, quick_failure_seconds=LIFETIME
    )
    with Supervisor([spec(tmp_path, "raise SystemExit(1)")], policy=policy) as supervisor:
        pauses = [e.pause for e in follow(supervisor, EventKind.GAVE_UP) if e.pause is not None]
    assert len(pauses) == 3
    assert pauses[0] < pauses[1] < pauses[2] <= 0.4


def test_a_process_with_exit_code_78_is_given_up_at_once(tmp_path: Path) -> None:
    failing = spec(tmp_path, f"print('weights are missing'); raise SystemExit({DO_NOT_RESTART})", "teacher")
    with Supervisor([failing, spec(tmp_path, f"import time; time.sleep({LIFETIME})")], policy=QUICK) as supervisor:
        events = follow(supervisor, EventKind.GAVE_UP)
        assert [e.kind for e in events if e.name == "teacher"] == [EventKind.STARTED, EventKind.GAVE_UP]
        assert "weights are missing" in str(supervisor.failures()[0])
        assert [status.state for status in supervisor.status()] == [State.GIVEN_UP, State.RUNNING]


def test_a_program_that_does_not_exist_is_given_up_and_named(tmp_path: Path) -> None:
    missing = ProcessSpec("worker", ("no-such-program-of-cord",), tmp_path / "w.log")
    with Supervisor([missing], policy=QUICK) as supervisor:
        follow(supervisor, EventKind.GAVE_UP)
    assert "no-such-program-of-cord could not be started" in str(supervisor.failures()[0])


def test_stop_lets_a_process_finish_within_the_grace_period(tmp_path: Path) -> None:
    polite = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (print('finished', flush=True), sys.exit(0)))\n"
        f"print('ready', flush=True); time.sleep({LIFETIME})"
    )
    kinds, log = stopped(spec(tmp_path, polite), grace_seconds=60.0)
    assert kinds == [EventKind.STOPPED]
    assert "finished" in log


def test_stop_kills_a_process_that_does_not_end_within_the_grace_period(tmp_path: Path) -> None:
    stubborn = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"print('ready', flush=True); time.sleep({LIFETIME})"
    )
    kinds, _ = stopped(spec(tmp_path, stubborn), grace_seconds=0.5)
    assert kinds == [EventKind.KILLED]


def stopped(process: ProcessSpec, grace_seconds: float) -> tuple[list[EventKind], str]:
    """The result of stopping a process that is ready, and its log; a second stop must do nothing."""
    supervisor = Supervisor([process])
    supervisor.start()
    assert wait_until(lambda: "ready" in process.log_path.read_text())
    supervisor.poll()
    kinds = [event.kind for event in supervisor.stop(grace_seconds)]
    assert supervisor.stop() == []
    return kinds, process.log_path.read_text()


def test_the_children_of_a_crashed_process_are_killed_with_it(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys, time\n"
        f"helper = subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep({LIFETIME})'])\n"
        f"open({str(tmp_path / 'helper')!r}, 'w').write(str(helper.pid)); time.sleep({LIFETIME})"
    )
    with Supervisor([spec(tmp_path, code)], policy=QUICK) as supervisor:
        pid = follow(supervisor, EventKind.STARTED)[0].pid
        assert pid is not None
        helper = _pid_in(tmp_path / "helper")
        os.kill(pid, signal.SIGKILL)
        follow(supervisor, EventKind.FAILED)
        assert wait_until(lambda: processes.start_mark(helper) is None)


@pytest.mark.parametrize("guard_lives", [True, False])
def test_children_die_with_a_supervisor_that_is_killed(tmp_path: Path, guard_lives: bool) -> None:
    worker = (
        "import os, subprocess, sys, time; "
        f"helper = subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep({LIFETIME})']); "
        f"open({str(tmp_path / 'helper')!r}, 'w').write(str(helper.pid)); "
        f"open({str(tmp_path / 'worker')!r}, 'w').write(str(os.getpid())); time.sleep({LIFETIME})"
    )
    code = f"""
import sys, time
from pathlib import Path
from cord_worker.local.supervisor import ProcessSpec, Supervisor
with Supervisor([ProcessSpec("w", (sys.executable, "-S", "-c", {worker!r}), Path({str(tmp_path / "w.log")!r}))]) as s:
    Path({str(tmp_path / "guard")!r}).write_text(str(s._guard.pid))
    while True:
        s.wait(1)
"""
    parent = subprocess.Popen([sys.executable, "-c", code], env=processes.python_environment())
    helper = worker_pid = 0
    try:
        worker_pid, helper, guard = (_pid_in(tmp_path / name) for name in ("worker", "helper", "guard"))
        if not guard_lives:
            os.kill(guard, signal.SIGKILL)
        parent.kill()
        parent.wait()
        assert wait_until(lambda: processes.start_mark(worker_pid) is None), "the worker outlived its supervisor"
        if guard_lives:
            assert wait_until(lambda: processes.start_mark(helper) is None), "a grandchild outlived its supervisor"
            assert wait_until(lambda: processes.start_mark(guard) is None), "the guard did not end"
    finally:
        for pid in filter(None, (helper, worker_pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def test_a_killed_guard_is_replaced(tmp_path: Path) -> None:
    with Supervisor([spec(tmp_path, f"import time; time.sleep({LIFETIME})")], policy=QUICK) as supervisor:
        first = supervisor._guard
        assert first is not None
        first.kill()
        first.wait()
        pid = follow(supervisor, EventKind.STARTED)[0].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        follow(supervisor, EventKind.FAILED)
        follow(supervisor, EventKind.STARTED)
        assert supervisor._guard is not None
        assert supervisor._guard.pid != first.pid
        assert supervisor._guard.poll() is None


def test_two_processes_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LocalServiceError, match="rename one"):
        Supervisor([spec(tmp_path, "pass"), spec(tmp_path, "pass")])


def _pid_in(path: Path) -> int:
    assert wait_until(lambda: path.exists() and bool(path.read_text()))
    return int(path.read_text())
