"""A private PgBouncer before a PostgreSQL, which may be killed and restarted."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Self

import sqlalchemy as sa

from cord_worker.local import privilege
from cord_worker.store.unreachable import Target

_START_SECONDS = 30.0
_SUPERUSER_PATHS = os.pathsep.join(("/usr/sbin", "/usr/local/sbin", os.environ.get("PATH", "")))


def pgbouncer_program() -> str | None:
    """Path of PgBouncer, where it is installed."""
    return shutil.which("pgbouncer", path=_SUPERUSER_PATHS)


class PgBouncer:
    """PgBouncer in `mode` (session, transaction or statement) before the server of `database_url`.

    It listens on 127.0.0.1 and trusts every client; `settings` are added to its own.
    """

    def __init__(self, database_url: str, mode: str, **settings: str | int) -> None:
        program = pgbouncer_program()
        if program is None:
            raise RuntimeError("pgbouncer is not installed (Debian: apt-get install pgbouncer)")
        self._program = program
        self._server = sa.make_url(database_url)
        self._mode = mode
        self._settings = settings
        self._folder = Path(tempfile.mkdtemp(prefix="cord-pgbouncer-"))
        with closing(socket.socket()) as free:
            free.bind(("127.0.0.1", 0))
            self._port: int = free.getsockname()[1]
        # Like PostgreSQL it refuses to run as root; as this user it can reach an embedded server's socket.
        self._run_as = privilege.choose()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The database through this PgBouncer."""
        url = self._server.set(host="127.0.0.1", port=self._port, query={}, password=None)
        return url.render_as_string(hide_password=False)

    def __enter__(self) -> Self:
        target = Target.of(self._server)
        facts = {
            "listen_addr": "127.0.0.1",
            "listen_port": self._port,
            "unix_socket_dir": "",
            "auth_type": "any",
            "pool_mode": self._mode,
            "default_pool_size": 60,
            "max_client_conn": 500,
            "server_login_retry": 1,
            "logfile": self._folder / "log",
            **self._settings,
        }
        lines = [
            "[databases]",
            f"* = host={target.host} port={target.port} user={target.role}",
            "[pgbouncer]",
            *(f"{name} = {value}" for name, value in facts.items()),
        ]
        (self._folder / "pgbouncer.ini").write_text("\n".join(lines) + "\n", encoding="utf-8")
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def start(self) -> None:
        """Starts it; returns once it takes connections."""
        other = self._run_as.strategy == "user"
        if other:
            for path in (self._folder, *self._folder.iterdir()):
                shutil.chown(path, self._run_as.uid)
        prefix = list(privilege._NAMESPACE) if self._run_as.strategy == "namespace" else []
        self._process = subprocess.Popen(
            [*prefix, self._program, "-q", str(self._folder / "pgbouncer.ini")],
            user=self._run_as.uid if other else None,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", self._port), timeout=1.0).close()
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"pgbouncer did not start: {self.log()}") from None
                time.sleep(0.02)
            else:
                return

    def stop(self, number: int = signal.SIGKILL) -> None:
        """Ends it and its clients' connections."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(_START_SECONDS)
            self._process = None

    def log(self) -> str:
        """The end of its log."""
        path = self._folder / "log"
        return path.read_text(encoding="utf-8", errors="replace")[-2000:] if path.exists() else "no log"
