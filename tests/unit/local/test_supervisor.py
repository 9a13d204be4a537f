"""What the supervisor says of a process that was killed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from cord_worker.local import limits
from cord_worker.local.supervisor import EventKind, ProcessSpec, RestartPolicy, Supervisor

ONCE = RestartPolicy(max_failures_before_work=1)
KILLED = "import os, pathlib, signal; pathlib.Path({path!r}).write_text({text!r}); os.kill(os.getpid(), signal.SIGKILL)"


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        ("oom 2\noom_kill 2\n", "killed by the kernel because memory ran out"),
        ("oom 2\noom_kill 1\n", "killed by SIGKILL"),
    ],
)
def test_a_process_that_the_kernel_killed_for_memory_is_told_from_others_that_were_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: str, expected: str
) -> None:
    events = tmp_path / "memory.events"
    events.write_text("oom 2\noom_kill 1\n", encoding="ascii")
    (tmp_path / "own").write_text("0::/\n", encoding="ascii")
    monkeypatch.setattr(limits, "_CGROUP", tmp_path)
    monkeypatch.setattr(limits, "_OWN_GROUPS", tmp_path / "own")
    code = KILLED.format(path=str(events), text=after)
    spec = ProcessSpec("worker", (sys.executable, "-S", "-c", code), tmp_path / "worker.log")
    with Supervisor([spec], policy=ONCE) as supervisor:
        happened = supervisor.wait(0)
        while not any(event.kind is EventKind.GAVE_UP for event in happened):
            happened = supervisor.wait(30)
    (gave_up,) = (event for event in happened if event.kind is EventKind.GAVE_UP)
    assert str(gave_up) == f"worker gave_up, pid {gave_up.pid}, {expected}"
    assert f"The process worker ended ({expected}) 1 times in a row" in str(gave_up.error)
