"""The server's documents: read once for concurrent requests, and the less often, the longer reading takes."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cord_worker.store.database import Database
from cord_worker.web import document_cache, document_requests
from cord_worker.web.document_cache import CachedDocument, DocumentCache, etag_of
from cord_worker.web.document_requests import DocumentMissing, Request


class Tables:
    """Stands for a database: counts the reads, and lets them continue only while `open` is set."""

    def __init__(self) -> None:
        self.reads = 0
        self.open = threading.Event()
        self.open.set()

    def run(self, work: Callable[[Any], Any], **_: object) -> Any:
        self.reads += 1
        self.open.wait()
        return work(None)


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> Tables:
    def read(_: object, request: Request) -> object:
        if request.path == "missing":
            raise DocumentMissing("no")
        return {"path": request.path, "text": "a" * 2_000}

    monkeypatch.setattr(document_requests, "read_document", read)
    monkeypatch.setattr(document_cache, "_SHORTEST_REST_SECONDS", 1e6)
    return Tables()


def asked(tables: Tables, work: Callable[[DocumentCache], Any], kept_bytes: int = 1 << 20) -> Any:
    """The result of the coroutine `work`."""
    with concurrent.futures.ThreadPoolExecutor(2) as threads:

        async def main() -> Any:
            return await work(DocumentCache(cast(Database, tables), threads, kept_bytes=kept_bytes))

        return asyncio.run(main())


def test_a_document_that_several_ask_for_is_read_once(tables: Tables) -> None:
    async def ask(documents: DocumentCache) -> list[CachedDocument]:
        tables.open.clear()
        asking = [asyncio.ensure_future(documents.get(Request("a", {}))) for _ in range(5)]
        await asyncio.sleep(0)
        tables.open.set()
        return await asyncio.gather(*asking)

    found = asked(tables, ask)
    assert tables.reads == 1
    assert {one.etag for one in found} == {found[0].etag}


def test_a_document_is_read_again_once_it_is_stale(tables: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    async def ask(documents: DocumentCache) -> CachedDocument:
        await documents.get(Request("a", {"q": "1"}))
        await documents.get(Request("a", {"q": "1"}))
        assert tables.reads == 1
        await documents.get(Request("a", {"q": "2"}))
        assert tables.reads == 2
        monkeypatch.setattr(document_cache, "time", SimpleNamespace(monotonic=lambda: 1e12))
        return await documents.get(Request("a", {"q": "1"}))

    asked(tables, ask)
    assert tables.reads == 3


@pytest.mark.parametrize(("seconds", "waits"), [(2.0, False), (0.1, True)])
def test_a_long_document_is_given_once_more_while_it_is_read_again(
    tables: Tables, monkeypatch: pytest.MonkeyPatch, seconds: float, waits: bool
) -> None:
    now = 100.0
    reads = Tables.run

    def run(self: Tables, work: Callable[[Any], Any], **options: object) -> Any:
        nonlocal now
        found = reads(self, work, **options)
        now += seconds
        return found

    monkeypatch.setattr(Tables, "run", run)
    monkeypatch.setattr(document_cache, "_SHORTEST_REST_SECONDS", 0.5)
    monkeypatch.setattr(document_cache, "time", SimpleNamespace(monotonic=lambda: now))

    async def ask(documents: DocumentCache) -> None:
        nonlocal now
        request = Request("a", {})
        first = await documents.get(request)
        tables.open.clear()
        try:
            now = first.stale_at
            again = asyncio.ensure_future(documents.get(request))
            await asyncio.wait([again], timeout=0.2 if waits else 60)
            assert again.done() is not waits
            now = first.outdated_at
            later = asyncio.ensure_future(documents.get(request))
            await asyncio.wait([later], timeout=0.2)
            assert not later.done()
        finally:
            tables.open.set()
        second = await later
        assert second is not first
        assert (await again) is (second if waits else first)

    asked(tables, ask)
    assert tables.reads == 2


def test_an_error_is_not_kept(tables: Tables) -> None:
    async def ask(documents: DocumentCache) -> None:
        for _ in range(2):
            with pytest.raises(DocumentMissing):
                await documents.get(Request("missing", {}))

    asked(tables, ask)
    assert tables.reads == 2


def test_the_bytes_of_kept_documents_are_bounded(tables: Tables) -> None:
    size = asked(tables, lambda documents: documents.get(Request("a", {}))).size

    async def ask(documents: DocumentCache) -> None:
        for path in ("a", "b", "c", "b", "c", "a"):
            await documents.get(Request(path, {}))

    tables.reads = 0
    asked(tables, ask, kept_bytes=2 * size + 50)
    assert tables.reads == 4


def test_equal_documents_have_equal_tags() -> None:
    assert etag_of(b"a") == etag_of(b"a") != etag_of(b"b")
