"""A server of the web view's page with documents that a test makes, and a record of what the browser asked for."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cord_worker.web.documents import ComparisonDocument, ComparisonTable, ProblemList, ProblemTable, Site
from cord_worker.web.pages import APP_SCRIPT, APP_STYLE, SERVER_POLICY, App, page
from cord_worker.web.paths import encoded

SITE = Site(
    size="server",
    version="0",
    run=None,
    is_live=True,
    poll_seconds=0.05,
    has_prompts=True,
    has_comparisons=True,
    made_at=None,
    left_out=(),
    whole_problems=None,
)


@dataclass
class WebSite:
    """Documents by path, which a test may change while the browser looks. `asked`: all paths with their parameters."""

    site: Site = SITE
    documents: dict[str, Any] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    is_down: bool = False
    url: str = ""
    _bodies: dict[tuple[int, str], bytes] = field(default_factory=dict)
    _kept: list[Any] = field(default_factory=list)

    def body(self, path: str, query: str) -> bytes | None:
        """The document as JSON, or what the parameters choose of it; None if there is none."""
        document = self.documents.get(path)
        if document is None:
            return None
        key = (id(document), query)
        if key not in self._bodies:
            self._kept.append(document)  # so that its id is not used again
            self._bodies[key] = encoded(_chosen(document, {name: texts[0] for name, texts in parse_qs(query).items()}))
        return self._bodies[key]


def _chosen(document: Any, query: Mapping[str, str]) -> Any:
    if isinstance(document, ProblemList) and query:
        rows = document.rows
        text = query.get("q", "").lower()
        states = query.get("state", "").split(",") if query.get("state") else None
        right = {"right": 1.0, "wrong": 0.0}.get(query.get("correct", ""))
        kept = [
            place
            for place in range(len(rows.position))
            if (not text or text in rows.id[place].lower() or text in rows.question[place].lower())
            and (states is None or rows.state[place] in states)
            and (right is None or rows.correct[place] == right)
            and ("loser" not in query or rows.loser_repeats[place] is False)
        ]
        return _page(document, ProblemTable, kept, query, "position")
    if isinstance(document, ComparisonDocument) and query:
        table = document.rows
        wanted = {"both": (1.0, 1.0), "only_a": (1.0, 0.0), "only_b": (0.0, 1.0), "neither": (0.0, 0.0)}
        outcome = wanted.get(query.get("outcome", ""))
        kept = [
            place
            for place in range(len(table.id))
            if outcome is None or (table.correct_a[place], table.correct_b[place]) == outcome
        ]
        return _page(document, ComparisonTable, kept, query, "position_a")
    return document


def _page(document: Any, kind: Any, kept: list[int], query: Mapping[str, str], default: str) -> Any:
    column = getattr(document.rows, query.get("sort", default))
    known = sorted(
        (p for p in kept if column[p] is not None), key=lambda p: column[p], reverse=query.get("order") == "desc"
    )
    kept = [*known, *(p for p in kept if column[p] is None)]
    offset, limit = int(query.get("offset", 0)), int(query.get("limit", 500))
    places = kept[offset : offset + limit]
    rows = kind(**{one.name: [getattr(document.rows, one.name)[place] for place in places] for one in fields(kind)})
    return replace(document, matching=len(kept), offset=offset, rows=rows)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    web_site: WebSite

    def log_message(self, *_: object) -> None:
        """Nothing: the record is `asked`."""

    def do_GET(self) -> None:
        """The page, its files, or a document."""
        parts = urlsplit(self.path)
        path = parts.path.removeprefix("/")
        self.web_site.asked.append(self.path.removeprefix("/"))
        app = App.read()
        if path == "":
            self._answer(200, "text/html; charset=utf-8", page(self.web_site.site).encode())
        elif path == APP_SCRIPT:
            self._answer(200, "text/javascript; charset=utf-8", app.script)
        elif path == APP_STYLE:
            self._answer(200, "text/css; charset=utf-8", app.style)
        elif self.web_site.is_down:
            self._answer(503, "text/plain; charset=utf-8", b"The database does not answer at present.")
        else:
            body = self.web_site.body(path, parts.query)
            if body is None:
                self._answer(404, "text/plain; charset=utf-8", b"There is nothing at this address.")
            else:
                self._answer(200, "application/json; charset=utf-8", body)

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
        if status == 200 and self.headers.get("If-None-Match") == etag:
            status, body = 304, b""
        self.send_response(status)
        self.send_header("Content-Security-Policy", SERVER_POLICY)
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        if status in (200, 304):
            self.send_header("ETag", etag)
        if status != 304:
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def serving(web_site: WebSite) -> Iterator[WebSite]:
    """The site on a free port of loopback; its `url` is set."""
    handler = type("Handler", (_Handler,), {"web_site": web_site})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    web_site.url = f"http://127.0.0.1:{server.server_address[1]}/"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield web_site
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
