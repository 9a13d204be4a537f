"""Finds and reads the logs of a state folder: those of the processes and embedded servers that `run` and `up` start.

Lines are returned unchanged. They may hold text of models, so the caller must escape them before it shows them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cord_worker.local.postgres import EmbeddedPostgres
from cord_worker.local.redis import EmbeddedRedis

_BLOCK = 65_536
_MAX_LINE_BYTES = 1_000_000
"""A line that is longer than this is returned in parts."""
_WORKER = "worker-"
_ORDER = ("coordinator", "worker", "daemon", "watchdog", "postgres", "redis")
_SERVERS = {"watchdog", "postgres", "redis"}


@dataclass(frozen=True, slots=True)
class Log:
    """A log file. `name` is the worker's (the name of its model, from the second replica on with a number), or
    `coordinator`, `daemon`, `watchdog`, `postgres` or `redis`."""

    name: str
    path: Path
    is_worker: bool = False

    def belongs_to(self, name: str) -> bool:
        """Whether it is the log of this name, or of a worker of the model of this name."""
        return name in (self.name, self.path.stem) or (
            self.is_worker and re.fullmatch(rf"{re.escape(name)}-\d+", self.name) is not None
        )

    @property
    def is_server(self) -> bool:
        """Whether it is the log of an embedded server."""
        return self.name in _SERVERS and not self.is_worker


def find_logs(state_dir: Path) -> list[Log]:
    """The logs in the state folder: coordinator, workers, daemon, embedded servers. Creates nothing; empty if there is
    no such folder."""
    found = [_log(path) for path in (state_dir / "logs").glob("*.log")]
    servers = (("postgres", EmbeddedPostgres(state_dir).log_path), ("redis", EmbeddedRedis(state_dir).log_path))
    found += [Log(name, path) for name, path in servers if path.is_file()]
    return sorted(found, key=_order)


def _log(path: Path) -> Log:
    if path.stem.startswith(_WORKER):
        return Log(path.stem.removeprefix(_WORKER), path, is_worker=True)
    return Log(path.stem, path)


def _order(log: Log) -> tuple[int, str]:
    kind = "worker" if log.is_worker else log.name
    return _ORDER.index(kind) if kind in _ORDER else len(_ORDER), log.name


@dataclass(frozen=True, slots=True)
class LastLines:
    """The last whole lines of a file; `rest` is the text after the last line end, `end` the offset of `rest` in
    bytes."""

    lines: list[str]
    rest: str
    end: int


def last_lines(path: Path, lines: int) -> LastLines:
    """The last lines of the file; reads no more of it than needed. Raises OSError."""
    with path.open("rb") as file:
        end = offset = file.seek(0, 2)
        read = b""
        while offset > 0 and read.count(b"\n") <= lines:
            begin = max(0, offset - _BLOCK)
            file.seek(begin)
            read = file.read(offset - begin) + read
            offset = begin
    whole, newline, rest = read.rpartition(b"\n")
    texts = (whole + newline).decode("utf-8", errors="replace").split("\n")[:-1]
    return LastLines(texts[-lines:] if lines else [], rest.decode("utf-8", errors="replace"), end - len(rest))


@dataclass(slots=True)
class _FollowedLog:
    log: Log
    offset: int
    part: bytes = b""


@dataclass(slots=True)
class LogFollower:
    """Reads what is added to the logs of a state folder. `names` are the logs to follow, as in `select_logs`. `offsets`
    are the bytes at which reading begins; logs without an offset are read from their beginning."""

    state_dir: Path
    names: Collection[str]
    offsets: dict[Path, int] = field(default_factory=dict)
    _followed: dict[Path, _FollowedLog] = field(default_factory=dict)

    def new_lines(self) -> Iterator[tuple[Log, str]]:
        """The lines since the last call, by log. A log that was made smaller or replaced is read from its beginning."""
        for log in select_logs(find_logs(self.state_dir), self.names):
            known = self._followed.setdefault(log.path, _FollowedLog(log, self.offsets.get(log.path, 0)))
            yield from ((log, line) for line in _new_lines_of(known))


def _new_lines_of(known: _FollowedLog) -> Iterator[str]:
    try:
        with known.log.path.open("rb") as file:
            if file.seek(0, 2) < known.offset:
                known.offset, known.part = 0, b""
            file.seek(known.offset)
            read = file.read()
    except FileNotFoundError:
        return
    known.offset += len(read)
    *lines, known.part = (known.part + read).split(b"\n")
    if len(known.part) > _MAX_LINE_BYTES:
        lines, known.part = [*lines, known.part], b""
    for line in lines:
        yield line.decode("utf-8", errors="replace")


def select_logs(logs: Sequence[Log], names: Collection[str]) -> list[Log]:
    """The logs of these names or models; without names those of the coordinator, the workers and the daemon."""
    if not names:
        return [log for log in logs if not log.is_server]
    return [log for log in logs if any(log.belongs_to(name) for name in names)]
