"""Two PostgreSQL servers, a primary and its standby, and an address that leads to either of them."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg

_FOLDERS = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
_SECONDS = 60.0


def has_postgres_programs() -> bool:
    """Whether PostgreSQL's programs for further servers are installed."""
    return bool(_FOLDERS) and (os.geteuid() != 0 or shutil.which("runuser") is not None)


def free_port() -> int:
    """A port of 127.0.0.1 without a listener."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@dataclass(frozen=True, slots=True)
class TwoPostgres:
    """Ports of the primary and of the standby, both on 127.0.0.1, with a superuser `postgres`."""

    home: Path
    primary: int
    standby: int

    def execute(self, port: int, *statements: str) -> list[tuple[object, ...]]:
        """Rows of the last statement."""
        with psycopg.connect(host="127.0.0.1", port=port, user="postgres", dbname="postgres", autocommit=True) as one:
            cursors = [one.execute(statement.encode()) for statement in statements]
            return cursors[-1].fetchall() if cursors[-1].description else []

    def fail_over(self) -> None:
        """Waits until the standby has everything and makes it the primary; the old one stays and takes no writes."""
        self.execute(self.primary, "ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()")
        _wait(lambda: self.execute(self.primary, "SHOW default_transaction_read_only") == [("on",)])
        behind = "SELECT replay_lsn = pg_current_wal_lsn() FROM pg_stat_replication"
        _wait(lambda: self.execute(self.primary, behind) == [(True,)])
        self.execute(self.standby, "SELECT pg_promote(true)")


@contextmanager
def two_postgres() -> Iterator[TwoPostgres]:
    """Both servers for the length of a `with`."""
    with ExitStack() as stack:
        home = Path(tempfile.mkdtemp(prefix="cord-two-"))
        stack.callback(shutil.rmtree, home, ignore_errors=True)
        if os.geteuid() == 0:
            shutil.chown(home, "postgres", "postgres")
        servers = TwoPostgres(home, free_port(), free_port())
        _run("initdb", "-D", f"{home}/primary", "-U", "postgres", "--auth=trust", "--no-sync")
        _start(home, "primary", servers.primary, stack)
        copying = ("-h", "127.0.0.1", "-p", str(servers.primary), "-U", "postgres", "-c", "fast", "--no-sync")
        _run("pg_basebackup", "-D", f"{home}/standby", "-R", *copying)
        _start(home, "standby", servers.standby, stack)
        yield servers


class Address:
    """A port that leads to a server and later to another one, like the name of a managed database.

    Open connections are kept.
    """

    def __init__(self, port: int) -> None:
        self.leads_to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self.leads_to))
                for source, target in ((client, server), (server, client)):
                    threading.Thread(target=_pass_on, args=(source, target), daemon=True).start()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while received := source.recv(65_536):
            target.sendall(received)
    for one in (source, target):
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


def _start(home: Path, name: str, port: int, stack: ExitStack) -> None:
    options = f"-p {port} -k {home} -c listen_addresses=127.0.0.1 -c fsync=off"
    control = ("pg_ctl", "-D", f"{home}/{name}", "-w")
    _run(*control, "-l", f"{home}/{name}.log", "-o", options, "start")
    stack.callback(_run, *control, "-m", "immediate", "stop")


def _run(program: str, *arguments: str) -> None:
    prefix = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    with tempfile.TemporaryFile("w+") as output:  # a server that stays would hold a pipe open
        command = [*prefix, str(_FOLDERS[-1] / program), *arguments]
        ended = subprocess.run(command, cwd="/", check=False, stdout=output, stderr=output)
        output.seek(0)
        if ended.returncode != 0:
            raise RuntimeError(f"{program}: {output.read()[-1000:]}")


def _wait(condition: object) -> None:
    assert callable(condition)
    deadline = time.monotonic() + _SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError("the servers do not agree")
        time.sleep(0.02)
