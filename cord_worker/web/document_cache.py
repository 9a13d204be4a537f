"""The server's documents as bytes, kept in memory. The longer a document takes to read, the less often it is read."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gzip
import hashlib
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from cord_worker.store.database import Database
from cord_worker.web import document_requests
from cord_worker.web.document_requests import Request
from cord_worker.web.paths import encoded

_REST = 10.0
"""If reading a document took t seconds, it is not read again for `_REST` * t seconds. So the reads of one document take
less than a tenth of a connection's time, however slow its statements are."""
_SHORTEST_REST_SECONDS = 0.5
_LONG_SECONDS = 0.5
"""If reading a document took longer, the old one is still given while it is read again, so that only the first visitor
waits."""
_KEPT_BYTES = 64 << 20
_LEAST_COMPRESSED_BYTES = 1_000
"""A document of at least this size is also kept compressed."""
_RETRY_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class CachedDocument:
    """A document as bytes. `packed` is the body in gzip, None for a small one. `etag` is equal for equal documents. The
    first request after `stale_at` (of `time.monotonic`) makes the server read the document again. Until `outdated_at`,
    requests still get these bytes meanwhile; after it they wait for the new ones."""

    body: bytes
    packed: bytes | None
    etag: str
    stale_at: float
    outdated_at: float

    @property
    def size(self) -> int:
        """Bytes that the document takes in memory."""
        return len(self.body) + len(self.packed or b"")


class DocumentCache:
    """Reads documents in `threads`, for one event loop. Concurrent requests for a document share one read. Documents
    beyond `kept_bytes` are dropped, those first that nobody requested for the longest time; one is always kept."""

    def __init__(
        self, database: Database, threads: concurrent.futures.Executor, *, kept_bytes: int = _KEPT_BYTES
    ) -> None:
        self._database = database
        self._threads = threads
        self._kept_bytes = kept_bytes
        self._kept: OrderedDict[tuple[Any, ...], CachedDocument] = OrderedDict()
        self._reading: dict[tuple[Any, ...], asyncio.Future[CachedDocument]] = {}

    async def get(self, request: Request) -> CachedDocument:
        """The document. Raises DocumentMissing, BadParameter, and StoreError while the database is away."""
        known = self._kept.get(request.key)
        now = time.monotonic()
        if known is not None and now < known.stale_at:
            self._kept.move_to_end(request.key)
            return known
        reading = self._reading.get(request.key)
        if reading is None:
            loop = asyncio.get_running_loop()
            reading = loop.run_in_executor(self._threads, self._read, request)
            self._reading[request.key] = reading
            reading.add_done_callback(lambda future: self._keep(request, future))
        if known is not None and now < known.outdated_at:
            return known
        return await asyncio.shield(reading)

    def _keep(self, request: Request, reading: asyncio.Future[CachedDocument]) -> None:
        del self._reading[request.key]
        if reading.cancelled() or reading.exception() is not None:
            return
        self._kept.pop(request.key, None)
        self._kept[request.key] = reading.result()
        while len(self._kept) > 1 and sum(one.size for one in self._kept.values()) > self._kept_bytes:
            self._kept.popitem(last=False)

    def _read(self, request: Request) -> CachedDocument:
        begun = time.monotonic()
        body = self._database.run(
            lambda connection: encoded(document_requests.read_document(connection, request)),
            one_snapshot=True,
            retry_seconds=_RETRY_SECONDS,
        )
        packed = gzip.compress(body, 5, mtime=0) if len(body) >= _LEAST_COMPRESSED_BYTES else None
        ended = time.monotonic()
        rest = max(_SHORTEST_REST_SECONDS, _REST * (ended - begun))
        grace = rest if ended - begun > _LONG_SECONDS else 0.0
        return CachedDocument(body, packed, etag_of(body), ended + rest, ended + rest + grace)


def etag_of(body: bytes) -> str:
    """The ETag of these contents. It is weak, because it is the same for the compressed and the plain form."""
    return f'W/"{hashlib.sha256(body).hexdigest()[:32]}"'
