"""Commands that use one state folder concurrently name each other."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from cord_worker.local import processes
from cord_worker.local.state import StateDir
from cord_worker.operations.local_run import announce_command


def test_a_second_command_names_the_first_and_ignores_ended_ones(tmp_path: Path) -> None:
    state = StateDir.open(tmp_path / "s")
    marks = state.path / "commands"
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        identity = processes.identify(other.pid)
        assert identity is not None
        marks.mkdir()
        (marks / f"{identity.pid}-{identity.start}").touch()
        (marks / "4194303-never").touch()
        said: list[str] = []
        with announce_command(state, said.append):
            assert len(list(marks.iterdir())) == 2
        assert len(said) == 1
        assert f"another cordctl run (pid {other.pid}) works in {state.path}" in said[0]
        other.communicate(b"\n")
    said.clear()
    with announce_command(state, said.append):
        assert said == []
    assert list(marks.iterdir()) == []
