"""A firewall that drops every packet without a word: whoever waits for PostgreSQL behind it does not wait for ever."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest
import sqlalchemy as sa

from cord_worker.errors import StoreError
from cord_worker.store.database import Database

_CLONE_NEWNET = 0x40000000
_LOCK = 0x51
_ENDED_SECONDS = 25
"""10 without a packet, and three probes of 5 (`store.sessions`)."""
_CONNECT_SECONDS = 10


class Apart:
    """A thread with a network of its own, in which one port leads to a server outside, until it is silent."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._work: Future[Callable[[], Any]] = Future()
        self._done: Future[Any] = Future()
        self._server: Future[socket.socket] = Future()
        threading.Thread(target=self._live, daemon=True).start()
        self._listening = self._server.result()
        self.port = int(self._listening.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()  # from here: outside

    def do(self, work: Callable[[], Any]) -> Future[Any]:
        """Begins the one piece of work that is done inside."""
        self._work.set_result(work)
        return self._done

    def close(self) -> None:
        """Takes no more connections."""
        self._listening.close()

    def _live(self) -> None:
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.unshare(_CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "unshare")
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True, capture_output=True)
            self._server.set_result(socket.create_server(("127.0.0.1", 0)))
        except (OSError, subprocess.SubprocessError) as error:
            self._server.set_exception(error)
            return
        try:
            self._done.set_result(self._work.result()())
        except BaseException as error:
            self._done.set_exception(error)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                far = socket.create_connection(self._target)
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=(one, other), daemon=True).start()

    @staticmethod
    def _carry(one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(65_536):
                other.sendall(data)


def _go_silent() -> None:
    """Every packet of this thread's network is dropped from now on."""
    subprocess.run(["tc", "qdisc", "add", "dev", "lo", "root", "blackhole"], check=True, capture_output=True)


def test_a_connection_whose_packets_are_dropped_ends_in_half_a_minute(database: Database, database_url: str) -> None:
    url = sa.make_url(database_url)
    try:
        apart = Apart((url.host or "127.0.0.1", url.port or 5432))
    except (OSError, subprocess.SubprocessError) as error:
        pytest.skip(f"no network of its own can be made: {error}")
    inside = url.set(host="127.0.0.1", port=apart.port).render_as_string(hide_password=False)
    name = f"silence {os.getpid()}"

    def work() -> float:
        waiting = Database(inside, application_name=name)
        silent = 0.0

        def wait(connection: sa.Connection) -> None:
            nonlocal silent
            if not silent:
                connection.execute(sa.text("SELECT 1"))
                _go_silent()
                silent = time.monotonic()
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})

        try:
            with pytest.raises(StoreError, match="cannot be reached|does not answer|timeout|timed out"):
                waiting.run(wait, retry_seconds=0.0)
            return time.monotonic() - silent
        finally:
            waiting.close()

    took = apart.do(work).result(timeout=300)
    apart.close()
    assert took < 2 * (_ENDED_SECONDS + _CONNECT_SECONDS)
