"""Retries requests as long as that may help, and decides whether the request or the server is at fault.

| fault | reaction |
|---|---|
| the server refuses the request and gives a reason | the request fails, nothing else |
| it refuses without a reason | the request fails, if the server still does what it did at start |
| it is overloaded (429, 503) | fewer requests at once; retried after the pause asked for, or a growing one |
| it fails, hangs, drops the connection, sends nonsense | retried, the last time after a check that the server works |
| it fails, and its words name a reason to refuse the request | as above; the last try follows the second such reply |
| it is unreachable, loads its model, or denies access | all requests wait until it does what it did at start |

If the last try fails too, the request fails. A request that would wait for the server gets an UnavailableError instead:
its lease is returned, and the work is done elsewhere, or here once the server is back. A request at which the server
failed twice is retried with no other request running, so that if it crashes the server, no other request is hit. At the
fourth crash only this request fails.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import TypeVar

from cord_worker.engines.openai.concurrency import Concurrency
from cord_worker.engines.openai.faults import Means, ServerFault
from cord_worker.engines.openai.pauses import checks, is_long, obeyed_pause, pause_after, pause_of_busy
from cord_worker.engines.protocol import Describe
from cord_worker.errors import CordError, EngineError, EngineFaultError, RequestError, UnavailableError

logger = logging.getLogger(__name__)

T = TypeVar("T")

_FAILURES_TOGETHER = 2
"""After this many failures, a request is tried with no other request running."""
_MOST_CRASHES = 4
"""If the server becomes unavailable this often at one request, the request counts as the cause."""
_KNOWN_SECONDS = 1.0
"""A server that was found to work counts as working for this long."""
_MOST_SUSPECTS = 4096
_QUIET_SECONDS = 10.0
"""After this long without a request, the condition that the server slows requests down is withdrawn."""


@dataclass(slots=True)
class _Tries:
    """What happened at the tries of one request so far; `broken` and `busy` are numbers of tries."""

    key: Callable[[], str]
    broken: int = 0
    busy: int = 0
    is_last: bool = False
    suspected: type[RequestError] | None = None
    """The reason to refuse the request that the failing server's latest reply named."""

    @property
    def count(self) -> int:
        return self.broken + self.busy


class Retrying:
    """Requests to one server, at most `slots` at once. Lives on one event loop.

    `check` raises if the server no longer does what it did at start; `error_of` gives the error for a fault; `describe`
    receives what keeps the requests waiting.
    """

    def __init__(
        self,
        server: str,
        *,
        slots: int,
        max_retries: int,
        error_of: Callable[[ServerFault, int], EngineError],
        check: Callable[[], Awaitable[None]] | None,
        describe: Describe,
    ) -> None:
        self._server = server
        self._slots = slots
        self._concurrency = Concurrency(slots)
        self._max_retries = max_retries
        self._error_of = error_of
        self._check = check
        self._describe = describe
        self._suspects: OrderedDict[str, int] = OrderedDict()
        self._away: asyncio.Event | None = None
        self._away_since = self._slowed_since = 0.0
        self._away_because = self._slowed_because = ""
        self._failing: str | None = None
        """The latest failure of the server since it last served a request."""
        self._described: str | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._checking: asyncio.Task[UnavailableError | None] | None = None
        self._worked_at = float("-inf")
        self._request_count = 0
        self._is_quiet = False
        self._quiet_at: asyncio.TimerHandle | None = None
        self.retries = 0

    async def do(self, attempt: Callable[[], Awaitable[T]], key: Callable[[], str]) -> T:
        """The result of `attempt`, retried as the module describes; `key` computes a name of the request when needed.

        Raises RequestError if the request is at fault, UnavailableError if the server is.
        """
        self._begin()
        try:
            return await self._retried(attempt, key)
        finally:
            self._end()

    async def _retried(self, attempt: Callable[[], Awaitable[T]], key: Callable[[], str]) -> T:
        tries = _Tries(key)
        while True:
            alone = max(tries.broken, self._suspects.get(key(), 0) if self._suspects else 0) >= _FAILURES_TOGETHER
            async with self._concurrency.slot(alone=alone) as began:
                self._refuse_while_away()
                try:
                    result = await attempt()
                except ServerFault as found:
                    fault = found
                    self._note(fault, began)
                else:
                    if self._suspects:
                        self._suspects.pop(key(), None)
                    self._failing = None
                    self._concurrency.succeeded()
                    self._tell()
                    return result
            pause = await self._pause(tries, fault, alone=alone)
            self.retries += 1
            logger.warning("%s: %s; trying again in %.1f s", self._server, fault, pause)
            await asyncio.sleep(pause)

    async def available(self) -> None:
        """Returns once the server is available."""
        while self._away is not None:
            await self._away.wait()

    async def close(self) -> None:
        """Stops waiting for the server."""
        if self._quiet_at is not None:
            self._quiet_at.cancel()
        for task in (self._watcher, self._checking):
            if task is not None:
                task.cancel()

    async def _pause(self, tries: _Tries, fault: ServerFault, *, alone: bool) -> float:
        """Seconds until the next try. Raises EngineError if there is no next try."""
        if fault.means is Means.REFUSED:
            if fault.refusal is None:
                await self._require_working(tries, alone=alone)
            raise self._error_of(fault, tries.count + 1)
        if fault.means in (Means.AWAY, Means.ACCESS):
            # perhaps only this request is denied, so the fault is counted against it
            tries.broken += fault.means is Means.ACCESS or fault.blames_request
            raise self._mark_away(fault, tries, alone=alone)
        if fault.means is Means.BUSY:
            return self._pause_of_busy(tries, fault, alone=alone)
        tries.broken += 1
        is_repeated = fault.suspected is not None and fault.suspected is tries.suspected
        tries.suspected = fault.suspected
        if fault.is_slow:  # spend another wait of this length only if the server works
            await self._require_working(tries, alone=alone, failure=self._error_of(fault, tries.count))
        if fault.transient and tries.broken <= self._max_retries and not is_repeated:
            tries.is_last = False
            return pause_after(tries.broken - 1)
        failed = self._error_of(fault, tries.count)
        if self._check is None and not is_repeated:
            raise failed
        await self._require_working(tries, alone=alone, failure=failed)
        if fault.transient and not fault.is_slow and not tries.is_last:
            # the server may have recovered between the try and the check
            tries.is_last = True
            return 0.0
        if is_repeated:
            raise self._error_of(fault.confirmed(), tries.count)
        raise EngineFaultError(f"{failed}; the server works otherwise, so the cause is this request")

    def _pause_of_busy(self, tries: _Tries, fault: ServerFault, *, alone: bool) -> float:
        tries.busy += 1
        pause = pause_of_busy(fault.retry_after, tries.busy - 1)
        if tries.busy > self._max_retries or is_long(pause):
            tries.broken += fault.blames_request
            raise self._mark_away(fault, tries, alone=alone and fault.blames_request)
        if fault.retry_after:
            self._concurrency.hold(fault.retry_after)
        return pause

    async def _require_working(self, tries: _Tries, *, alone: bool, failure: EngineError | None = None) -> None:
        """Raises UnavailableError, with the message of `failure`, if the server no longer does what it did at
        start."""
        if self._check is None:
            return
        if time.monotonic() - self._worked_at < _KNOWN_SECONDS:
            return
        if self._checking is None:
            self._checking = asyncio.create_task(self._server_error())
            self._checking.add_done_callback(self._forget_check)
        error = await asyncio.shield(self._checking)
        if error is not None:
            found = ServerFault(error.brief, means=Means.AWAY, retry_after=error.retry_after)
            raise self._mark_away(found, tries, alone=alone, failure=failure)

    def _forget_check(self, _: object) -> None:
        self._checking = None

    async def _server_error(self) -> UnavailableError | None:
        """The error of a check of the server; None if it works."""
        try:
            if self._check is not None:
                await self._check()
        except UnavailableError as error:
            return error
        except CordError as error:
            return UnavailableError(str(error))
        except Exception as error:  # otherwise the requests would wait forever: the check is repeated
            logger.exception("%s could not be checked", self._server)
            return UnavailableError(f"its answer is not understood ({type(error).__name__}: {error})")
        self._worked_at = time.monotonic()
        return None

    def _mark_away(
        self, fault: ServerFault, tries: _Tries, *, alone: bool, failure: EngineError | None = None
    ) -> EngineError:
        """Makes all requests wait for the server; returns the error of the request that found it unavailable: an
        EngineFaultError if the request counts as the cause, otherwise an UnavailableError. Its message is that of
        `failure`, if given."""
        if self._away is None:
            logger.warning("%s is waited for: %s", self._server, fault)
            self._away, self._away_since = asyncio.Event(), time.monotonic()
            self._watcher = asyncio.create_task(self._watch(fault.retry_after))
        self._away_because, self._failing = str(fault), None
        self._tell()
        error = failure or self._error_of(fault, tries.count + 1 if fault.means is not Means.BUSY else tries.count)
        if tries.broken:
            key = tries.key()
            crashes = self._suspects[key] = self._suspects.pop(key, 0) + 1
            while len(self._suspects) > _MOST_SUSPECTS:
                self._suspects.popitem(last=False)
            if alone and crashes >= _MOST_CRASHES:
                return EngineFaultError(f"{error}; {crashes} times at this request, the last time with no other")
        return UnavailableError(str(error), retry_after=fault.retry_after)

    async def _watch(self, retry_after: float | None) -> None:
        """Checks the server again and again until it does what it did at start."""
        await asyncio.sleep(max(pause_after(0), obeyed_pause(retry_after)))
        async with aclosing(checks(self._server_error, lambda error: error and error.retry_after)) as all_found:
            async for error in all_found:
                if error is None:
                    break
                self._away_because = str(ServerFault(error.brief))
                self._tell()
        logger.info("%s is available again", self._server)
        away, self._away = self._away, None
        self._tell()
        assert away is not None
        away.set()

    def _begin(self) -> None:
        self._request_count += 1
        if self._quiet_at is not None:
            self._quiet_at.cancel()
            self._quiet_at = None
        if self._is_quiet:
            self._is_quiet = False
            self._slowed_since = time.monotonic()
            self._tell()

    def _end(self) -> None:
        self._request_count -= 1
        if not self._request_count and self._concurrency.is_lowered:
            self._quiet_at = asyncio.get_running_loop().call_later(_QUIET_SECONDS, self._quiet)

    def _quiet(self) -> None:
        """Withdraws the condition that the server slows requests down; called after a time without requests."""
        self._quiet_at, self._is_quiet = None, True
        self._tell()

    def _refuse_while_away(self) -> None:
        if self._away is not None:
            raise UnavailableError(f"{self._server} is waited for: {self._away_because}")

    def _note(self, fault: ServerFault, began: float) -> None:
        """Records a fault of a request that began at `began`. An overloaded or slow server gets fewer requests at
        once."""
        if fault.means is Means.BUSY or fault.is_slow:
            if not self._concurrency.is_lowered:
                self._slowed_since = time.monotonic()
            self._concurrency.overloaded(began)
            self._slowed_because, self._failing = str(fault), None
        elif fault.means is Means.BROKEN:
            self._failing = str(fault)
        self._tell()

    def _tell(self) -> None:
        """Tells `describe` what keeps the requests waiting, if it is new."""
        text, since = None, 0.0
        if self._away is not None:
            text, since = f"waits for {self._server}: {self._away_because}", self._away_since
        elif self._concurrency.is_lowered and not self._is_quiet:
            at_once = f"{self._concurrency.limit} of {self._slots} requests at once"
            last = self._failing or self._slowed_because
            text, since = f"is slowed down by {self._server}: {at_once}, last: {last}", self._slowed_since
        if text != self._described:
            self._described = text
            self._describe(text, since=since)
