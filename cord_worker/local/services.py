"""Both embedded servers together, and the processes that still need them.

Servers live as long as a process that needs them: each caller of `ensure_started` is recorded as an *owner* in
`services.json`, by pid and start mark. `cordctl run` owns them while it runs; `cordctl up` starts a daemon that owns
them until `cordctl down`. So a `run` during an `up` leaves the servers running at its end, and a single `run` stops
them.

A killed owner cannot sign off. Therefore a watchdog process (`watchdog.py`), one for each state folder, looks every
second whether an owner still lives. If so it restarts servers that crashed; if not it stops them and ends. If the
watchdog is killed too, the servers stay until the next command on this state folder, which adopts them (and starts a
new watchdog) or stops them. Nothing else stays, except files: the data folder, the logs and `services.json`.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from cord_worker.errors import LocalServiceError
from cord_worker.local import processes
from cord_worker.local.postgres import EmbeddedPostgres
from cord_worker.local.processes import ProcessId
from cord_worker.local.redis import EmbeddedRedis
from cord_worker.local.state import Owner, Server, Services, StateDir


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where the embedded servers are: an SQLAlchemy URL and a Celery broker URL."""

    database_url: str
    broker_url: str


class LocalServices:
    """The embedded servers of one state folder, as one owner sees them."""

    def __init__(self, state_dir: Path | None = None, *, token: str | None = None) -> None:
        self.state = StateDir.open(state_dir)
        self.postgres = EmbeddedPostgres(self.state.path)
        self.redis = EmbeddedRedis(self.state.path)
        self._token = token or uuid.uuid4().hex

    def ensure_started(self) -> Endpoints:
        """Starts or adopts both servers and owns them from now on; calling it again changes nothing.

        Raises:
            LocalServiceError: a server could not be started.
        """
        with self.state.locked():
            recorded = self.state.read()
            me = Owner(processes.current(), self._token)
            owners = (*(owner for owner in recorded.living_owners() if owner != me), me)
            # Recorded and watched before the start: a process killed in between leaves no unwatched server behind.
            watchdog = recorded.watchdog
            if watchdog is None or not watchdog.is_alive():
                watchdog = _start_watchdog(self.state)
            self.state.write(replace(recorded, owners=owners, watchdog=watchdog))
            try:
                self.start_missing()
                return Endpoints(self.postgres.url, self.redis.url)
            except LocalServiceError:
                self.release()
                raise

    def start_missing(self) -> Services:
        """Starts the servers that do not run, whichever process owns them; returns the record. Call under the lock."""
        recorded = self.state.read()
        self.postgres.start()
        self.redis.start()
        services = replace(
            recorded,
            postgres=_server(recorded.postgres, self.postgres.url, self.postgres.process()),
            redis=_server(recorded.redis, self.redis.url, self.redis.process()),
        )
        if services != recorded:
            self.state.write(services)
        return services

    def are_running(self) -> bool:
        """True if both servers' processes live."""
        return self.postgres.is_running() and self.redis.is_running()

    def endpoints(self) -> Endpoints | None:
        """The servers' URLs if both run; starts nothing."""
        return Endpoints(self.postgres.url, self.redis.url) if self.are_running() else None

    def release(self) -> None:
        """Ends the ownership of this owner; stops the servers if no other owner lives."""
        with self.state.locked():
            recorded = self.state.read()
            me = Owner(processes.current(), self._token)
            owners = tuple(owner for owner in recorded.living_owners() if owner != me)
            self.state.write(replace(recorded, owners=owners))
            if not owners:
                self.stop()

    def stop(self) -> None:
        """Stops both servers, even if other processes own them; does nothing if none runs.

        Raises:
            LocalServiceError: a server could not be stopped.
        """
        with self.state.locked():
            self.redis.stop()
            self.postgres.stop()
            # The watchdog ends itself when it is no longer the recorded one.
            self.state.write(replace(self.state.read(), postgres=None, redis=None, owners=(), watchdog=None))


def ensure_started(state_dir: Path | None = None) -> Endpoints:
    """Starts or adopts the embedded servers; this process owns them until it ends or `release`s them."""
    return LocalServices(state_dir, token="process").ensure_started()


def release(state_dir: Path | None = None) -> None:
    """Undoes this process's `ensure_started`: the servers stop unless another process owns them."""
    LocalServices(state_dir, token="process").release()


def stop(state_dir: Path | None = None) -> None:
    """Stops the embedded servers, even if other processes own them; does nothing if none runs."""
    LocalServices(state_dir, token="process").stop()


@contextlib.contextmanager
def held(state_dir: Path | None = None) -> Iterator[Endpoints]:
    """The embedded servers for the length of a `with`: started or adopted, then stopped unless owned by others."""
    services = LocalServices(state_dir)
    try:
        yield services.ensure_started()
    finally:
        services.release()


def _server(before: Server | None, url: str, process: ProcessId | None) -> Server:
    if process is None:
        raise LocalServiceError(f"The embedded server at {url} ended right after it answered; look at its log.")
    if before is not None and before.process == process and before.url == url:
        return before
    return Server(url, process, time.time())


def _start_watchdog(state: StateDir) -> ProcessId:
    log = os.open(state.logs / "watchdog.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        answer = subprocess.run(
            [sys.executable, "-m", "cord_worker.local.watchdog", str(state.path)],
            env=processes.python_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            timeout=60,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise LocalServiceError(f"The watchdog of {state.path} did not start within 60 s; try again.") from error
    finally:
        os.close(log)
    process = processes.identify(int(answer.stdout)) if answer.stdout.strip().isdigit() else None
    if process is None:
        raise LocalServiceError(
            f"The watchdog of {state.path} did not start (exit {answer.returncode}). The end of its log:\n"
            f"{processes.tail(state.logs / 'watchdog.log')}"
        )
    return process
