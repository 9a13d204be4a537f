"""Keeps a set of processes running: starts them, restarts those that fail, gives up those that keep failing, stops all.

    with Supervisor(specs) as supervisor:
        while not done():
            for event in supervisor.poll(): ...

It has no thread: `poll()` does what is due. Each child runs in its own session, so that Ctrl-C in the terminal reaches
only the supervisor. When the supervisor is killed, its children are killed too (`child.py`, `guard.py`). Create and
poll it in a thread that lives as long as it does: for the kernel, the end of the thread that started a child is the
death of the parent. If a fork server is given, it makes the processes that it can make (`ProcessSpec.module`).
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Protocol

from cord_worker.errors import LocalServiceError
from cord_worker.local import limits, processes
from cord_worker.local.fork_server import ForkServer, ForkServerGone

DO_NOT_RESTART = 78
"""Exit code (EX_CONFIG) that says that another start cannot help, for example because a model cannot be loaded."""

READY_FILE = "CORD_READY_FILE"
"""Environment variable of a process: path of the file that it creates once it takes work."""

_ROTATE_BYTES = 20 * 2**20
_HERE = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """One process to keep running; `env` is added to the supervisor's environment, output is appended to `log_path`.

    With `module`, `argv` ends with `-m module` and the module's arguments, and a fork server may make the process.
    """

    name: str
    argv: tuple[str, ...]
    log_path: Path
    env: Mapping[str, str] = field(default_factory=dict)
    module: str | None = None


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """When to start a failed process again (seconds).

    The pause doubles from `first_pause` to `longest_pause`; each is shortened at random by up to a quarter. A process
    is given up if it failed `max_failures_before_work` times in a row before it took work (`READY_FILE`), or
    `max_failures_at_work` times in a row within `quick_failure_seconds` of its start. The second number is larger, so
    that a piece of work that causes the failures is given up before the process.
    """

    first_pause: float = 0.5
    longest_pause: float = 30.0
    max_failures_before_work: int = 3
    quick_failure_seconds: float = 30.0
    max_failures_at_work: int = 10


class Process(Protocol):
    """A child process: a `subprocess.Popen` or a `ForkedProcess`."""

    @property
    def pid(self) -> int: ...

    def poll(self) -> int | None: ...

    def wait(self) -> int: ...

    def send_signal(self, number: int, /) -> None: ...


class State(StrEnum):
    """What a supervised process is doing."""

    RUNNING = "running"
    WAITING = "waiting"  # failed, and will start again after its pause; or the fork server still imports
    GIVEN_UP = "given_up"
    STOPPED = "stopped"  # not started yet, stopped on request, or ended with exit code 0


class EventKind(StrEnum):
    """What happened to a process."""

    STARTED = "started"
    FAILED = "failed"  # ended without being asked to; starts again after `pause` seconds
    GAVE_UP = "gave_up"  # failed for the last time; `error` says why
    STOPPED = "stopped"  # ended because it was asked to
    KILLED = "killed"  # did not end within the grace period


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a process; `exit_code` is negative for a signal, as in `subprocess`. `out_of_memory`:
    this process was killed, and since its start the kernel has killed a process because memory ran out."""

    kind: EventKind
    name: str
    pid: int | None = None
    exit_code: int | None = None
    pause: float | None = None
    error: LocalServiceError | None = None
    out_of_memory: bool = False

    def __str__(self) -> str:
        parts = [f"{self.name} {self.kind.value}"]
        parts += [f"pid {self.pid}"] if self.pid is not None else []
        parts += [_ending(self.exit_code, out_of_memory=self.out_of_memory)] if self.exit_code is not None else []
        parts += [f"again in {self.pause:.1f} s"] if self.pause is not None else []
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class Status:
    """The present state of a supervised process."""

    name: str
    state: State
    pid: int | None
    restarts: int
    error: LocalServiceError | None


class Supervisor:
    """Keeps the processes of `specs` running between `start()` and `stop()`."""

    def __init__(
        self,
        specs: Sequence[ProcessSpec],
        *,
        policy: RestartPolicy | None = None,
        grace_seconds: float = 30.0,
        fork_server: ForkServer | None = None,
    ) -> None:
        names = [spec.name for spec in specs]
        if len(set(names)) != len(names):
            raise LocalServiceError(f"Two processes to supervise have one name ({', '.join(names)}); rename one.")
        self._children = [_Child(spec) for spec in specs]
        self._policy = policy or RestartPolicy()
        self._grace = grace_seconds
        self._fork_server = fork_server
        self._guard: subprocess.Popen[bytes] | None = None
        self._events: list[Event] = []

    def __enter__(self) -> Supervisor:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Starts every process that does not run, even if it was given up; `poll()` then returns what happened.

        Raises:
            LocalServiceError: a log file cannot be written; processes started before are stopped.
        """
        if self._guard is None:
            self._guard = _start_guard()
        try:
            for child in self._children:
                if child.process is None:
                    child.forget_failures()
                    self._launch(child)
        except LocalServiceError:
            self.stop()
            raise

    def add(self, spec: ProcessSpec) -> None:
        """Keeps this process running as well, at once if the supervisor has started; ignored if the name exists.

        Raises:
            LocalServiceError: its log file cannot be written.
        """
        if any(child.spec.name == spec.name for child in self._children):
            return
        child = _Child(spec)
        self._children.append(child)
        if self._guard is not None:
            self._launch(child)

    def poll(self) -> list[Event]:
        """Notices failures and starts what is due; returns what happened since the last call, without waiting."""
        for child in self._children:
            if child.process is not None and child.process.poll() is not None:
                self._on_end(child, child.process)
            elif child.state is State.WAITING and time.monotonic() >= child.due:
                if not child.awaits_fork:
                    child.restarts += 1
                self._launch(child)
        events, self._events = self._events, []
        return events

    def wait(self, seconds: float, interval: float = 0.05) -> list[Event]:
        """Calls `poll()` until something happens or the time is over; returns what happened."""
        deadline = time.monotonic() + seconds
        while not (events := self.poll()) and time.monotonic() < deadline:
            time.sleep(min(interval, max(0.0, deadline - time.monotonic())))
        return events

    def wait_until_launched(self, seconds: float) -> None:
        """Waits until the fork server has imported its modules and the processes that need it are started. The next
        `poll()` returns what happened meanwhile."""
        deadline = time.monotonic() + seconds
        while any(child.awaits_fork for child in self._children) and time.monotonic() < deadline:
            self.rest(0.5)
            self._events = self.poll()

    def rest(self, seconds: float) -> None:
        """Sleeps; if a process waits for the fork server, only until the fork server is ready."""
        if self._fork_server is not None and any(child.awaits_fork for child in self._children):
            self._fork_server.wait_until_ready(seconds)
        else:
            time.sleep(seconds)

    def status(self) -> list[Status]:
        """Every process as of the last `poll()`, in the order of the specs."""
        return [
            Status(c.spec.name, c.state, c.process.pid if c.process else None, c.restarts, c.error)
            for c in self._children
        ]

    def failures(self) -> list[LocalServiceError]:
        """The errors of the processes that were given up."""
        return [child.error for child in self._children if child.error is not None]

    def stop(self, grace_seconds: float | None = None) -> list[Event]:
        """Asks every process to end (SIGTERM), waits, kills what is left of their groups; returns what happened.

        A second call does nothing.
        """
        running = [(child, child.process) for child in self._children if child.process is not None]
        for _, process in running:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + (self._grace if grace_seconds is None else grace_seconds)
        while any(process.poll() is None for _, process in running) and time.monotonic() < deadline:
            time.sleep(0.02)
        for child, process in running:
            kind = EventKind.KILLED if process.poll() is None else EventKind.STOPPED
            _kill_group(process.pid)
            self._forget(child, process)
            self._events.append(Event(kind, child.spec.name, process.pid, process.wait()))
        for child in self._children:
            child.awaits_fork = False
            if child.state is not State.GIVEN_UP:
                child.state = State.STOPPED
        if self._guard is not None and self._guard.stdin is not None:
            self._guard.stdin.close()
            self._guard.wait()
            self._guard = None
        events, self._events = self._events, []
        return events

    def _launch(self, child: _Child) -> None:
        spec, server = child.spec, self._fork_server
        child.awaits_fork = spec.module is not None and server is not None and server.is_importing
        if child.awaits_fork:
            child.state, child.due = State.WAITING, time.monotonic()
            return
        log = _open_log(spec.log_path)
        child.oom_kills = limits.oom_kills()
        try:
            _ready_file(spec).unlink(missing_ok=True)
            environment = {**os.environ, **spec.env, READY_FILE: str(_ready_file(spec))}
            child.process = self._fork(spec, environment, log) or _start_process(spec, environment, log)
        except OSError as error:
            raise LocalServiceError(f"The process {spec.name} could not be started: {error}.") from error
        finally:
            os.close(log)
        self._tell_guard(f"+{child.process.pid}\n")
        child.state = State.RUNNING
        child.started = time.monotonic()
        self._events.append(Event(EventKind.STARTED, spec.name, child.process.pid))

    def _fork(self, spec: ProcessSpec, environment: Mapping[str, str], log: int) -> Process | None:
        """The process, made by the fork server; None if there is no fork server that can make it."""
        if spec.module is None or self._fork_server is None:
            return None
        arguments = spec.argv[spec.argv.index(spec.module) + 1 :]
        try:
            return self._fork_server.fork(spec.module, arguments, environment, log)
        except ForkServerGone:
            return None

    def _on_end(self, child: _Child, process: Process) -> None:
        code = process.wait()
        # Processes that it left behind (an engine's helper) would hold the memory that its successor needs.
        _kill_group(process.pid)
        self._forget(child, process)
        if code == 0:
            # Another command asked it to end (`cordctl drain`), and its work goes to others.
            child.state = State.STOPPED
            self._events.append(Event(EventKind.STOPPED, child.spec.name, process.pid, code))
            return
        out_of_memory = code == -signal.SIGKILL and limits.oom_kills() > child.oom_kills
        quick = time.monotonic() - child.started < self._policy.quick_failure_seconds
        child.quick_failures = child.quick_failures + 1 if quick else 0
        # Counted whatever the duration, so that a process that is killed each time it loads its model is given up.
        child.failures_before_work = 0 if _ready_file(child.spec).exists() else child.failures_before_work + 1
        child.failures_in_row = child.failures_in_row + 1 if quick else 1
        if (
            code == DO_NOT_RESTART
            or child.failures_before_work >= self._policy.max_failures_before_work
            or child.quick_failures >= self._policy.max_failures_at_work
        ):
            child.state = State.GIVEN_UP
            child.error = self._failure_of(child, _ending(code, out_of_memory=out_of_memory), code)
            self._events.append(
                Event(
                    EventKind.GAVE_UP,
                    child.spec.name,
                    process.pid,
                    code,
                    error=child.error,
                    out_of_memory=out_of_memory,
                )
            )
            return
        longest = min(self._policy.longest_pause, self._policy.first_pause * 2 ** (child.failures_in_row - 1))
        pause = longest * random.uniform(0.75, 1.0)
        child.state, child.due = State.WAITING, time.monotonic() + pause
        self._events.append(
            Event(EventKind.FAILED, child.spec.name, process.pid, code, pause, out_of_memory=out_of_memory)
        )

    def _failure_of(self, child: _Child, ending: str, code: int) -> LocalServiceError:
        spec = child.spec
        if code == DO_NOT_RESTART:
            why = "and says that starting it again cannot help"
        elif child.failures_before_work >= self._policy.max_failures_before_work:
            why = f"{child.failures_before_work} times in a row before it took work"
        else:
            why = f"{child.quick_failures} times in a row within {self._policy.quick_failure_seconds:g} s of its start"
        return LocalServiceError(
            f"The process {spec.name} ended ({ending}) {why}; it is not started again. Correct the cause, then "
            f"start it again. The end of its log {spec.log_path}:\n{processes.tail(spec.log_path)}"
        )

    def _forget(self, child: _Child, process: Process) -> None:
        self._tell_guard(f"-{process.pid}\n")
        child.process = None

    def _tell_guard(self, line: str) -> None:
        if self._guard is None or self._guard.stdin is None:
            return
        try:
            self._guard.stdin.write(line.encode())
        except BrokenPipeError:
            # The guard was killed: start a new one and tell it all running processes.
            self._guard.wait()
            self._guard = _start_guard()
            for child in self._children:
                if child.process is not None:
                    self._tell_guard(f"+{child.process.pid}\n")


class _Child:
    """The supervisor's record of one process."""

    __slots__ = (
        "awaits_fork",
        "due",
        "error",
        "failures_before_work",
        "failures_in_row",
        "oom_kills",
        "process",
        "quick_failures",
        "restarts",
        "spec",
        "started",
        "state",
    )

    def __init__(self, spec: ProcessSpec) -> None:
        self.spec = spec
        self.state = State.STOPPED
        self.process: Process | None = None
        self.started = 0.0
        self.due = 0.0
        self.restarts = 0
        self.oom_kills = 0
        self.awaits_fork = False
        self.forget_failures()

    def forget_failures(self) -> None:
        """Forgets its failures."""
        self.quick_failures = 0
        self.failures_before_work = 0
        self.failures_in_row = 0
        self.error: LocalServiceError | None = None


def _start_process(spec: ProcessSpec, environment: Mapping[str, str], log: int) -> Process:
    return subprocess.Popen(
        [sys.executable, "-I", "-S", str(_HERE / "child.py"), str(os.getpid()), *spec.argv],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )


def _start_guard() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-I", "-S", str(_HERE / "guard.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        bufsize=0,
        start_new_session=True,
        cwd="/",
    )


def _ready_file(spec: ProcessSpec) -> Path:
    return spec.log_path.with_suffix(".ready").absolute()


def _open_log(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and path.stat().st_size > _ROTATE_BYTES:
            path.replace(path.with_name(f"{path.name}.1"))
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    except OSError as error:
        raise LocalServiceError(f"The log {path} cannot be written: {error.strerror}.") from error


def _kill_group(group: int) -> None:
    # macOS reports EPERM for a group of zombies.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def _ending(code: int, *, out_of_memory: bool) -> str:
    if out_of_memory:
        return "killed by the kernel because memory ran out"
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
