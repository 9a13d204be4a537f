"""How many requests go to a server at once: as many as it takes, found as TCP finds a line's width.

Every refusal for overload halves the number, every success adds a little, so that as many successes as requests fit
add one. Refusals of requests that were under way together count once.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager


class Concurrency:
    """Slots for at most `most` requests at once, fewer while the server takes fewer. Lives on one event loop."""

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
        """Requests that may be under way at once now."""
        return int(self._limit)

    @property
    def is_lowered(self) -> bool:
        """Whether these are fewer than could be."""
        return self.limit < self._most

    @asynccontextmanager
    async def slot(self, *, alone: bool = False) -> AsyncGenerator[float, None]:
        """Waits for a slot, first come, first served; `alone` with no other in use. Yields when it began."""
        await self._enter(alone)
        try:
            while (pause := self._begin_at - time.monotonic()) > 0:
                await asyncio.sleep(pause)
            yield time.monotonic()
        finally:
            self._leave(alone)

    def overloaded(self, began: float) -> None:
        """The server refused a request that began then and still has its slot, because it has too much to do."""
        if began >= self._lowered_at:
            self._limit = max(1.0, min(self._limit, self._running) / 2)
            self._lowered_at = time.monotonic()

    def succeeded(self) -> None:
        """The server did a request."""
        if self._limit < self._most:
            self._limit = min(float(self._most), self._limit + 1 / self.limit)
            self._grant()

    def hold(self, seconds: float) -> None:
        """Begins nothing for so long."""
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
            if waiter.done() and not waiter.cancelled():  # it was given a slot in the same moment
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
