"""A private PostgreSQL and Redis, which may be killed, paused, filled up and given a wrong clock."""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg
import redis

from cord_worker.local import privilege
from cord_worker.local.postgres import EmbeddedPostgres
from cord_worker.local.redis import EmbeddedRedis
from cord_worker.local.state import StateDir
from cord_worker.store.schema.migration import upgrade
from tests.chaos.model_server import ModelServer


def faketime_library() -> Path | None:
    """libfaketime of the package of that name, if it is installed and has a build for this machine."""
    found = find_spec("libfaketime")
    if found is None or found.origin is None:
        return None
    path = Path(found.origin).parent / "vendor" / "libfaketime" / "src" / "libfaketime.so.1"
    return path if path.exists() else None


_SHARED_MEMORY = Path("/dev/shm")
_OWN_NAME = "cord-chaos-shm"
_OWN_MIB = 512
_CLONE_NEWNS = 0x00020000
_WITHOUT_LIMITS = "-c statement_timeout=0 -c idle_session_timeout=0 -c lock_timeout=0"


def take_own_shared_memory() -> None:
    """This process and its children get a private /dev/shm, where possible: no other process sees it filled.

    For a process that has one thread only.
    """
    if os.geteuid() or shutil.which("mount") is None or not _SHARED_MEMORY.is_dir():
        return
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNS):
        return
    for options in (
        ["--make-rprivate", "/"],
        ["-t", "tmpfs", "-o", f"size={_OWN_MIB}m,mode=1777", _OWN_NAME, str(_SHARED_MEMORY)],
    ):
        if subprocess.run(["mount", *options], capture_output=True, check=False).returncode:
            return


def _has_own_shared_memory() -> bool:
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    on_it = [line.split()[0] for line in mounts if line.split()[1] == str(_SHARED_MEMORY)]
    return bool(on_it) and on_it[-1] == _OWN_NAME


class Administrator:
    """A session that begins again where another fault has ended it: what it says must be true if said twice."""

    def __init__(self, url: str, seconds: float = 60.0) -> None:
        self._url = url
        self._seconds = seconds
        self._session = self.connect()

    def connect(self) -> psycopg.Connection[Any]:
        """One more session, once the server is there."""
        deadline = time.monotonic() + self._seconds
        while True:
            try:
                return self.connect_once()
            except psycopg.OperationalError:  # it starts
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def connect_once(self) -> psycopg.Connection[Any]:
        """One more session. Raises psycopg.OperationalError if there is no room or no server."""
        return psycopg.connect(self._url, autocommit=True, options=_WITHOUT_LIMITS, application_name="administrator")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session.close()

    @property
    def server_version(self) -> int:
        """As PostgreSQL counts: 150004."""
        return self._session.info.server_version

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows of a statement, which is said again in a new session if this one was ended meanwhile."""
        deadline = time.monotonic() + self._seconds
        while True:
            try:
                cursor = self._session.execute(statement.encode(), parameters or None)
                return cursor.fetchall() if cursor.description is not None else []
            except psycopg.OperationalError:
                if not self._session.closed or time.monotonic() > deadline:
                    raise
            self._session = self.connect()


class Servers:
    """Both servers in their own folder, on a small disk if one can be mounted.

    `clock` is the offset of PostgreSQL's clock in seconds, if libfaketime is installed.
    """

    def __init__(self, disk_mib: int = 1536) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="cord-chaos-"))
        self._disk_mib = disk_mib
        self.has_disk = _mounted(self.folder, disk_mib)
        self.has_shared_memory = _has_own_shared_memory()
        self._state = StateDir.open(self.folder / "state")
        self.postgres = EmbeddedPostgres(self._state.path)
        self.redis = EmbeddedRedis(self._state.path)
        library = faketime_library()
        self.has_clock = library is not None
        self._clock = self.folder / "clock"
        self._environment: dict[str, str] = {}
        self.clock = 0.0
        self.model_server: ModelServer | None = None
        """Where one is started: the server of the models that are hosted elsewhere."""
        self._down = False
        if library is not None:
            self._environment = {
                "LD_PRELOAD": str(library),
                "FAKETIME_TIMESTAMP_FILE": str(self._clock),
                "FAKETIME_CACHE_DURATION": "1",
                "DONT_FAKE_MONOTONIC": "1",
                "NO_FAKE_STAT": "1",
            }

    def __enter__(self) -> Self:
        self.folder.chmod(0o755)
        self.set_clock(0)
        self.start_postgres()
        self.start_redis()
        with psycopg.connect(self.postgres.url.replace("+psycopg", ""), autocommit=True) as connection:
            for setting in ("max_wal_size = '128MB'", "min_wal_size = '64MB'", "max_connections = 200"):
                connection.execute(f"ALTER SYSTEM SET {setting}")
        self.stop_postgres(signal.SIGINT)
        self.start_postgres()
        upgrade(self.postgres.url)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._state.locked():
            self.redis.stop()
            self.postgres.stop()
        home = self.postgres.home
        if self.folder not in home.parents:
            shutil.rmtree(home, ignore_errors=True)
        if self.has_disk:
            subprocess.run(["umount", "-l", str(self.folder)], check=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    def start_postgres(self) -> None:
        """Starts PostgreSQL, under the clock of `set_clock`."""
        self._down = False
        plain = privilege._server_environment
        privilege._server_environment = lambda: {**plain(), **self._environment}
        try:
            with self._state.locked():
                self.postgres.start()
        finally:
            privilege._server_environment = plain

    def start_redis(self) -> None:
        """Starts Redis."""
        with self._state.locked():
            self.redis.start()

    def client(self) -> redis.Redis:
        """A client of Redis."""
        return redis.Redis(unix_socket_path=str(self.redis.socket_path))

    def signal_postgres(self, number: int, *, backends: bool = False) -> None:
        """Signals the postmaster, and its backends if asked to."""
        process = self.postgres.process()
        pids = self.postgres.processes() if backends else [process.pid] if process is not None else []
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def stop_postgres(self, number: int, seconds: float = 30.0) -> None:
        """Signals the postmaster and returns when it has ended."""
        self._down = True
        self.signal_postgres(number)
        deadline = time.monotonic() + seconds
        while self.postgres.is_running() and time.monotonic() < deadline:
            time.sleep(0.02)

    def signal_redis(self, number: int) -> None:
        """Signals Redis."""
        for pid in self.redis.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def await_redis_end(self, seconds: float = 30.0) -> None:
        """Returns when no server lives."""
        deadline = time.monotonic() + seconds
        while self.redis.is_running() and time.monotonic() < deadline:
            time.sleep(0.02)

    def set_clock(self, seconds: float) -> None:
        """Sets the error of PostgreSQL's clock from now on (read once a second)."""
        pending = self.folder / "clock.new"
        pending.write_text(f"{seconds:+.0f}\n", encoding="ascii")
        pending.chmod(0o644)
        pending.replace(self._clock)

    @contextlib.contextmanager
    def full_disk(self) -> Iterator[None]:
        """For the length of a `with`, the state folder has no room."""
        with _filled(self.folder, self._disk_mib):
            yield

    @contextlib.contextmanager
    def full_shared_memory(self) -> Iterator[None]:
        """For the length of a `with`, /dev/shm has no room; of `has_shared_memory` only."""
        with _filled(_SHARED_MEMORY, _OWN_MIB):
            yield

    @contextlib.contextmanager
    def parallel_reading(self) -> Iterator[None]:
        """For the length of a `with`, PostgreSQL prefers parallel workers, which need shared memory."""
        with self.administrator() as administrator:
            name = "debug_parallel_query" if administrator.server_version >= 160000 else "force_parallel_mode"
        self._set(f"{name} = on")
        try:
            yield
        finally:
            self._set(f"{name} = off")

    def lacks_shared_memory(self) -> bool:
        """Whether a parallel query fails because /dev/shm is full."""
        try:
            with self.administrator() as administrator:
                administrator.execute("SELECT count(*) FROM pg_class")
        except psycopg.errors.DiskFull:
            return True
        return False

    def administrator(self) -> Administrator:
        """A session of an administrator."""
        return Administrator(self.postgres.url.replace("+psycopg", ""))

    def _set(self, setting: str) -> None:
        with self.administrator() as administrator:
            administrator.execute(f"ALTER SYSTEM SET {setting}")
        self.signal_postgres(signal.SIGHUP)

    def heal(self) -> None:
        """Restarts servers that crashed, as the watchdog of a state folder does; not those that a test has stopped."""
        if not self._down and not self.postgres.is_running():
            self.start_postgres()

    def queues(self) -> list[bytes]:
        """Keys of the lists that hold messages."""
        with self.client() as client:
            return [key for key in client.keys("*") if client.type(key) == b"list"]

    def double(self) -> int:
        """Duplicates every waiting message; returns how many."""
        with self.client() as client:
            count = 0
            for key in self.queues():
                messages = client.lrange(key, 0, -1)
                self._put(client, key, messages)
                count += len(messages)
            return count

    def shuffle(self, chance: random.Random) -> int:
        """Shuffles the waiting messages; returns how many."""
        count = 0
        with self.client() as client:
            for key in self.queues():
                messages = self._take(client, key)
                chance.shuffle(messages)
                self._put(client, key, messages)
                count += len(messages)
        return count

    def delay(self, seconds: float) -> int:
        """Removes every waiting message, and puts it back after a while; returns how many."""
        with self.client() as client:
            held = {key: self._take(client, key) for key in self.queues()}
            time.sleep(seconds)
            for key, messages in held.items():
                self._put(client, key, messages)
        return sum(map(len, held.values()))

    def lose(self, chance: random.Random) -> int:
        """Deletes half of the waiting messages; returns how many."""
        count = 0
        with self.client() as client:
            for key in self.queues():
                taken = self._take(client, key)
                kept = [message for message in taken if chance.random() < 0.5]
                self._put(client, key, kept)
                count += len(taken) - len(kept)
        return count

    def _put(self, client: Any, key: bytes, messages: Sequence[bytes]) -> None:
        """Puts messages into a queue, unless another fault has changed the type of its key: then they are lost."""
        if messages:
            with contextlib.suppress(redis.ResponseError):
                client.rpush(key, *messages)

    def drop_connections(self, *, waiting: bool = True) -> int:
        """Closes every connection to Redis but this one; returns how many. Without `waiting`, those stay that wait for
        messages."""
        with self.client() as client:
            if waiting:
                return sum(int(client.client_kill_filter(_type=kind, skipme=True)) for kind in ("normal", "pubsub"))
            own = client.client_id()
            idle = [one for one in client.client_list() if not set("bP") & set(one["flags"]) and int(one["id"]) != own]
            return sum(int(client.client_kill_filter(_id=one["id"])) for one in idle)

    def _take(self, client: Any, key: bytes) -> list[bytes]:
        with client.pipeline(transaction=True) as together:
            together.lrange(key, 0, -1)
            together.delete(key)
            return list(together.execute()[0])


@contextlib.contextmanager
def _filled(mounted: Path, mib: int) -> Iterator[None]:
    """For the length of a `with`, a mounted memory disk of this size in MiB has no room."""
    for slack in range(4, 4096, 64):  # it grows meanwhile
        used = os.statvfs(mounted)
        kib = (used.f_blocks - used.f_bfree) * used.f_frsize // 1024
        if _resize(mounted, f"{kib + slack}k"):
            break
    try:
        yield
    finally:
        _resize(mounted, f"{mib}m")


def _resize(mounted: Path, size: str) -> bool:
    command = ["mount", "-o", f"remount,size={size}", str(mounted)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _mounted(folder: Path, mib: int) -> bool:
    if shutil.which("mount") is None or os.geteuid() != 0:
        return False
    options = f"size={mib}m,mode=0755"
    answer = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "cord-chaos", str(folder)], capture_output=True, check=False
    )
    return answer.returncode == 0


def stop_and_continue(pids: list[int], seconds: float) -> None:
    """SIGSTOP to all, SIGCONT after a while."""
    for number in (signal.SIGSTOP, signal.SIGCONT):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        if number == signal.SIGSTOP:
            time.sleep(seconds)
