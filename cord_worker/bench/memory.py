"""Memory, threads and open files of processes, measured from outside."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

_PEAK = re.compile(rb"^VmHWM:\s+(\d+) kB", re.MULTILINE)
_LOOK_SECONDS = 0.05
_MIB = 2**20


@dataclass(frozen=True, slots=True)
class Footprint:
    """The resources of a process: resident MiB, threads, open files and sockets."""

    rss_mb: float
    threads: int
    files: int


def footprint(pid: int) -> Footprint:
    """The current resources of the process, without its children. Raises psutil.NoSuchProcess."""
    process = psutil.Process(pid)
    with process.oneshot():
        return Footprint(process.memory_info().rss / _MIB, process.num_threads(), process.num_fds())


class PeakMemory:
    """Watches a process and its children during a block; `mb` is the sum of their peaks (MiB).

    The kernel keeps each process's peak, so reading it now and then misses only what a process adds after the last
    reading. The kernel's figure for ended children is not used, because it starts with the parent's own size.
    """

    def __init__(self, pid: int) -> None:
        self._root = pid
        self._peaks: dict[int, float] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="peak-memory", daemon=True)

    @property
    def mb(self) -> float:
        """The sum of the peaks (MiB)."""
        return sum(self._peaks.values())

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.is_set():
            try:
                root = psutil.Process(self._root)
                for process in (root, *root.children(recursive=True)):
                    self._note(process)
            except psutil.NoSuchProcess:
                return
            self._ended.wait(_LOOK_SECONDS)

    def _note(self, process: psutil.Process) -> None:
        try:
            peak = _peak_mb(process)
        except (OSError, psutil.NoSuchProcess, psutil.AccessDenied):
            return
        self._peaks[process.pid] = max(peak, self._peaks.get(process.pid, 0.0))


def _peak_mb(process: psutil.Process) -> float:
    status = Path(f"/proc/{process.pid}/status")
    if status.exists():
        found = _PEAK.search(status.read_bytes())
        return int(found[1]) / 1024 if found else 0.0
    return float(process.memory_info().rss / _MIB)
