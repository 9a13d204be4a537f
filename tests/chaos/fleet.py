"""Processes of the service that a test starts, kills, pauses and restarts."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from cord_worker.config import RunConfig
from cord_worker.coordination.fault_points import VARIABLE
from cord_worker.local.processes import ProcessId, identify

REPOSITORY = Path(__file__).resolve().parents[2]

COORDINATOR = "coordinator"
_MOST_FALLEN = 12
_ENDING = {signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGQUIT}


@dataclass(slots=True)
class _Member:
    role: str
    process: ProcessId
    environment: dict[str, str]
    paused: bool = False
    struck: bool = False
    """Whether a test asked it to end, killed it, or had it kill itself."""


@dataclass(slots=True)
class Fleet:
    """Coordinators and model workers; a name such as `beta-2` is a second process of the role `beta`."""

    folder: Path
    config_path: Path
    environment: Mapping[str, str]
    members: dict[str, _Member] = field(default_factory=dict)
    restarts: int = 0
    exits: list[str] = field(default_factory=list)
    """Processes that ended though nobody killed them or asked them to end, with their exit codes."""
    _spawner: subprocess.Popen[str] | None = None

    @property
    def _ended(self) -> Path:
        return self.folder / "ended"

    @property
    def config(self) -> RunConfig:
        """The configuration that the workers read."""
        return RunConfig.load(self.config_path)

    def __enter__(self) -> Self:
        self._spawner = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.spawner", str(self._ended)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **self.environment, "PYTHONPATH": str(REPOSITORY)},
            start_new_session=True,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in list(self.members):
            self.kill(name)
        assert self._spawner is not None
        self._spawner.terminate()
        self._spawner.wait()
        for pipe in (self._spawner.stdin, self._spawner.stdout):
            if pipe is not None:
                pipe.close()

    def start(self, *names: str, **environment: str) -> None:
        """Starts processes of these names, with `environment` added."""
        assert self._spawner is not None
        assert self._spawner.stdin is not None
        assert self._spawner.stdout is not None
        for name in names:
            role = name.rpartition("-")[0] if name.rpartition("-")[2].isdigit() else name
            order = {
                "role": role,
                "name": name,
                "config": str(self.config_path),
                "environment": {**os.environ, **self.environment, **environment},
                "log": str(self.folder / f"{name}.log"),
            }
            self._spawner.stdin.write(json.dumps(order) + "\n")
            self._spawner.stdin.flush()
            process = identify(int(self._spawner.stdout.readline()))
            if process is not None:
                self.members[name] = _Member(role, process, environment, struck=VARIABLE in environment)

    def is_alive(self, name: str) -> bool:
        """Whether the process that was started last under this name is alive."""
        return self.members[name].process.is_alive()

    def pid(self, name: str) -> int:
        """Its process id."""
        return self.members[name].process.pid

    def exit_code(self, pid: int, seconds: float = 10.0) -> int:
        """Exit code of an ended process, negative for a signal. Raises AssertionError if unknown."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            codes = [line.split() for line in self._ended.read_text().splitlines()] if self._ended.exists() else []
            found = [int(code) for process, code in codes if int(process) == pid]
            if found:
                return found[-1]
            time.sleep(0.01)
        raise AssertionError(f"nobody saw how process {pid} ended\n{self.last_words()}")

    def signal(self, name: str, number: int) -> None:
        """Sends a signal, unless the process has ended."""
        if self.is_alive(name):
            self.members[name].struck |= number in _ENDING
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid(name), number)

    def kill(self, name: str) -> None:
        """SIGKILL; returns when the process has ended. It is not restarted."""
        process = self.members[name].process
        self.signal(name, signal.SIGKILL)
        del self.members[name]
        while process.is_alive():
            time.sleep(0.005)

    def pause(self, name: str) -> None:
        """SIGSTOP."""
        self.members[name].paused = True
        self.signal(name, signal.SIGSTOP)

    def resume(self, name: str) -> None:
        """SIGCONT."""
        self.members[name].paused = False
        self.signal(name, signal.SIGCONT)

    def revive(self) -> list[str]:
        """Restarts processes that ended by themselves, as a supervisor would, without their fault; returns names."""
        fallen = [name for name, member in self.members.items() if not member.process.is_alive()]
        self.exits += [self._exit(name) for name in fallen if not self.members[name].struck]
        self.restarts += len(fallen)
        self.start(*fallen)
        return fallen

    def wait_until(self, condition: Callable[[], bool], seconds: float, what: str, *, revive: bool = True) -> None:
        """Waits for `condition` and restarts ended processes; fails with the ends of their logs after `seconds`."""
        deadline = time.monotonic() + seconds
        fallen = 0
        while not condition():
            if revive:
                fallen += len(self.revive())
            if fallen > _MOST_FALLEN:
                raise AssertionError(f"{what}: processes end again and again\n{self.last_words()}")
            if time.monotonic() > deadline:
                raise AssertionError(f"{what}: not within {seconds:.0f} s\n{self.last_words()}")
            time.sleep(0.05)

    def _exit(self, name: str, characters: int = 3000) -> str:
        """When and how a process ended, with the end of its log: later processes of the name append to it."""
        log = (self.folder / f"{name}.log").read_text(errors="replace")[-characters:]
        now = time.strftime("%H:%M:%S")
        return f"{now} {name} ended by itself, exit code {self.exit_code(self.pid(name))}; its log:\n{log}"

    def last_words(self, characters: int = 1500) -> str:
        """The ends of all logs."""
        logs = sorted(self.folder.glob("*.log"))
        return "\n".join(f"--- {path.name}\n{path.read_text(errors='replace')[-characters:]}" for path in logs)
