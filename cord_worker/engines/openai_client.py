"""Requests to a server with OpenAI's HTTP API: key, time limits, and the server's faults in its own words.

The `openai` client does HTTP; its own retries are off. They neither bound the time of a request as a whole, nor
repeat a stream that broke off, nor wait for a `Retry-After` of more than two minutes, which hosted APIs send
(`openai_retrying`).

The key comes from the environment and stands in the request's header only: messages of the server are cleared of
it, the client's own errors (which hold the request) are never chained, and redirects, which would carry it to
another host, are not followed.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

from cord_worker.config import OpenAiOptions
from cord_worker.engines.openai_faults import Means, ServerFault
from cord_worker.engines.openai_retrying import Retrying, pause_after
from cord_worker.engines.protocol import Describe, to_nobody
from cord_worker.errors import EngineError, EngineLoadError, RequestError, UnavailableError

try:
    import openai
    from openai._streaming import ServerSentEvent, SSEDecoder
except ModuleNotFoundError as missing:
    raise EngineLoadError(
        f"engine = \"openai\" needs the package {missing.name}; run: pip install 'cord-worker[openai]'"
    ) from missing

logger = logging.getLogger(__name__)

T = TypeVar("T")
Document = dict[str, Any]

_NO_KEY = "no-key"
"""Sent where the environment holds no key: servers without keys ignore it, others refuse it."""
_CONNECT_SECONDS = 10.0
_MESSAGE_CHARACTERS = 500
_WORDS = ("code", "type", "status", "message", "msg", "detail")
"""Fields of an error that say what it is."""


class OpenAiClient:
    """One server, at most `slots` requests to it at once. Lives on one event loop.

    Raises EngineLoadError for a bad key. `check` raises where the server does not do well what it did at start;
    `describe` is told what requests wait for.
    """

    def __init__(
        self,
        options: OpenAiOptions,
        *,
        slots: int,
        check: Callable[[], Awaitable[None]] | None = None,
        describe: Describe = to_nobody,
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
        timeout = openai.Timeout(options.timeout_seconds, connect=min(_CONNECT_SECONDS, options.timeout_seconds))
        self._client = _Client(
            base_url=options.base_url,
            api_key=self._key,
            max_retries=0,
            timeout=timeout,
            http_client=openai.DefaultAsyncHttpxClient(follow_redirects=False, timeout=timeout),
        )

    def __repr__(self) -> str:
        return f"OpenAiClient({self._options.base_url!r})"

    async def get(self, path: str) -> Document:
        """One try of a GET. Raises ServerFault."""
        return await self._once(_whole(self._client.get(path, cast_to=object)))

    async def post(self, path: str, body: Document) -> Document:
        """One try of a POST. Raises ServerFault."""
        return await self._once(_whole(self._client.post(path, body=body, cast_to=object)))

    async def stream(self, path: str, body: Document, read: Callable[[AsyncIterator[Document]], Awaitable[T]]) -> T:
        """One try of a POST whose answer comes in parts; the connection closes when `read` returns.

        Raises ServerFault, also where the stream breaks off.
        """

        async def streamed() -> T:
            stream = await self._client.post(
                path, body={**body, "stream": True}, cast_to=object, stream=True, stream_cls=openai.AsyncStream[object]
            )
            async with stream, aclosing(_parts(stream)) as parts:
                return await read(parts)

        return await self._once(streamed())

    async def persistently(self, attempt: Callable[[], Awaitable[T]], key: Callable[[], str] = str) -> T:
        """The result of `attempt`, in one of the slots, tried as often as is worth it; `key` gives the request's name.

        Raises RequestError where it is the request's fault, UnavailableError where it is not (`openai_retrying`).
        """
        return await self._retrying.do(attempt, key)

    async def tried(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """The result of `attempt`, for probes: tried a few times where the server fails at it. Raises ServerFault."""
        for tried in range(self._options.max_retries):
            try:
                return await attempt()
            except ServerFault as fault:
                if fault.means is not Means.BROKEN or not fault.passing or fault.is_slow:
                    raise
            await asyncio.sleep(pause_after(tried))
        return await attempt()

    async def available(self) -> None:
        """Returns once the server is there: at once, but after an UnavailableError."""
        await self._retrying.available()

    @property
    def retries(self) -> int:
        """Tries beyond the first."""
        return self._retrying.retries

    def error_of(self, fault: ServerFault, tries: int = 1) -> EngineError:
        """The error that a fault means, with what to do about it."""
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
            return UnavailableError(f"{server} wants to be paid: {fault}; charge the account", brief=str(fault))
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
        )

    async def close(self) -> None:
        """Closes the connections; requests that are under way fail."""
        await self._retrying.close()
        await self._client.close()

    async def _once(self, request: Awaitable[T]) -> T:
        limit = self._options.timeout_seconds
        try:
            async with asyncio.timeout(limit):
                return await request
        except (TimeoutError, openai.APITimeoutError) as error:
            means = Means.AWAY if _is_unreachable(error.__cause__) else Means.BROKEN
            raise ServerFault(
                f"no answer within {limit:g} s (openai.timeout_seconds)", means=means, is_slow=means is Means.BROKEN
            ) from None
        except openai.APIConnectionError as error:
            cause = error.__cause__
            detail = f"{type(cause).__name__}: {cause}" if cause is not None else str(error)
            means = Means.AWAY if _is_unreachable(cause) else Means.BROKEN
            raise ServerFault(self._cleared(f"no connection ({detail})"), means=means) from None
        except openai.APIStatusError as error:
            raise self._fault(error) from None
        except openai.APIError as error:
            raise self._reported(error.body if error.body is not None else error.message) from None
        except _Reported as error:
            raise self._reported(error.body) from None
        except ValueError as error:
            raise ServerFault(self._cleared(f"its answer is malformed ({error})")) from None

    def _fault(self, error: openai.APIStatusError) -> ServerFault:
        status, words = error.status_code, _told(error.body)
        return ServerFault(
            self._cleared(f"HTTP {status}: {words}"),
            status=status,
            passing=status >= 500,
            retry_after=_retry_after(error.response.headers),
            words=_all_words(error.body),
            is_slow=status in {408, 504, 524},
        )

    def _reported(self, body: object) -> ServerFault:
        """The fault that a server reports where an answer should be, in one of status 200."""
        code = body.get("code") if isinstance(body, Mapping) else None
        return ServerFault(
            self._cleared(f"it sent an error: {_told(body)}"),
            status=code if isinstance(code, int) and 400 <= code < 600 else None,
            words=_all_words(body),
        )

    def _cleared(self, message: str) -> str:
        cleared = message.replace(self._key, "***") if self._has_key else message
        return cleared[:_MESSAGE_CHARACTERS]


async def _parts(stream: openai.AsyncStream[object]) -> AsyncGenerator[Document, None]:
    try:
        async for part in stream:
            yield _document(part)
    except (openai.OpenAIError, ServerFault, _Reported):
        raise
    except Exception as error:  # noqa: BLE001 - the HTTP library's own errors come through here as they are
        raise ServerFault(f"the answer broke off ({type(error).__name__}: {error})") from None


async def _whole(answer: Awaitable[object]) -> Document:
    return _document(await answer)


def _document(answer: object) -> Document:
    if not isinstance(answer, dict):
        raise ServerFault(f"its answer is malformed (no JSON object, but {str(answer)[:80]!r})")
    if answer.get("error") and not answer.get("choices"):
        raise _Reported(answer["error"])
    return answer


class _Reported(Exception):
    """A server reports an error where an answer should be."""

    def __init__(self, body: object) -> None:
        super().__init__("the server reports an error")
        self.body = body


class _Decoder(SSEDecoder):
    """Reads streams as llama.cpp wrote them until 2025: its errors stand in lines of their own kind (`error: {…}`)."""

    def decode(self, line: str) -> ServerSentEvent | None:
        field, _, value = line.partition(":")
        if field == "error" and value.strip():
            raise _Reported(_error_in(value) or value.strip())
        if line.startswith("{") and (error := _error_in(line)):  # no stream at all
            raise _Reported(error)
        return super().decode(line)


def _error_in(text: str) -> object:
    try:
        body = json.loads(text)
    except ValueError:
        return None
    return body.get("error") or (body if "message" in body else None) if isinstance(body, dict) else body


class _Client(openai.AsyncOpenAI):
    def _make_sse_decoder(self) -> SSEDecoder:
        return _Decoder()


def _is_unreachable(error: BaseException | None) -> bool:
    """Whether a request did not even reach the server. (The class is the HTTP library's, which depends on the version
    of `openai`.)"""
    return type(error).__name__ in {"ConnectError", "ConnectTimeout", "PoolTimeout", "ProxyError"}


def _key(options: OpenAiOptions) -> tuple[str, bool]:
    key = os.environ.get(options.api_key_env, "").strip()
    if not key:
        return _NO_KEY, False
    if not key.isascii() or not key.isprintable():
        raise EngineLoadError(
            f"the environment variable {options.api_key_env} (openai.api_key_env) holds characters that no key has; "
            "set it anew"
        )
    return key, True


def _told(body: object) -> str:
    """The server's own words, from whichever of the usual places it put them in."""
    if isinstance(body, Mapping):
        inner = body.get("error", body)
        if isinstance(inner, Mapping):
            inner = inner.get("message") or inner.get("detail") or json.dumps(inner)
        return str(inner)
    return str(body or "no explanation")


def _all_words(body: object) -> str:
    """What the server said of the fault: its code or type may say more than the message. What it repeats of the request
    is left out: a question may hold any word."""
    if isinstance(body, Mapping):
        inner = body.get("error", body)
        if isinstance(inner, Mapping):
            return " ".join(_all_words(inner[name]) for name in _WORDS if inner.get(name))
        return _all_words(inner)
    if isinstance(body, list):
        return " ".join(map(_all_words, body))
    return str(body or "")[:_MESSAGE_CHARACTERS]


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the server asks to wait; it names milliseconds, seconds or a date."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name)
        if value is None:
            continue
        try:
            seconds = float(value) * unit
        except ValueError:
            try:
                seconds = parsedate_to_datetime(value).timestamp() - time.time()
            except ValueError:
                continue
        if not math.isnan(seconds):
            return max(0.0, seconds)
    return None
