"""What this machine allows a process, what our processes need, and which limit caused an error.

A limit that is too low is refused before anything starts, in one line that names it. If a limit is reached later, the
error's line names it. Limits are inherited: servers and workers get those of `cordctl run` and `up`.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import resource
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import psutil

from cord_worker.errors import MachineLimit

MIB = 2**20
_WANTED_HANDLES = 4096
_INFINITE = float("inf")
_CGROUP = Path("/sys/fs/cgroup")
_OWN_GROUPS = Path("/proc/self/cgroup")
_VMSTAT = Path("/proc/vmstat")
_OOM_KILLS = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)
_FEW_TASKS = 1024
SHARED_MEMORY = Path("/dev/shm")
ENLARGE_SHARED_MEMORY = "free some of it, or enlarge it (mount -o remount,size=1g /dev/shm; docker run --shm-size=1g)"


@dataclass(frozen=True, slots=True)
class Need:
    """What one kind of process needs: open files, bytes of address space, processes and threads, bytes of its largest
    file, and connections to the broker."""

    handles: int
    memory: int
    tasks: int
    file_size: int = 0
    broker_connections: int = 0


COMMAND = Need(handles=32, memory=256 * MIB, tasks=4, broker_connections=4)
POSTGRES = Need(handles=64, memory=384 * MIB, tasks=24, file_size=1024 * MIB)
"""Its files grow to 1 GiB each; with fewer than 58 file handles it refuses to start."""
COORDINATOR = Need(handles=64, memory=1024 * MIB, tasks=48, broker_connections=14)
"""Includes its processes that compare answers."""
WORKER = Need(handles=64, memory=1024 * MIB, tasks=32, broker_connections=10)
TORCH_WORKER = Need(handles=64, memory=3072 * MIB, tasks=48, broker_connections=10)
"""Its model's weights need more on top."""
_HANDLES_OF_REDIS = 32
"""Open files that Redis keeps for itself; it refuses a connection for which the rest has no room."""


@dataclass(frozen=True, slots=True)
class Shortage:
    """A limit that is too low: `found` says which and how low, `advice` what to do."""

    limit: str
    found: str
    advice: str

    def __str__(self) -> str:
        return f"{self.found}: {self.advice}"


def redis_for(clients: Sequence[Need]) -> Need:
    """What the embedded Redis needs to serve these processes: every connection is an open file."""
    connections = sum(need.broker_connections for need in clients)
    return Need(handles=_HANDLES_OF_REDIS + connections, memory=256 * MIB, tasks=8)


def shortages(needs: Sequence[Need]) -> list[Shortage]:
    """The limits that are too low for all of `needs` at once; empty if none is. Of the limits of open files the hard
    one counts, because a process may raise its soft one."""
    found = []
    handles = _handles(needs)
    if (allowed := _hard("NOFILE")) < handles:
        found.append(
            Shortage(
                "file handles",
                f"a process may open {allowed:.0f} files, and {handles} are needed",
                f"raise the limit (ulimit -n {max(handles, _WANTED_HANDLES)})",
            )
        )
    if (shortage := memory_shortage(needs)) is not None:
        found.append(shortage)
    file_size = max(need.file_size for need in needs)
    if (allowed := _soft("FSIZE")) < file_size:
        found.append(
            Shortage(
                "file size",
                f"a file may grow to {_size(allowed)}, and PostgreSQL's grow to {_size(file_size)}",
                "raise the limit (ulimit -f unlimited)",
            )
        )
    tasks = sum(need.tasks for need in needs)
    if (free := _free_tasks()) < tasks:
        found.append(
            Shortage(
                "processes",
                f"{max(0, free):.0f} more processes and threads may be started, and {tasks} are needed",
                "raise the limit (ulimit -u, or pids.max of the container) or end others",
            )
        )
    return found


def memory_shortage(needs: Sequence[Need]) -> Shortage | None:
    """The limit of addresses, if it is too low for one of `needs`. Call this before torch is imported, because torch
    ends a process that gets too little memory."""
    memory = max(need.memory for need in needs)
    if (allowed := _soft("AS")) >= memory:
        return None
    return Shortage(
        "memory",
        f"a process may use {_size(allowed)} of addresses, and {_size(memory)} are needed",
        "raise the limit (ulimit -v unlimited)",
    )


def check(subject: str, needs: Sequence[Need]) -> None:
    """Raises MachineLimit if `subject` cannot work with these limits; raises the soft limit of open files as needed."""
    found = shortages(needs)
    if found:
        raise MachineLimit(f"{subject} cannot work with the limits of this machine: {'; '.join(map(str, found))}.")
    raise_file_handles(_handles(needs))


def raise_file_handles(needed: int = 0) -> None:
    """Raises this process's limit of open files, which its servers and workers inherit, as far as is useful and
    allowed; macOS begins with 256, some systems with less."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    wanted = max(needed, _WANTED_HANDLES)
    if hard != unlimited:
        wanted = min(hard, wanted)
    if soft != unlimited and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):
            return


def spare_threads() -> None:
    """Limits numpy's library to one thread if few threads can be started, because it might end this process otherwise.

    Call it before numpy is imported.
    """
    # Counting all processes takes a while, so it is done only if the limit is low.
    is_limited = _soft("NPROC") < _FEW_TASKS or any(
        (folder / "pids.max").exists() for folder in _control_groups("pids")
    )
    if is_limited and _free_tasks() < (os.cpu_count() or 1) + COMMAND.tasks:
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def free_shared_memory() -> int | None:
    """Free bytes in /dev/shm; None if nothing can be written there."""
    try:
        with tempfile.TemporaryFile(dir=SHARED_MEMORY) as file:
            file.write(b"\0")
        return shutil.disk_usage(SHARED_MEMORY).free
    except OSError:
        return None


def container_memory() -> int | None:
    """Bytes of memory that this container may use, None if that is not limited."""
    total = psutil.virtual_memory().total
    files = [folder / name for folder in _control_groups("memory") for name in ("memory.max", "memory.limit_in_bytes")]
    found = [allowed for allowed in map(_number, files) if allowed is not None and allowed < total]
    return min(found, default=None)


def oom_kills() -> int:
    """How many processes the kernel has killed because memory ran out: in this process's control group or, if that does
    not count them, on this machine. 0 if neither counts them."""
    own_first = sorted(_control_groups("memory"), key=lambda folder: len(folder.parts), reverse=True)
    files = [folder / name for folder in own_first for name in ("memory.events", "memory.oom_control")]
    for file in (*files, _VMSTAT):
        with contextlib.suppress(OSError):
            if match := _OOM_KILLS.search(file.read_text(encoding="ascii")):
                return int(match[1])
    return 0


def limit_that_caused(error: BaseException) -> str | None:
    """The machine's limit that caused the error, and what to do; None if no limit caused it."""
    for one in _chain(error):
        if isinstance(one, MemoryError):
            return _memory_limit()
        if isinstance(one, RuntimeError) and _NO_THREAD in str(one):
            return "no further thread can be started: " + _MORE_TASKS
        if isinstance(one, ImportError) and "failed to map segment" in str(one):
            return _memory_limit()
        advice = _ADVICE.get(one.errno or 0) if isinstance(one, OSError) else None
        if isinstance(one, OSError) and advice is not None:
            where = f"{one.filename}: " if one.filename is not None else ""
            return f"{where}{one.strerror or type(one).__name__}: {advice}"
    return None


def is_temporary(error: BaseException) -> bool:
    """Whether the error is a lack of file handles, memory or threads, which ends when others free some."""
    return any(
        isinstance(one, MemoryError)
        or (isinstance(one, OSError) and one.errno in _TEMPORARY)
        or (isinstance(one, RuntimeError) and _NO_THREAD in str(one))
        for one in _chain(error)
    )


def log_error(logger: logging.Logger, error: BaseException, text: str) -> None:
    """Logs `text`: in one line if a limit of the machine caused `error`, else with the traceback."""
    limit = limit_that_caused(error)
    if limit is None:
        logger.error(text, exc_info=error)
    else:
        logger.warning("%s: %s", text, limit)


def limit_named_in(text: str) -> str | None:
    """The machine's limit that a server's last output names, and what to do; None if it names none."""
    for pattern, sentence in _IN_OUTPUT:
        if pattern.search(text):
            return sentence
    return None


_NO_THREAD = "can't start new thread"
_TEMPORARY = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}
_MORE_TASKS = "end other processes, or raise the limit (ulimit -u; pids.max of a container; ulimit -v for memory)"
_FREE_SPACE = "free some space, or name another place"
_ADVICE = {
    errno.ENOSPC: _FREE_SPACE,
    errno.EDQUOT: "your quota of this disk is used up: " + _FREE_SPACE,
    errno.EFBIG: "raise the limit of a file's size (ulimit -f unlimited)",
    errno.EMFILE: f"raise the limit of open files (ulimit -n {_WANTED_HANDLES})",
    errno.ENFILE: "all open files of this machine are in use: end other programs, or raise fs.file-max",
    errno.ENOMEM: "free some memory, or raise the limit (ulimit -v unlimited)",
    errno.EAGAIN: _MORE_TASKS,
    errno.EROFS: "name a place that can be written",
    errno.ENAMETOOLONG: "name a shorter one",
}
_IN_OUTPUT = (
    (
        re.compile(r"shared memory segment .*No space left on device"),
        f"/dev/shm is full: {ENLARGE_SHARED_MEMORY}",
    ),
    (
        re.compile(r"No space left on device"),
        "its disk is full: free some, or set CORD_STATE_DIR to another one",
    ),
    (re.compile(r"[Dd]isk quota exceeded"), "its quota of the disk is used up: free some space, or set CORD_STATE_DIR"),
    (re.compile(r"File too large"), "its files may not grow: raise the limit of a file's size (ulimit -f unlimited)"),
    (
        re.compile(r"insufficient file descriptors|Too many open files|number of file descriptors"),
        f"it may open too few files: raise the limit (ulimit -n {_WANTED_HANDLES})",
    ),
    (
        re.compile(r"Read-only file system"),
        "its folder is read-only: set CORD_STATE_DIR to another one",
    ),
    (
        re.compile(r"[Cc]annot allocate memory|out of memory|failed to map segment"),
        "it gets no memory: free some, or raise the limit (ulimit -v unlimited)",
    ),
    (
        re.compile(r"could not fork|Resource temporarily unavailable|can't start new thread"),
        f"no process can be started: {_MORE_TASKS}",
    ),
)


def _memory_limit() -> str:
    allowed = _soft("AS")
    limit = "" if allowed == _INFINITE else f" (this process may use {_size(allowed)} of addresses, ulimit -v)"
    return f"no memory is left{limit}: free some, or raise the limit"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _handles(needs: Sequence[Need]) -> int:
    return max(need.handles for need in needs)


def _soft(name: str) -> float:
    return _limits(name)[0]


def _hard(name: str) -> float:
    return _limits(name)[1]


def _limits(name: str) -> tuple[float, float]:
    soft, hard = (
        _INFINITE if limit == resource.RLIM_INFINITY else float(limit)
        for limit in resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))
    )
    return soft, hard


def _free_tasks() -> float:
    """How many processes and threads may still be started."""
    free = _INFINITE
    for folder in _control_groups("pids"):
        most, now = _number(folder / "pids.max"), _number(folder / "pids.current")
        if most is not None and now is not None:
            free = min(free, most - now)
    # The kernel does not apply this limit to root.
    allowed = _soft("NPROC") if os.geteuid() else _INFINITE
    return free if allowed == _INFINITE else min(free, allowed - _tasks_of_user())


def _control_groups(controller: str) -> list[Path]:
    """The control groups that limit this process, of version 1 and 2: its own and those around it.

    In a container the outermost visible group is the container's; a service or a batch job may be in an inner one.
    """
    try:
        lines = _OWN_GROUPS.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    found = [_CGROUP, _CGROUP / controller]
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and controller not in controllers.split(","):
            continue
        top = _CGROUP / controller if controllers else _CGROUP
        within = PurePosixPath(path.lstrip("/"))
        found += [top / one for one in (within, *within.parents) if ".." not in one.parts]
    return list(dict.fromkeys(found))


def _tasks_of_user() -> int:
    count, me = 0, os.getuid()
    for process in psutil.process_iter():
        try:
            count += process.num_threads() if process.uids().real == me else 0
        except psutil.Error:
            continue
    return count


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def _size(count: float) -> str:
    return f"{count / 2**30:.3g} GiB" if count >= 2**30 else f"{count / MIB:.3g} MiB"
