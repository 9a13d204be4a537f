"""A database with hostile runs, and the server over it; tests only read."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from cord_worker.store.database import Database
from cord_worker.web.access import Access
from cord_worker.web.documents import Site
from cord_worker.web.server import serve_until
from cord_worker.web.view import site_of_server
from tests.support.web_runs import enqueue_hostile

RUN, OTHER = 'the <b>first</b> "run"', "second"


@dataclass(frozen=True)
class Got:
    """An answer of the server; headers by their names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Browser:
    """Asks the server on this port."""

    port: int

    def get(self, path: str, *, method: str = "GET", host: str | None = None, **headers: str) -> Got:
        """With these headers, by their names with underscores."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            connection.putheader("Host", f"127.0.0.1:{self.port}" if host is None else host)
            for name, value in headers.items():
                connection.putheader(name.replace("_", "-"), value)
            connection.endheaders()
            answer = connection.getresponse()
            return Got(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
        finally:
            connection.close()


@pytest.fixture(scope="package")
def hostile_url(migrated_database: Callable[[], AbstractContextManager[str]]) -> Iterator[str]:
    """Two runs of the same problems; the second one has a few that are not done."""
    with migrated_database() as url:
        database = Database(url)
        database.run(lambda connection: enqueue_hostile(connection, RUN))
        database.run(lambda connection: enqueue_hostile(connection, OTHER, shift=0.05, done=9))
        database.close()
        yield url


@pytest.fixture(scope="package")
def hostile(hostile_url: str) -> Iterator[Database]:
    """A pool on the database of the two runs."""
    database = Database(hostile_url)
    yield database
    database.close()


@contextmanager
def serving_runs(database: Database, access: Access, site: Site | None = None) -> Iterator[Browser]:
    """Serves the runs of the database for the length of a `with`, by default with a page that opens on the newest."""
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setblocking(False)
    page = site_of_server(database, None) if site is None else site
    ready = threading.Event()
    control: list[Callable[[], object]] = []

    async def main() -> None:
        end, loop = asyncio.Event(), asyncio.get_running_loop()
        control.append(lambda: loop.call_soon_threadsafe(end.set))
        ready.set()
        await serve_until(end, database, page, access, [listening])

    port = listening.getsockname()[1]
    thread = threading.Thread(target=lambda: asyncio.run(main()), daemon=True)
    thread.start()
    ready.wait()
    try:
        yield Browser(port)
    finally:
        control[0]()
        thread.join()


@pytest.fixture(scope="package")
def browser(hostile: Database) -> Iterator[Browser]:
    """Of a server on loopback."""
    with serving_runs(hostile, Access.of([], None)) as browser:
        yield browser
