"""HTTP requests to a server with OpenAI's API: key, limits of time and size, and errors in the server's own words.

`timeout_seconds` covers a request from its first byte to the last byte of its answer, even if the server sends slowly.
The answer's size is limited to what the request can need (`openai/replies.py`). If a limit is broken, the connection
is closed. Requests ask for no compression, and compressed answers are rejected: a small body could expand to a huge
one. Cookies are not kept.

The key comes from the environment and is sent only in the request's header. It is removed from the server's messages,
the HTTP library's own errors (which hold the request) are never chained, and redirects are not followed, because they
would send the key to another host.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, suppress
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TypeVar

from cord_worker.config import OpenAiOptions
from cord_worker.engines.openai.faults import Means, ServerFault
from cord_worker.engines.openai.pauses import pause_after
from cord_worker.engines.openai.replies import (
    ERROR_BYTES,
    LIST_BYTES,
    Document,
    Parts,
    Reported,
    all_words,
    codes_in,
    document,
    error_in,
    message_in,
    reply_limit,
    retry_after,
    status_in,
    too_long,
)
from cord_worker.engines.openai.retrying import Retrying
from cord_worker.engines.protocol import Describe, ignore_condition
from cord_worker.errors import EngineError, EngineLoadError, RequestError, UnavailableError

try:
    import httpx2
except ModuleNotFoundError as missing:
    raise EngineLoadError(
        f"engine = \"openai\" needs the package {missing.name}; run: pip install 'cord-worker[openai]'"
    ) from missing

__all__ = ["Document", "OpenAiClient"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

_NO_KEY = "no-key"
"""Sent if the environment holds no key: servers without keys ignore it, others refuse it."""
_CONNECT_SECONDS = 10.0
_ERROR_SECONDS = 5.0
"""Time limit to read the body of an error, after its status is known."""
_CONNECTIONS = httpx2.Limits(max_connections=1000, max_keepalive_connections=100)


class OpenAiClient:
    """A client of one server with at most `slots` requests at once. Lives on one event loop.

    Raises EngineLoadError for a bad key. `check` raises if the server no longer does what it did at start; `describe`
    receives what the requests wait for.
    """

    def __init__(
        self,
        options: OpenAiOptions,
        *,
        slots: int,
        check: Callable[[], Awaitable[None]] | None = None,
        describe: Describe = ignore_condition,
    ) -> None:
        self._options = options
        self._retrying = Retrying(
            options.base_url,
            slots=slots,
            max_retries=options.max_retries,
            error_of=self.error_of,
            check=check,
            describe=describe,
        )
        self._key, self._has_key = _key(options)
        timeout = options.timeout_seconds
        self._http = httpx2.AsyncClient(
            headers={
                "authorization": f"Bearer {self._key}",
                "accept-encoding": "identity",
                "user-agent": "cord-worker",
            },
            timeout=httpx2.Timeout(timeout, connect=min(_CONNECT_SECONDS, timeout)),
            limits=_CONNECTIONS,
            follow_redirects=False,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        )

    def __repr__(self) -> str:
        return f"OpenAiClient({self._options.base_url!r})"

    async def get(self, path: str) -> Document:
        """One try of a GET. Raises ServerFault."""
        return await self._once(self._whole("GET", path, b"", LIST_BYTES))

    async def post(self, path: str, body: Document) -> Document:
        """One try of a POST. Raises ServerFault."""
        content = _encoded(body)
        return await self._once(self._whole("POST", path, content, reply_limit(body, len(content))))

    async def stream(self, path: str, body: Document, read: Callable[[AsyncIterator[Document]], Awaitable[T]]) -> T:
        """One try of a POST whose answer comes in parts; the connection closes when `read` returns.

        Raises ServerFault, including when the stream breaks off.
        """
        body = {**body, "stream": True}
        content = _encoded(body)

        async def streamed() -> T:
            pieces = self._pieces("POST", path, content, reply_limit(body, len(content)))
            async with aclosing(pieces), aclosing(_parts(pieces)) as parts:
                return await read(parts)

        return await self._once(streamed())

    async def with_retries(self, attempt: Callable[[], Awaitable[T]], key: Callable[[], str] = str) -> T:
        """The result of `attempt`, which runs in a slot and is retried (`openai/retrying.py`); `key` names the request.

        Raises RequestError if the request is at fault, UnavailableError if the server is.
        """
        return await self._retrying.do(attempt, key)

    async def try_probe(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """The result of a probe `attempt`; retried a few times if the server fails. Raises ServerFault."""
        for tried in range(self._options.max_retries):
            try:
                return await attempt()
            except ServerFault as fault:
                if fault.means is not Means.BROKEN or not fault.transient or fault.is_slow:
                    raise
            await asyncio.sleep(pause_after(tried))
        return await attempt()

    async def available(self) -> None:
        """Returns once the server is available: at once, except after an UnavailableError."""
        await self._retrying.available()

    @property
    def retries(self) -> int:
        """Number of tries beyond the first of each request."""
        return self._retrying.retries

    def error_of(self, fault: ServerFault, tries: int = 1) -> EngineError:
        """The error for a fault, with advice on what to do."""
        server = f"the server at {self._options.base_url}"
        if fault.means is Means.REFUSED:
            return (fault.refusal or RequestError)(f"{server} refuses the request: {fault}")
        if fault.status in {401, 403}:
            variable = self._options.api_key_env
            state = "is not set" if not self._has_key else "holds a key that it does not accept"
            return EngineError(
                f"{server} refuses access (HTTP {fault.status}): the environment variable {variable} "
                f"(openai.api_key_env) {state}"
            )
        if fault.status == 402:
            return UnavailableError(f"{server} requires payment: {fault}; add credit to the account", brief=str(fault))
        if fault.status is not None and 300 <= fault.status < 400:
            return EngineError(f"{server} redirects, which is not followed; give the final address in openai.base_url")
        if fault.means is Means.ACCESS:
            return EngineError(
                f"{server} has no such endpoint or model: {fault}; correct openai.base_url, openai.model"
            )
        return UnavailableError(
            f"{server} failed {tries} {'time' if tries == 1 else 'times'}, last: {fault}; check openai.base_url and "
            "the server, or raise openai.max_retries or openai.timeout_seconds",
            brief=str(fault),
            retry_after=fault.retry_after,
            is_failing=fault.means is Means.BROKEN,
        )

    async def close(self) -> None:
        """Closes the connections; running requests fail."""
        await self._retrying.close()
        await self._http.aclose()

    async def _whole(self, method: str, path: str, content: bytes, most_bytes: int) -> Document:
        async with aclosing(self._pieces(method, path, content, most_bytes)) as pieces:
            return document(b"".join([piece async for piece in pieces]))

    async def _pieces(self, method: str, path: str, content: bytes, most_bytes: int) -> AsyncGenerator[bytes, None]:
        """The answer's body as it arrives. Raises ServerFault if it is an error, or longer than `most_bytes`."""
        headers = {"content-type": "application/json"} if content else {}
        url = f"{self._options.base_url}{path}"
        async with self._http.stream(method, url, content=content or None, headers=headers) as response:
            encoding = response.headers.get("content-encoding", "identity").strip().lower()
            is_plain = encoding in {"", "identity"}
            if not 200 <= response.status_code < 300:
                body = await _beginning(response) if is_plain else b""
                raise self._fault(response.status_code, response.headers, error_in(body))
            if not is_plain:
                raise ServerFault(f"its answer is compressed ({encoding}), which was not asked for")
            size = 0
            async for piece in response.aiter_raw():
                size += len(piece)
                if size > most_bytes:
                    raise too_long(most_bytes)
                yield piece

    async def _once(self, request: Awaitable[T]) -> T:
        limit = self._options.timeout_seconds
        try:
            async with asyncio.timeout(limit):
                return await request
        except (ServerFault, EngineError):
            raise
        except (TimeoutError, httpx2.TimeoutException) as error:
            means = Means.AWAY if _is_unreachable(error) else Means.BROKEN
            raise ServerFault(
                f"no answer within {limit:g} s (openai.timeout_seconds)", means=means, is_slow=means is Means.BROKEN
            ) from None
        except (httpx2.HTTPError, httpx2.StreamError, httpx2.InvalidURL) as error:
            means = Means.AWAY if _is_unreachable(error) else Means.BROKEN
            raise ServerFault(
                self._without_key(f"no connection ({type(error).__name__}: {error})"), means=means
            ) from None
        except Reported as error:
            raise self._reported(error.body) from None
        except Exception as error:  # a bad answer fails its request, never the worker
            logger.exception("an answer of %s could not be read", self._options.base_url)
            raise ServerFault(
                self._without_key(f"its answer is not understood ({type(error).__name__}: {error})")
            ) from None

    def _fault(self, status: int, headers: Mapping[str, str], body: object) -> ServerFault:
        return ServerFault(
            self._without_key(f"HTTP {status}: {message_in(body)}"),
            status=status,
            transient=status >= 500,
            retry_after=retry_after(headers),
            words=all_words(body),
            codes=codes_in(body),
            is_slow=status in {408, 504, 524},
        )

    def _reported(self, body: object) -> ServerFault:
        """The fault that a server reports in place of an answer, in a reply with status 200."""
        return ServerFault(
            self._without_key(f"it sent an error: {message_in(body)}"),
            status=status_in(body),
            words=all_words(body),
            codes=codes_in(body),
        )

    def _without_key(self, message: str) -> str:
        return message.replace(self._key, "***") if self._has_key else message


async def _parts(pieces: AsyncIterator[bytes]) -> AsyncGenerator[Document, None]:
    parts = Parts()
    try:
        async for piece in pieces:
            for part in parts.feed(piece):
                yield part
            if parts.is_done:
                return
    except httpx2.HTTPError as error:
        raise ServerFault(f"the answer broke off ({type(error).__name__}: {error})") from None
    for part in parts.end():
        yield part


async def _beginning(response: httpx2.Response) -> bytes:
    """The part of an error's body that arrives within `_ERROR_SECONDS`, at most `ERROR_BYTES`."""
    body = b""
    with suppress(TimeoutError, httpx2.HTTPError):
        async with asyncio.timeout(_ERROR_SECONDS):
            async for piece in response.aiter_raw():
                body += piece
                if len(body) > ERROR_BYTES:
                    break
    return body[:ERROR_BYTES]


def _encoded(body: Document) -> bytes:
    return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8", "replace")


def _is_unreachable(error: BaseException) -> bool:
    """True if a request did not even reach the server."""
    return isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout | httpx2.ProxyError)


def _key(options: OpenAiOptions) -> tuple[str, bool]:
    """The key to send, and whether the environment holds one. Raises EngineLoadError."""
    key = os.environ.get(options.api_key_env, "").strip()
    if not key:
        return _NO_KEY, False
    if not key.isascii() or not key.isprintable():
        raise EngineLoadError(
            f"the environment variable {options.api_key_env} (openai.api_key_env) holds characters that no key has; "
            "set it again"
        )
    return key, True
