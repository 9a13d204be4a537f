"""`cordctl view`: an HTTP server over the database. It answers GET only, and changes nothing."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gzip
import logging
import os
import signal
import socket
from collections.abc import Callable, Mapping
from typing import Any, ClassVar
from urllib.parse import urlencode

import tornado.httpserver
import tornado.netutil
import tornado.web

from cord_worker.errors import ConfigError, StoreError
from cord_worker.store.database import Database
from cord_worker.web.access import COOKIE, Access, NotAllowed
from cord_worker.web.document_cache import DocumentCache, etag_of
from cord_worker.web.document_requests import BadParameter, DocumentMissing, Request
from cord_worker.web.documents import Site
from cord_worker.web.pages import APP_SCRIPT, APP_STYLE, SERVER_POLICY, App, page

logger = logging.getLogger(__name__)

THREADS = 3
"""How many documents are read concurrently."""
_TOKEN = "token"
_HEADER_BYTES = 16 << 10
_IDLE_SECONDS = 120.0

_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": SERVER_POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}


class _Handler(tornado.web.RequestHandler):
    """Checks every request before it is answered. Errors are answered as plain text."""

    SUPPORTED_METHODS = ("GET",)
    is_page: ClassVar[bool] = False
    needs_token: ClassVar[bool] = True

    def set_default_headers(self) -> None:
        self.clear_header("Server")
        for name, value in _HEADERS.items():
            self.set_header(name, value)

    def prepare(self) -> None:
        access: Access = self.settings["access"]
        access.check_source(self.request.headers, is_page=self.is_page)
        if self.needs_token:
            access.check_token(self.request.headers)

    def log_exception(self, kind: Any, error: Any, trace: Any) -> None:
        # Tornado's own line is not written: it holds the whole address, which may include the token.
        if not isinstance(error, NotAllowed | DocumentMissing | BadParameter | StoreError | tornado.web.HTTPError):
            logger.error("GET %s failed", self.request.path, exc_info=(kind, error, trace))

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        error = kwargs.get("exc_info", (None, None, None))[1]
        status, message = _error_reply(error, status_code)
        self.clear()
        self.set_status(status)
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        if status == 401:
            self.set_header("WWW-Authenticate", "Bearer")
        if status == 405:
            self.set_header("Allow", "GET")
        self.finish(message + "\n")

    def answer(self, kind: str, body: bytes, etag: str) -> None:
        """Sends the body, or the status 304 if the browser has it already."""
        self.set_header("Content-Type", kind)
        self.set_header("ETag", etag)
        if self.check_etag_header():
            self.set_status(304)
            self.clear_header("Content-Type")
            self.finish()
            return
        self.finish(body)

    def compute_etag(self) -> str | None:
        return None  # `answer` sets the ETag

    def takes_gzip(self) -> bool:
        self.set_header("Vary", "Accept-Encoding")
        return "gzip" in self.request.headers.get("Accept-Encoding", "")


def _error_reply(error: object, status: int) -> tuple[int, str]:
    """Status and text of the reply to an error; the text repeats nothing secret."""
    if isinstance(error, NotAllowed):
        return error.status, str(error)
    if isinstance(error, DocumentMissing):
        return 404, str(error)
    if isinstance(error, BadParameter):
        return 400, str(error)
    if isinstance(error, StoreError):
        return 503, "The database does not answer at present. The page asks again."
    if status == 405:
        return 405, "This server only answers GET."
    if status == 404:
        return 404, "There is nothing at this address."
    if 400 <= status < 500:
        return status, "This request is malformed."
    return 500, "The server failed at this request. The error is in the log of cordctl view."


class _Page(_Handler):
    is_page = True
    needs_token = False

    def get(self) -> None:
        access: Access = self.settings["access"]
        given = self.get_query_arguments(_TOKEN)
        if access.token is not None and given:
            if not access.is_token(given[-1]):
                raise NotAllowed(401, "This is not the token of this server.")
            self.set_header("Set-Cookie", f"{COOKIE}={access.cookie}; Path=/; HttpOnly; SameSite=Strict")
            self.set_header("Location", "/")  # without the token, so that it does not stay in the browser's history
            self.set_status(303)
            self.finish()
            return
        access.check_token(self.request.headers)
        body: bytes = self.settings["page"]
        self.answer("text/html; charset=utf-8", body, etag_of(body))


class _File(_Handler):
    needs_token = False  # public code, the same for everybody

    def get(self, name: str) -> None:
        body, packed, kind = self.settings["files"][name]
        if self.takes_gzip():
            self.set_header("Content-Encoding", "gzip")
            body = packed
        self.set_header("Cache-Control", "no-cache")
        self.answer(kind, body, etag_of(body))


class _Document(_Handler):
    async def get(self) -> None:
        documents: DocumentCache = self.settings["documents"]
        found = await documents.get(self._request())
        body = found.body
        if found.packed is not None and self.takes_gzip():
            self.set_header("Content-Encoding", "gzip")
            body = found.packed
        self.answer("application/json; charset=utf-8", body, found.etag)

    def _request(self) -> Request:
        parameters = {}
        for name, values in self.request.query_arguments.items():
            if len(values) > 1:
                raise BadParameter("a parameter may be given once")
            try:
                parameters[name] = values[0].decode()
            except UnicodeDecodeError:
                raise BadParameter("parameters are text in UTF-8") from None
        return Request(self.request.path.removeprefix("/"), parameters)


class _NotFound(_Handler):
    def get(self) -> None:
        raise tornado.web.HTTPError(404)


def application(
    database: Database, site: Site, access: Access, threads: concurrent.futures.Executor
) -> tornado.web.Application:
    """The application that serves the page with this `site`, and all documents. Raises AppMissing."""
    app = App.read()
    files = {
        APP_SCRIPT: (app.script, gzip.compress(app.script, 9, mtime=0), "text/javascript; charset=utf-8"),
        APP_STYLE: (app.style, gzip.compress(app.style, 9, mtime=0), "text/css; charset=utf-8"),
    }
    return tornado.web.Application(
        [
            (r"/", _Page),
            (rf"/({APP_SCRIPT}|{APP_STYLE})".replace(".", r"\."), _File),
            (r"/(?:runs|runs/.*|compare/.*)\.json", _Document),
        ],
        default_handler_class=_NotFound,
        log_function=lambda _: None,
        access=access,
        documents=DocumentCache(database, threads),
        page=page(site).encode(),
        files=files,
    )


def serve(
    database: Database, site: Site, access: Access, *, host: str, port: int, on_ready: Callable[[int], None]
) -> None:
    """Serves until SIGINT or SIGTERM. Calls `on_ready` with the port once it is open.

    Raises ConfigError if the address cannot be served.
    """
    sockets = _bound(host, port)

    async def until_signal() -> None:
        end = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, end.set)
        on_ready(sockets[0].getsockname()[1])
        await serve_until(end, database, site, access, sockets)

    asyncio.run(until_signal())


async def serve_until(
    end: asyncio.Event, database: Database, site: Site, access: Access, sockets: list[socket.socket]
) -> None:
    """Serves on these listening sockets until `end` is set, then closes them."""
    with concurrent.futures.ThreadPoolExecutor(THREADS, thread_name_prefix="view") as threads:
        server = tornado.httpserver.HTTPServer(
            application(database, site, access, threads),
            max_header_size=_HEADER_BYTES,
            max_body_size=0,
            idle_connection_timeout=_IDLE_SECONDS,
        )
        server.add_sockets(sockets)
        await end.wait()
        server.stop()
        await server.close_all_connections()


def _bound(host: str, port: int) -> list[socket.socket]:
    try:
        return tornado.netutil.bind_sockets(port, host)
    except (OSError, UnicodeError) as error:
        number = getattr(error, "errno", None) or 0
        reason = os.strerror(number) if number > 0 else str(error)
        raise ConfigError(
            f"port {port} of {host} cannot be served: {reason}. Name another one (cordctl view --host HOST --port PORT)"
        ) from None


def address(host: str, port: int, token: str | None) -> str:
    """The URL to open in a browser, with the token for the first visit."""
    shown = f"[{host}]" if ":" in host else host
    query = "" if token is None else f"?{urlencode({_TOKEN: token})}"
    return f"http://{shown}:{port}/{query}"
