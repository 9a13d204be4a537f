"""Limits of the machine: which are too low, and which one an error or a server's log is about."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from cord_worker.errors import LocalServiceError
from cord_worker.local import limits
from cord_worker.local.state import StateDir, check_usable


@pytest.mark.parametrize(
    ("limit", "value", "named"),
    [
        ("NOFILE", 32, "a process may open 32 files, and 64 are needed: raise the limit (ulimit -n 4096)"),
        ("FSIZE", 10 << 20, "a file may grow to 10 MiB, and PostgreSQL's grow to 1 GiB: raise the limit"),
        ("AS", 512 << 20, "a process may use 512 MiB of addresses, and 1 GiB are needed: raise the limit"),
    ],
)
def test_a_limit_that_is_too_low_is_named_with_a_remedy(limit: str, value: int, named: str) -> None:
    script = (
        f"import resource; resource.setrlimit(resource.RLIMIT_{limit}, ({value}, {value}))\n"
        "from cord_worker.local import limits\n"
        "print(*limits.shortages([limits.POSTGRES, limits.COORDINATOR]), sep='\\n')\n"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60).stdout
    assert named in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(("hard", "said"), [(8000, "[] 6032"), (6000, "['file handles'] 4096")])
def test_the_limit_of_open_files_is_raised_for_the_connections_of_many_workers_or_named_as_too_low(
    hard: int, said: str
) -> None:
    script = (
        f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (64, {hard}))\n"
        "from cord_worker.errors import MachineLimit\n"
        "from cord_worker.local import limits; limits.raise_file_handles()\n"
        "needs = [limits.COMMAND, limits.redis_for([limits.Need(64, 0, 0, broker_connections=10)] * 600)]\n"
        "try: limits.check('it', needs)\n"
        "except MachineLimit as error: assert 'ulimit -n 6032' in str(error), error\n"
        "print([one.limit for one in limits.shortages(needs)], resource.getrlimit(resource.RLIMIT_NOFILE)[0])\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert ended.stdout.strip() == said, ended.stderr


def test_a_low_limit_of_open_files_is_raised_as_far_as_allowed() -> None:
    script = (
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (40, 300))\n"
        "from cord_worker.local import limits; limits.raise_file_handles()\n"
        "print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])\n"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60).stdout
    assert said.strip() == "300"


def _within(error: BaseException) -> BaseException:
    outer = ValueError("outer")
    outer.__cause__ = error
    return outer


@pytest.mark.parametrize(
    ("error", "named"),
    [
        (OSError(errno.EMFILE, os.strerror(errno.EMFILE)), "ulimit -n"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/x/y"), "/x/y: No space left on device: free some space"),
        (OSError(errno.EFBIG, os.strerror(errno.EFBIG)), "ulimit -f"),
        (OSError(errno.EAGAIN, os.strerror(errno.EAGAIN)), "ulimit -u"),
        (MemoryError(), "no memory is left"),
        (RuntimeError("can't start new thread"), "no further thread can be started"),
        (_within(OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))), "free some memory"),
    ],
)
def test_an_error_is_explained_by_the_limit_that_caused_it(error: BaseException, named: str) -> None:
    said = limits.limit_that_caused(error)
    assert said is not None
    assert named in said
    assert "\n" not in said


def test_an_error_that_no_limit_explains_stays_unexplained() -> None:
    assert limits.limit_that_caused(ValueError("x")) is None
    assert limits.limit_that_caused(OSError(errno.ENOENT, "no such file")) is None
    assert limits.limit_named_in("database system is ready") is None


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (
            'could not resize shared memory segment "/PostgreSQL.1" to 8 bytes: No space left on device',
            "/dev/shm is full",
        ),
        ('could not write to file "pg_wal/x": No space left on device', "disk is full"),
        ('could not write to file "pg_wal/x": File too large', "ulimit -f"),
        ("FATAL:  insufficient file descriptors available to start server process", "ulimit -n"),
        ("could not fork autovacuum launcher process: Resource temporarily unavailable", "no process can be started"),
    ],
)
def test_the_last_lines_of_a_servers_log_name_the_limit(words: str, named: str) -> None:
    assert named in str(limits.limit_named_in(words))


def _a_file(folder: Path) -> Path:
    (folder / "file").write_text("x", encoding="ascii")
    return folder / "file"


def _a_link(folder: Path, target: str) -> Path:
    (folder / "link").symlink_to(target)
    return folder / "link"


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (_a_file, "it is a file"),
        (lambda folder: _a_file(folder) / "below", "a part of its path is a file"),
        (lambda folder: _a_link(folder, "nowhere/at/all"), "a link that leads nowhere"),
        (lambda folder: _a_link(folder, "link"), "a link that leads nowhere"),
        (lambda folder: folder / ("x" * 300), "File name too long"),
        (lambda folder: folder / "two\nlines", "control character"),
        (lambda folder: folder / os.fsdecode(b"\xff"), "not UTF-8"),
    ],
)
def test_a_state_folder_that_cannot_be_used_is_refused_with_the_reason(
    tmp_path: Path, make: Callable[[Path], Path], named: str
) -> None:
    folder = make(tmp_path)
    for look in (StateDir.open, check_usable):
        with pytest.raises(LocalServiceError, match=named) as refused:
            look(folder)
        assert "CORD_STATE_DIR" in str(refused.value)


def test_checking_a_state_folder_creates_nothing(tmp_path: Path) -> None:
    check_usable(tmp_path / "a" / "b")
    assert not list(tmp_path.iterdir())


def _use_control_groups(
    folder: Path, monkeypatch: pytest.MonkeyPatch, own: str, files: Mapping[str, int | str]
) -> None:
    """Makes `folder` the control groups of this machine, with these files; `own` is the text of /proc/self/cgroup."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(str(content), encoding="ascii")
    (folder / "own").write_text(own, encoding="ascii")
    monkeypatch.setattr(limits, "_CGROUP", folder)
    monkeypatch.setattr(limits, "_OWN_GROUPS", folder / "own")


@pytest.mark.parametrize(
    ("own", "files", "memory", "tasks"),
    [
        ("0::/\n", {"memory.max": 1 << 28, "pids.max": 9, "pids.current": 2}, 1 << 28, 7),
        ("0::/a/b\n", {"a/memory.max": 1 << 27, "a/b/pids.max": 5, "a/b/pids.current": 1}, 1 << 27, 4),
        ("0::/a/b\n", {"a/b/memory.max": 1 << 26, "a/memory.max": 1 << 27}, 1 << 26, None),
        (
            "5:memory:/x\n4:pids:/y\n0::/\n",
            {"memory/x/memory.limit_in_bytes": 1 << 25, "pids/y/pids.max": 3, "pids/y/pids.current": 3},
            1 << 25,
            0,
        ),
        ("5:memory:/../out\n", {"memory/memory.limit_in_bytes": 1 << 24}, 1 << 24, None),
        ("0::/a\n", {"b/memory.max": 1 << 23, "b/pids.max": 1, "b/pids.current": 1}, None, None),
        ("0::/a\n", {"a/memory.max": "max\n", "a/pids.max": "max\n", "a/pids.current": 4}, None, None),
    ],
)
def test_the_lowest_limit_of_all_control_groups_around_this_process_applies(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    own: str,
    files: dict[str, int | str],
    memory: int | None,
    tasks: int | None,
) -> None:
    _use_control_groups(tmp_path, monkeypatch, own, files)
    assert limits.container_memory() == memory
    found = [one.found for one in limits.shortages([limits.Need(0, 0, 1 << 20)]) if one.limit == "processes"]
    if tasks is not None:
        assert found[0].startswith(f"{tasks} more processes and threads may be started")
    else:  # only this user's own limit may be named, and that is not so low
        assert not any(one.startswith(("4 more", "1 more", "0 more")) for one in found)


_VERSION_1 = "oom_kill_disable 0\nunder_oom 0\noom_kill {}\n"
_VERSION_2 = "low 0\nhigh 7\nmax 9\noom 4\noom_kill {}\noom_group_kill 0\n"


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        ("0::/a/b\n", {"a/memory.events": _VERSION_2.format(5), "a/b/memory.events": _VERSION_2.format(2)}, 2),
        ("5:memory:/x\n0::/\n", {"memory/x/memory.oom_control": _VERSION_1.format(3)}, 3),
        ("5:memory:/not/seen\n0::/\n", {"memory/memory.oom_control": _VERSION_1.format(1)}, 1),
        ("5:memory:/x\n", {"memory/x/memory.oom_control": "oom_kill_disable 0\n", "vmstat": "oom_kill 8\n"}, 8),
        ("0::/\n", {"vmstat": "pgfault 12\noom_kill 6\n"}, 6),
        ("0::/\n", {}, 0),
    ],
)
def test_what_the_kernel_killed_is_counted_in_the_innermost_control_group_or_on_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: str, files: dict[str, str], expected: int
) -> None:
    _use_control_groups(tmp_path, monkeypatch, own, files)
    monkeypatch.setattr(limits, "_VMSTAT", tmp_path / "vmstat")
    assert limits.oom_kills() == expected
