"""Pauses between the tries of a request, and between the checks of an unavailable server.

A server that is back is noticed within `_LONGEST_PAUSE_SECONDS`, or within `_LONGEST_ASKED_SECONDS` if it asked for a
longer pause. No `Retry-After` is obeyed beyond that: it may be wrong, or computed with a wrong clock.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 30.0
_LONGEST_ASKED_SECONDS = 60.0


def pause_after(tried: int) -> float:
    """Seconds of pause after `tried` earlier pauses: doubling from 0.5 to 30, and up to a quarter shorter at random, so
    that clients do not return all at once."""
    return float(
        min(_FIRST_PAUSE_SECONDS * 2.0 ** min(tried, 20), _LONGEST_PAUSE_SECONDS) * (1 - 0.25 * random.random())
    )


def pause_of_busy(asked: float | None, tried: int) -> float:
    """Seconds until the next try of a request that an overloaded server refused: `asked`, the server's `Retry-After`,
    unless it is missing or very short; then a growing pause."""
    return asked if asked is not None and asked > _FIRST_PAUSE_SECONDS else pause_after(tried)


def is_long(pause: float) -> bool:
    """True if `pause` (seconds) is longer than `obeyed_pause` allows, so that a waiting request returns its lease."""
    return pause > _LONGEST_ASKED_SECONDS


def obeyed_pause(asked: float | None) -> float:
    """Seconds to wait before a server that asked for a pause is checked again: `asked`, but at most 60."""
    return min(asked or 0.0, _LONGEST_ASKED_SECONDS)


async def checks(
    check_server: Callable[[], Awaitable[T]], pause_asked_in: Callable[[T], float | None]
) -> AsyncGenerator[T]:
    """The results of calling `check_server` again and again, as they arrive. If it raises, so does the generator.

    `pause_asked_in` gives the pause in seconds that the server asks for in a result. The next check begins after that
    pause or after a growing one, whichever is longer. If a check hangs, for example because its connection was lost
    unnoticed, the next one begins after `_LONGEST_PAUSE_SECONDS` anyway, and the earlier one continues.
    """
    running: set[asyncio.Future[T]] = set()
    tried = 0
    try:
        while True:
            next_at = latest = time.monotonic() + _LONGEST_PAUSE_SECONDS
            running.add(asyncio.ensure_future(check_server()))
            while (left := next_at - time.monotonic()) > 0:
                if not running:
                    await asyncio.sleep(left)
                    continue
                done, running = await asyncio.wait(running, timeout=left, return_when=asyncio.FIRST_COMPLETED)
                for finished in done:
                    found = await finished
                    now = time.monotonic()
                    next_at = max(min(now + pause_after(tried), latest), now + obeyed_pause(pause_asked_in(found)))
                    yield found
            tried += 1
    finally:
        for unfinished in running:
            unfinished.cancel()
        await asyncio.gather(*running, return_exceptions=True)
