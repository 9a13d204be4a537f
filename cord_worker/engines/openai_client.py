"""Requests to a server with OpenAI's HTTP API: key, time limits, back-off, concurrency and what failures mean.

The `openai` client does HTTP; its own retries are off. They neither bound the time of a request as a whole, nor
repeat a stream that broke off, nor wait for a `Retry-After` of more than two minutes, which hosted APIs send.

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
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

from cord_worker.config import OpenAiOptions
from cord_worker.errors import EngineError, EngineLoadError, RequestError

try:
    import openai
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
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 30.0
_LONGEST_RETRY_AFTER_SECONDS = 900.0
_REQUEST_STATUS = frozenset({400, 413, 422})
_PASSING_STATUS = frozenset({408, 409, 425, 429})
_MESSAGE_CHARACTERS = 500


class ServerFault(Exception):
    """One try of a request failed; `status` is None where no whole answer came back.

    `passing` says whether another try may help, `retry_after` how many seconds the server asks to wait.
    """

    def __init__(
        self, message: str, *, status: int | None = None, passing: bool = True, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.passing = passing
        self.retry_after = retry_after


class OpenAiClient:
    """One server, `slots` requests to it at once. Lives on one event loop. Raises EngineLoadError for a bad key."""

    def __init__(self, options: OpenAiOptions, *, slots: int) -> None:
        self._options = options
        self._slots = asyncio.Semaphore(slots)
        self._key, self._has_key = _key(options)
        timeout = openai.Timeout(options.timeout_seconds, connect=min(_CONNECT_SECONDS, options.timeout_seconds))
        self._client = openai.AsyncOpenAI(
            base_url=options.base_url,
            api_key=self._key,
            max_retries=0,
            timeout=timeout,
            http_client=openai.DefaultAsyncHttpxClient(follow_redirects=False, timeout=timeout),
        )
        self.retries = 0

    def __repr__(self) -> str:
        return f"OpenAiClient({self._options.base_url!r})"

    async def get(self, path: str) -> Document:
        """One try of a GET. Raises ServerFault."""
        return _document(await self._once(self._client.get(path, cast_to=object)))

    async def post(self, path: str, body: Document) -> Document:
        """One try of a POST. Raises ServerFault."""
        return _document(await self._once(self._client.post(path, body=body, cast_to=object)))

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

    async def persistently(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Tries `attempt` until it succeeds, backing off, in one of the slots.

        Raises RequestError where the server finds fault with the request, EngineError where it does not serve.
        """
        async with self._slots:
            for tried in range(self._options.max_retries + 1):
                try:
                    return await attempt()
                except ServerFault as fault:
                    pause = fault.retry_after if fault.retry_after is not None else _pause(tried)
                    if not fault.passing or pause > _LONGEST_RETRY_AFTER_SECONDS or tried >= self._options.max_retries:
                        raise self.error_of(fault, tries=tried + 1) from None
                    self.retries += 1
                    logger.warning("%s: %s; trying again in %.1f s", self._options.base_url, fault, pause)
                await asyncio.sleep(pause)
        raise AssertionError("unreachable")

    def error_of(self, fault: ServerFault, *, tries: int = 1) -> EngineError:
        """The error that a fault means, with what to do about it."""
        server = f"the server at {self._options.base_url}"
        if fault.status in _REQUEST_STATUS:
            return RequestError(f"{server} refuses the request: {fault}")
        if fault.status in {401, 403}:
            variable = self._options.api_key_env
            state = "is not set" if not self._has_key else "holds a key that it does not accept"
            return EngineError(
                f"{server} refuses access (HTTP {fault.status}): the environment variable {variable} "
                f"(openai.api_key_env) {state}"
            )
        if fault.status == 402:
            return EngineError(f"{server} wants to be paid: {fault}; charge the account")
        if fault.status == 404:
            return EngineError(
                f"{server} has no such endpoint or model: {fault}; correct openai.base_url, openai.model"
            )
        if fault.status is not None and 300 <= fault.status < 400:
            return EngineError(f"{server} redirects, which is not followed; give the final address in openai.base_url")
        if not fault.passing:
            return EngineError(f"{server} cannot be used: {fault}; correct openai.base_url, openai.model")
        return EngineError(
            f"{server} failed {tries} {'time' if tries == 1 else 'times'}, last: {fault}; check openai.base_url and "
            "the server, or raise openai.max_retries or openai.timeout_seconds"
        )

    async def close(self) -> None:
        """Closes the connections; requests that are under way fail."""
        await self._client.close()

    async def _once(self, request: Awaitable[T]) -> T:
        limit = self._options.timeout_seconds
        try:
            async with asyncio.timeout(limit):
                return await request
        except (TimeoutError, openai.APITimeoutError):
            raise ServerFault(f"no answer within {limit:g} s (openai.timeout_seconds)") from None
        except openai.APIConnectionError as error:
            cause = error.__cause__
            detail = f"{type(cause).__name__}: {cause}" if cause is not None else str(error)
            raise ServerFault(self._cleared(f"no connection ({detail})")) from None
        except openai.APIStatusError as error:
            raise self._fault(error) from None
        except openai.APIError as error:
            raise ServerFault(self._cleared(f"it sent an error: {error.message}")) from None
        except ValueError as error:
            raise ServerFault(self._cleared(f"its answer is malformed ({error})")) from None

    def _fault(self, error: openai.APIStatusError) -> ServerFault:
        status = error.status_code
        return ServerFault(
            self._cleared(f"HTTP {status}: {_told(error)}"),
            status=status,
            passing=status in _PASSING_STATUS or status >= 500,
            retry_after=_retry_after(error.response.headers),
        )

    def _cleared(self, message: str) -> str:
        cleared = message.replace(self._key, "***") if self._has_key else message
        return cleared[:_MESSAGE_CHARACTERS]


async def _parts(stream: openai.AsyncStream[object]) -> AsyncGenerator[Document, None]:
    try:
        async for part in stream:
            yield _document(part)
    except (openai.OpenAIError, ServerFault):
        raise
    except Exception as error:  # noqa: BLE001 - the HTTP library's own errors come through here as they are
        raise ServerFault(f"the answer broke off ({type(error).__name__}: {error})") from None


def _document(answer: object) -> Document:
    if not isinstance(answer, dict):
        raise ServerFault(f"its answer is malformed (no JSON object, but {str(answer)[:80]!r})")
    return answer


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


def _told(error: openai.APIStatusError) -> str:
    """The server's own words, from whichever of the usual places it put them in."""
    body = error.body
    if isinstance(body, Mapping):
        inner = body.get("error", body)
        if isinstance(inner, Mapping):
            inner = inner.get("message") or inner.get("detail") or json.dumps(inner)
        return str(inner)
    return str(body or "no explanation")


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


def _pause(tried: int) -> float:
    """Doubling pauses, up to a quarter shorter by chance so that clients do not come back all at once."""
    return float(
        min(_FIRST_PAUSE_SECONDS * 2.0 ** min(tried, 20), _LONGEST_PAUSE_SECONDS) * (1 - 0.25 * random.random())
    )
