"""Identifies processes so that a reused pid is never mistaken for them, and ends processes."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil

_HAS_PROC = Path("/proc/self/stat").exists()


@dataclass(frozen=True, slots=True)
class ProcessId:
    """A process for its lifetime: its pid and a mark of when it started.

    The mark is a time since boot if the kernel gives that. A time by the wall clock would change when the clock is set,
    and a living owner would look dead.
    """

    pid: int
    start: str

    def is_alive(self) -> bool:
        """True while exactly this process runs; a zombie, or a later process with the same pid, does not count."""
        return start_mark(self.pid) == self.start


def identify(pid: int) -> ProcessId | None:
    """The living process with this pid, or None."""
    mark = start_mark(pid)
    return None if mark is None else ProcessId(pid, mark)


def current() -> ProcessId:
    """The calling process."""
    return ProcessId(os.getpid(), start_mark(os.getpid()) or "unknown")


def start_mark(pid: int) -> str | None:
    """When the process started, as an opaque mark; None if no living process has this pid."""
    if _HAS_PROC:
        try:
            stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
        # The command name (field 2) may contain spaces and brackets: count from the last bracket.
        fields = stat.rpartition(")")[2].split()
        if fields[0] in {"Z", "X", "x"}:
            return None
        return f"{_boot_id()}:{fields[19]}"
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return f"{process.create_time():.2f}"
    except psutil.Error:
        return None


@cache
def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()[:8]
    except OSError:
        return "boot"


def works_in(pid: int, folder: Path, names: tuple[str, ...]) -> bool:
    """True when the process is one of the named programs and its working folder is `folder`."""
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE or not _is_program(process, names):
            return False
        return Path(process.cwd()) == folder.resolve()
    except (psutil.Error, OSError):
        return False


def all_in(folder: Path, names: tuple[str, ...]) -> list[int]:
    """Pids of every living process of the named programs whose working folder is `folder`."""
    return [pid for pid in psutil.pids() if works_in(pid, folder, names)]


def _is_program(process: psutil.Process, names: tuple[str, ...]) -> bool:
    command = process.cmdline()
    return process.name() in names or (bool(command) and Path(command[0].split(" ")[0]).name in names)


def terminate(pids: Iterable[int], steps: Iterable[tuple[signal.Signals, float]]) -> list[int]:
    """Sends each signal in turn and waits up to its seconds; returns the pids that survived all of them."""
    left = [process for pid in pids if (process := identify(pid)) is not None]
    for number, seconds in steps:
        for process in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, number)
        deadline = time.monotonic() + seconds
        while (left := [process for process in left if process.is_alive()]) and time.monotonic() < deadline:
            time.sleep(0.02)
        if not left:
            break
    return [process.pid for process in left]


def tail(path: Path, lines: int = 15) -> str:
    """The last lines of a log file, empty if there is none."""
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 16_384))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def python_environment() -> dict[str, str]:
    """This process's environment, changed so that `python -m cord_worker…` works from any working folder."""
    root = str(Path(__file__).resolve().parents[2])
    paths = [root, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))}
