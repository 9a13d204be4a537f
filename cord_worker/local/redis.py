"""One embedded Redis-compatible server: starts, adopts and stops it, and cleans up after it.

It keeps nothing on disk: PostgreSQL is the truth and Redis carries hints only, so an empty one after a restart loses
nothing. It listens only on a unix socket in a private folder. It has its own session, so that Ctrl-C in the terminal
does not end it before the workers.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from urllib.parse import quote

from cord_worker.errors import LocalServiceError
from cord_worker.local import limits, processes
from cord_worker.local.binaries import REDIS_PROGRAMS, find_redis
from cord_worker.local.processes import ProcessId
from cord_worker.local.sockets import socket_dir
from cord_worker.local.state import write_atomically

_START_SECONDS = 20.0
_STOP_STEPS = ((signal.SIGTERM, 10.0), (signal.SIGKILL, 5.0))
_SETTINGS = """\
# Written by cord_worker at every start.
port 0
unixsocketperm 700
daemonize yes
save ""
appendonly no
maxmemory-policy noeviction
"""


class EmbeddedRedis:
    """The Redis-compatible server of one state folder. Start and stop under the state folder's lock."""

    def __init__(self, state_dir: Path) -> None:
        self._state = Path(state_dir).resolve()
        self.home = self._state / "redis"

    @property
    def log_path(self) -> Path:
        """The server's log."""
        return self.home / "redis.log"

    @property
    def socket_path(self) -> Path:
        """The server's socket, as recorded at its last start.

        Raises:
            LocalServiceError: it was never started.
        """
        try:
            return Path((self.home / "socket").read_text(encoding="utf-8").rstrip("\n"))
        except FileNotFoundError as error:
            raise LocalServiceError(f"The embedded Redis of {self._state} does not run; start it first.") from error

    @property
    def url(self) -> str:
        """Broker URL for Celery; add `?virtual_host=N` to choose another database than 0."""
        return f"redis+socket://{quote(str(self.socket_path), safe='/')}"

    def process(self) -> ProcessId | None:
        """The server of exactly this folder, or None; a reused pid is not mistaken for it."""
        try:
            pid = int((self.home / "redis.pid").read_text(encoding="ascii"))
        except (OSError, ValueError):
            return None
        return processes.identify(pid) if processes.works_in(pid, self.home, REDIS_PROGRAMS) else None

    def processes(self) -> list[int]:
        """Pids of every server that works in this folder, even if the folder was deleted."""
        return processes.all_in(self.home, REDIS_PROGRAMS)

    def is_running(self) -> bool:
        """True when this folder's server lives."""
        return self.process() is not None

    def start(self) -> None:
        """Starts the server, or adopts the running one; returns once it answers.

        Raises:
            LocalServiceError: no usable binary, or it did not come up; the message holds the end of its log.
        """
        if not self.is_running():
            self.home.mkdir(mode=0o700, exist_ok=True)
            self._clean_up()
            self._launch()
        self._wait_until_ready()

    def stop(self) -> None:
        """Stops the server; does nothing if there is none.

        Raises:
            LocalServiceError: it cannot be ended.
        """
        if self.home.exists():
            process = self.process()
            if process is not None:
                processes.terminate([process.pid], _STOP_STEPS)
            self._clean_up()

    def _launch(self) -> None:
        program = find_redis().path
        path = socket_dir(self._state, os.geteuid()) / "redis.sock"
        path.unlink(missing_ok=True)
        places = {"dir": self.home, "pidfile": self.home / "redis.pid", "logfile": self.log_path, "unixsocket": path}
        lines = "".join(f'{name} "{_escaped(place)}"\n' for name, place in places.items())
        configuration = _SETTINGS + lines
        write_atomically(self.home / "redis.conf", configuration)  # for people to read
        write_atomically(self.home / "socket", f"{path}\n")
        try:
            # Redis gets its settings on stdin: it reads a file's name as a pattern, and the path may hold wildcards.
            result = subprocess.run(
                [str(program), "-"],
                cwd=self.home,
                input=configuration,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=_START_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise LocalServiceError(f"The embedded Redis server {program} could not be run: {error}.") from error
        if result.returncode != 0:
            words = f"{result.stdout.strip()}\n{processes.tail(self.log_path)}"
            limit = limits.limit_named_in(words)
            raise LocalServiceError(
                f"The embedded Redis of {self._state} did not start: "
                + (f"{limit}." if limit is not None else f"exit {result.returncode}: {words.strip()[-1000:]}")
            )

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if _answers(self.socket_path):
                return
            time.sleep(0.02)
        raise LocalServiceError(
            f"The embedded Redis of {self._state} does not answer. The end of {self.log_path}:\n"
            f"{processes.tail(self.log_path)}"
        )

    def _clean_up(self) -> None:
        """Ends servers of this folder that lost their pid file, and removes stale files."""
        left = processes.terminate(self.processes(), _STOP_STEPS)
        if left:
            raise LocalServiceError(
                f"The Redis server (pid {left}) of {self._state} cannot be ended. End it (kill -9), then try again."
            )
        (self.home / "redis.pid").unlink(missing_ok=True)


def _answers(path: Path) -> bool:
    # One command needs no client library.
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(5)
            connection.connect(str(path))
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False


def _escaped(path: Path) -> str:
    return str(path).replace("\\", "\\\\").replace('"', '\\"')
