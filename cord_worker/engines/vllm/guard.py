"""Cleans up after a worker's vLLM: `guard.py WORKER_PID MARK FOLDER`, one process per worker.

vLLM starts processes that start further processes, and a worker killed by SIGKILL ends none of them. The guard waits
on a pipe whose other end only the worker holds. When the pipe closes, the worker has died or is done. Then the guard
kills every process that inherited the worker's mark in its environment, at any depth of the tree, and removes their
shared memory in /dev/shm and the private FOLDER of their sockets.
Run it as a file, in its own session, so that no signal of a terminal reaches it.
"""

from __future__ import annotations

import contextlib
import select
import shutil
import sys
import time
from pathlib import Path

import psutil

MARK_VARIABLE = "CORD_ENGINE_MARK"
_SHARED_MEMORY = "/dev/shm/"
_TRACKER_SECONDS = 5.0
_LOOK_SECONDS = 0.3
_START_SECONDS = 600.0
"""For this long the processes are looked at often, because they make shared memory while the engine starts."""
_LATER_LOOK_SECONDS = 10.0
_ROUNDS_SECONDS = 8.0


def main(worker: int, mark: str, folder: str) -> None:
    """Waits for the worker's end, then cleans up after it."""
    segments = _watch(worker)
    deadline = time.monotonic() + _ROUNDS_SECONDS
    # Repeated, because a process may start another between the listing and the kill.
    while time.monotonic() < deadline:
        # If the worker lives, it still needs its resource tracker, which removes shared memory when the worker ends.
        left = [process for process in marked(mark) if not (_is_tracker(process) and process.ppid() == worker)]
        if not left:
            break
        trackers = [process for process in left if _is_tracker(process)]
        others = [process for process in left if process not in trackers]
        for process in others:
            segments |= _shared_memory(process)
        _kill(others)
        # Python's resource tracker removes shared memory itself once no process uses it.
        _, stuck = psutil.wait_procs(trackers, timeout=_TRACKER_SECONDS)
        _kill(stuck)
    for segment in segments:
        Path(segment).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def _watch(worker: int) -> set[str]:
    """Waits for the end of the pipe; returns the segments of shared memory that the worker's processes made meanwhile.

    They are collected in advance, because nothing shows the owner of a segment once its processes are killed.
    """
    segments: set[str] = set()
    started = time.monotonic()
    while True:
        pause = _LOOK_SECONDS if time.monotonic() - started < _START_SECONDS else _LATER_LOOK_SECONDS
        if select.select([sys.stdin], [], [], pause)[0]:
            return segments
        with contextlib.suppress(psutil.Error):
            for process in psutil.Process(worker).children(recursive=True):
                segments |= _shared_memory(process)
        segments = {segment for segment in segments if Path(segment).exists()}


def marked(mark: str) -> list[psutil.Process]:
    """Living processes that were started with `mark` in their environment."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(MARK_VARIABLE) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def _is_tracker(process: psutil.Process) -> bool:
    try:
        return any("multiprocessing.resource_tracker" in part for part in process.cmdline())
    except psutil.Error:
        return False


def _shared_memory(process: psutil.Process) -> set[str]:
    """Segments that the process made. The processes also map segments of other programs; those are left alone.

    Reads `maps`, not psutil's `memory_maps`: the latter makes the kernel count every page of a process with a model.
    """
    try:
        with Path(f"/proc/{process.pid}/maps").open(encoding="utf-8", errors="replace") as maps:
            paths = {line[line.index(_SHARED_MEMORY) :].rstrip("\n") for line in maps if _SHARED_MEMORY in line}
        made_after = process.create_time() - 60
    except (psutil.Error, OSError):
        return set()
    return {path for path in paths if Path(path).is_file() and Path(path).stat().st_mtime >= made_after}


def _kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(processes, timeout=5)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3])
