"""The state folder: its place, its lock, and `services.json`, in which later commands find what runs.

`services.json` is written whole and renamed into place, so a reader never sees a part of it. It is a hint that is
checked: a process in it counts only while exactly that process lives.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from cord_worker.errors import LocalServiceError
from cord_worker.local.processes import ProcessId

LOCK_TIMEOUT_SECONDS = 180
_MARKER = "services.json"
_LOCK = "lock"


@dataclass(frozen=True, slots=True)
class Server:
    """A running embedded server; `started_at` is Unix time in seconds."""

    url: str
    process: ProcessId
    started_at: float


@dataclass(frozen=True, slots=True)
class Owner:
    """A process that needs the servers; `token` distinguishes several owners in one process."""

    process: ProcessId
    token: str


@dataclass(frozen=True, slots=True)
class Worker:
    """A supervised process as the background daemon last saw it; `state` as in `supervisor.State`."""

    name: str
    state: str
    pid: int | None
    restarts: int
    error: str | None


@dataclass(frozen=True, slots=True)
class Services:
    """The content of `services.json`."""

    postgres: Server | None = None
    redis: Server | None = None
    owners: tuple[Owner, ...] = ()
    watchdog: ProcessId | None = None
    daemon: ProcessId | None = None
    workers: tuple[Worker, ...] = ()

    def living_owners(self) -> tuple[Owner, ...]:
        """The owners whose processes still run."""
        return tuple(owner for owner in self.owners if owner.process.is_alive())

    def living_daemon(self) -> ProcessId | None:
        """The background daemon, if it runs."""
        return self.daemon if self.daemon is not None and self.daemon.is_alive() else None


@dataclass(frozen=True, slots=True)
class StateDir:
    """A state folder that exists, belongs to this user and is private."""

    path: Path
    _lock: FileLock = field(repr=False, compare=False)

    @classmethod
    def open(cls, path: Path | None = None) -> StateDir:
        """The state folder, made if missing: `path`, else `$CORD_STATE_DIR`, else `.cord` in the working folder.

        Raises:
            LocalServiceError: it cannot be made, belongs to another user, or is an unrelated folder open to others.
        """
        folder = Path(path or os.environ.get("CORD_STATE_DIR") or ".cord").expanduser().absolute()
        _check_name(folder)
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder = folder.resolve()
            _make_private(folder)
            (folder / "logs").mkdir(mode=0o700, exist_ok=True)
            if not (folder / ".gitignore").exists():
                (folder / ".gitignore").write_text("*\n", encoding="ascii")
        except OSError as error:
            raise LocalServiceError(_unusable(folder, error)) from error
        # A singleton lock is re-entrant within a thread; it still keeps threads and processes apart.
        return cls(folder, FileLock(str(folder / _LOCK), mode=0o600, is_singleton=True))

    @property
    def logs(self) -> Path:
        """The folder of log files."""
        return self.path / "logs"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the folder's lock: starts, stops and every change of `services.json` happen under it.

        Raises:
            LocalServiceError: another process held it for `LOCK_TIMEOUT_SECONDS`.
        """
        try:
            self._lock.acquire(timeout=LOCK_TIMEOUT_SECONDS)
        except Timeout as error:
            raise LocalServiceError(
                f"Another cordctl has been starting or stopping the services of {self.path} for "
                f"{LOCK_TIMEOUT_SECONDS} s. Wait for it or end it, then try again."
            ) from error
        try:
            yield
        finally:
            self._lock.release()

    def read(self) -> Services:
        """The record; empty if there is none, or if the file cannot be understood."""
        try:
            return _parse(json.loads((self.path / _MARKER).read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return Services()

    def has_record(self) -> bool:
        """True if `services.json` exists; it exists from the first start until the folder is deleted."""
        return (self.path / _MARKER).exists()

    def write(self, services: Services) -> None:
        """Replaces `services.json` in one step; call it under `locked()`."""
        write_atomically(self.path / _MARKER, json.dumps(asdict(services), indent=2) + "\n")

    def update(self, **changes: Any) -> Services:
        """Changes some fields of `services.json` under the lock; returns the new record."""
        with self.locked():
            services = replace(self.read(), **changes)
            self.write(services)
            return services


def check_usable(path: Path) -> None:
    """Raises LocalServiceError if `StateDir.open` would, as far as that is visible without making the folder."""
    folder = path.expanduser().absolute()
    _check_name(folder)
    try:
        if folder.is_dir():
            folder = folder.resolve()
            _check_owner(folder, folder.stat())
        elif os.path.lexists(folder):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        while not folder.exists():
            folder = folder.parent
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\0")
    except OSError as error:
        raise LocalServiceError(_unusable(path, error)) from error


def _check_name(folder: Path) -> None:
    """Raises LocalServiceError unless the path is printable: the servers' settings hold it, one setting a line."""
    try:
        printable = str(folder).encode("utf-8").decode().isprintable()
    except UnicodeEncodeError:
        printable = False
    if not printable:
        raise LocalServiceError(
            f"The state folder {str(folder)!r} cannot be used: its path holds a line break, another control character "
            "or bytes that are not UTF-8. Set CORD_STATE_DIR to another one."
        )


def _unusable(folder: Path, error: OSError) -> str:
    why = error.strerror or type(error).__name__
    if error.errno == errno.EEXIST:
        # Something other than a folder is there: a file, a link to nowhere, a link to itself.
        why = "it is a link that leads nowhere" if folder.is_symlink() else "it is a file"
    elif error.errno == errno.ENOTDIR:
        why = "a part of its path is a file"
    elif error.errno in {errno.ENOSPC, errno.EDQUOT}:
        why = f"its disk is full ({why})"
    return f"The state folder {folder} cannot be used: {why}. Set CORD_STATE_DIR to another folder that is yours."


def write_atomically(path: Path, text: str, uid: int | None = None) -> None:
    """Writes a 0600 file whole or not at all, replacing a file of that name; `uid` gives it another owner."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            if uid is not None and uid != os.geteuid():
                os.fchown(file.fileno(), uid, -1)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _make_private(folder: Path) -> None:
    facts = folder.stat()
    _check_owner(folder, facts)
    if not stat.S_IMODE(facts.st_mode) & 0o077:
        return
    names = {entry.name for entry in folder.iterdir()}
    if names and not names & {_MARKER, _LOCK}:
        raise LocalServiceError(
            f"{folder} holds other files and is open to other users, so it is not used as a state folder. Set "
            "CORD_STATE_DIR to a folder that does not exist yet."
        )
    folder.chmod(0o700)


def _check_owner(folder: Path, facts: os.stat_result) -> None:
    if facts.st_uid != os.geteuid():
        raise LocalServiceError(
            f"The state folder {folder} belongs to user {facts.st_uid}, not to you (user {os.geteuid()}). Run as that "
            "user, or set CORD_STATE_DIR to your own folder."
        )


def _parse(data: dict[str, Any]) -> Services:
    return Services(
        postgres=_server(data["postgres"]),
        redis=_server(data["redis"]),
        owners=tuple(Owner(ProcessId(**owner["process"]), owner["token"]) for owner in data["owners"]),
        watchdog=_process(data["watchdog"]),
        daemon=_process(data["daemon"]),
        workers=tuple(Worker(**worker) for worker in data["workers"]),
    )


def _server(data: dict[str, Any] | None) -> Server | None:
    return None if data is None else Server(data["url"], ProcessId(**data["process"]), data["started_at"])


def _process(data: dict[str, Any] | None) -> ProcessId | None:
    return None if data is None else ProcessId(**data)
