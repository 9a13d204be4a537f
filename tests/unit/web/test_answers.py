"""Documents as answers: read once for all who ask, and no more often than they cost."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cord_worker.store.database import Database
from cord_worker.web import answers as answers_module
from cord_worker.web import library
from cord_worker.web.answers import Answer, Answers, etag_of
from cord_worker.web.library import DocumentMissing, Request


class Tables:
    """In place of a database: counts the reads, which wait until they may go on."""

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

    monkeypatch.setattr(library, "read_document", read)
    monkeypatch.setattr(answers_module, "_SHORTEST_REST_SECONDS", 1e6)
    return Tables()


def asked(tables: Tables, work: Callable[[Answers], Any], kept_bytes: int = 1 << 20) -> Any:
    """The result of the coroutine `work`."""
    with concurrent.futures.ThreadPoolExecutor(2) as threads:

        async def main() -> Any:
            return await work(Answers(cast(Database, tables), threads, kept_bytes=kept_bytes))

        return asyncio.run(main())


def test_a_document_that_several_ask_for_is_read_once(tables: Tables) -> None:
    async def ask(answers: Answers) -> list[Answer]:
        tables.open.clear()
        asking = [asyncio.ensure_future(answers.get(Request("a", {}))) for _ in range(5)]
        await asyncio.sleep(0)
        tables.open.set()
        return await asyncio.gather(*asking)

    found = asked(tables, ask)
    assert tables.reads == 1
    assert {one.etag for one in found} == {found[0].etag}


def test_a_document_is_read_again_once_it_is_stale(tables: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    async def ask(answers: Answers) -> Answer:
        await answers.get(Request("a", {"q": "1"}))
        await answers.get(Request("a", {"q": "1"}))
        assert tables.reads == 1
        await answers.get(Request("a", {"q": "2"}))
        assert tables.reads == 2
        monkeypatch.setattr(answers_module, "time", SimpleNamespace(monotonic=lambda: 1e12))
        return await answers.get(Request("a", {"q": "1"}))

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
    monkeypatch.setattr(answers_module, "_SHORTEST_REST_SECONDS", 0.5)
    monkeypatch.setattr(answers_module, "time", SimpleNamespace(monotonic=lambda: now))

    async def ask(answers: Answers) -> None:
        nonlocal now
        request = Request("a", {})
        first = await answers.get(request)
        tables.open.clear()
        try:
            now = first.stale_at
            again = asyncio.ensure_future(answers.get(request))
            await asyncio.wait([again], timeout=0.2 if waits else 60)
            assert again.done() is not waits
            now = first.outdated_at
            later = asyncio.ensure_future(answers.get(request))
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
    async def ask(answers: Answers) -> None:
        for _ in range(2):
            with pytest.raises(DocumentMissing):
                await answers.get(Request("missing", {}))

    asked(tables, ask)
    assert tables.reads == 2


def test_what_is_kept_is_bounded(tables: Tables) -> None:
    size = asked(tables, lambda answers: answers.get(Request("a", {}))).size

    async def ask(answers: Answers) -> None:
        for path in ("a", "b", "c", "b", "c", "a"):
            await answers.get(Request(path, {}))

    tables.reads = 0
    asked(tables, ask, kept_bytes=2 * size + 50)
    assert tables.reads == 4


def test_equal_documents_have_equal_tags() -> None:
    assert etag_of(b"a") == etag_of(b"a") != etag_of(b"b")
