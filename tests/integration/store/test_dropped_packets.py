"""A firewall that silently drops every packet: a client of PostgreSQL behind it does not wait forever."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import pytest
import sqlalchemy as sa

from cord_worker.errors import StoreError
from cord_worker.store.database import Database

T = TypeVar("T")

_CLONE_NEWNET = 0x40000000
_LOCK = 0x51
_ENDED_SECONDS = 30
"""10 s without a packet and three probes of 5 s each, or 30 s without an acknowledgement (`store.session_settings`)."""
_CONNECT_SECONDS = 10


class SeparateNetwork:
    """A thread with its own network, in which one port leads to a server outside until it drops every packet."""

    def __init__(self, server: sa.URL) -> None:
        self._server = server
        self._inside = ThreadPoolExecutor(1)
        self._listening = self._inside.submit(self._listen).result()
        self.port = int(self._listening.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()  # a child of this thread, so outside of the network

    def do(self, work: Callable[[], T]) -> Future[T]:
        """Calls the function inside the network."""
        return self._inside.submit(work)

    def close(self) -> None:
        """Takes no more connections."""
        self._listening.close()
        self._inside.shutdown(wait=False)

    @staticmethod
    def _listen() -> socket.socket:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(_CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "unshare")
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True, capture_output=True)
        return socket.create_server(("127.0.0.1", 0))

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                far = self._connected()
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=(one, other), daemon=True).start()

    def _connected(self) -> socket.socket:
        folder, port = self._server.query.get("host"), self._server.port or 5432
        if folder is None:
            return socket.create_connection((self._server.host or "127.0.0.1", port))
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(f"{folder}/.s.PGSQL.{port}")
        return connection

    @staticmethod
    def _carry(one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(65_536):
                other.sendall(data)


@pytest.mark.long
@pytest.mark.parametrize("is_waiting", [True, False], ids=["waits for a reply", "asks"])
def test_a_connection_whose_packets_are_dropped_ends_in_half_a_minute(
    database: Database, database_url: str, *, is_waiting: bool
) -> None:
    """While it waits for a reply it sends only probes; a request that it sends is not acknowledged."""
    url = sa.make_url(database_url)
    try:
        apart = SeparateNetwork(url)
    except (OSError, subprocess.SubprocessError) as error:
        pytest.skip(f"no separate network can be made: {error}")
    inside = url.difference_update_query(["host"]).set(host="127.0.0.1", port=apart.port)
    name = f"silence {os.getpid()}"
    firewall: Future[subprocess.Popen[bytes]] = Future()
    silent: list[float] = []

    def go_silent() -> None:
        process = firewall.result()
        process.communicate(b"now\n")
        assert process.returncode == 0
        silent.append(time.monotonic())

    def ask(connection: sa.Connection) -> None:
        if not silent:
            connection.execute(sa.text("SELECT 1"))
            if not is_waiting:
                go_silent()
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})

    def work() -> float:
        firewall.set_result(subprocess.Popen(_FIREWALL, stdin=subprocess.PIPE))
        asking = Database(inside.render_as_string(hide_password=False), application_name=name)
        try:
            asking.run(ask, retry_seconds=0.0)
        except StoreError:
            return time.monotonic() - silent[0]
        finally:
            asking.close()
        raise AssertionError("an answer came through the firewall")

    with database.transaction() as holder:
        holder.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        done = apart.do(work)
        if is_waiting:
            deadline = time.monotonic() + 60
            while not database.run(lambda connection: connection.execute(sa.text(_WAITS), {"name": name}).scalar_one()):
                assert time.monotonic() < deadline
                time.sleep(0.05)
            go_silent()
        took = done.result(timeout=300)
    apart.close()
    assert took < 2 * (_ENDED_SECONDS + _CONNECT_SECONDS)


_FIREWALL = ("sh", "-c", "read word && exec tc qdisc add dev lo root blackhole")
"""A program that drops every packet of its network once it is told to."""
_WAITS = """
    SELECT count(*) FROM pg_stat_activity WHERE application_name = :name AND wait_event_type = 'Lock'
"""
