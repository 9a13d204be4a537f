"""Finds how many concurrent requests a server accepts, as TCP finds the capacity of a line.

A refusal for overload halves the limit, or the number of running requests if that is lower. Every success adds
1 / limit, so that a full round of successes adds one. Refusals of requests that ran concurrently count once.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager


class Concurrency:
    """Slots for at most `most` concurrent requests, fewer while the server accepts fewer. Lives on one event loop."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._limit = float(most)
        self._running = 0
        self._is_alone = False
        self._waiting: deque[tuple[asyncio.Future[None], bool]] = deque()
        self._lowered_at = float("-inf")
        self._begin_at = float("-inf")

    @property
    def limit(self) -> int:
        """Number of requests that may run concurrently now."""
        return int(self._limit)

    @property
    def is_lowered(self) -> bool:
        """True if `limit` is below its maximum."""
        return self.limit < self._most

    @asynccontextmanager
    async def slot(self, *, alone: bool = False) -> AsyncGenerator[float, None]:
        """Waits for a slot, first come, first served. With `alone`, no other slot is in use at the same time. Yields
        the time, by `time.monotonic`, at which the request may begin."""
        await self._enter(alone)
        try:
            while (pause := self._begin_at - time.monotonic()) > 0:
                await asyncio.sleep(pause)
            yield time.monotonic()
        finally:
            self._leave(alone)

    def overloaded(self, began: float) -> None:
        """Records that the server refused a request for overload. The request began at `began`, and still has its
        slot."""
        if began >= self._lowered_at:
            self._limit = max(1.0, min(self._limit, self._running) / 2)
            self._lowered_at = time.monotonic()

    def succeeded(self) -> None:
        """Records that the server served a request."""
        if self._limit < self._most:
            self._limit = min(float(self._most), self._limit + 1 / self.limit)
            self._grant()

    def hold(self, seconds: float) -> None:
        """Starts no request for `seconds`."""
        self._begin_at = max(self._begin_at, time.monotonic() + seconds)

    async def _enter(self, alone: bool) -> None:
        if not self._waiting and self._fits(alone):
            self._take(alone)
            return
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.append((waiter, alone))
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():  # a slot was granted at the same moment
                self._leave(alone)
            raise

    def _leave(self, alone: bool) -> None:
        self._running -= 1
        if alone:
            self._is_alone = False
        self._grant()

    def _grant(self) -> None:
        while self._waiting and (self._waiting[0][0].done() or self._fits(self._waiting[0][1])):
            waiter, alone = self._waiting.popleft()
            if not waiter.done():
                self._take(alone)
                waiter.set_result(None)

    def _fits(self, alone: bool) -> bool:
        return not self._is_alone and self._running < (1 if alone else self.limit)

    def _take(self, alone: bool) -> None:
        self._running += 1
        self._is_alone = alone
