"""Pauses between the tries of a request, and between the looks at a server that is waited for.

A server that is back is noticed within `_LONGEST_PAUSE_SECONDS`, or within `_LONGEST_ASKED_SECONDS` if it asks for a
longer pause: its `Retry-After` may be wrong, or computed with a wrong clock.
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
    """Doubling pauses in seconds, up to a quarter shorter at random so that clients do not return all at once."""
    return float(
        min(_FIRST_PAUSE_SECONDS * 2.0 ** min(tried, 20), _LONGEST_PAUSE_SECONDS) * (1 - 0.25 * random.random())
    )


def pause_of_busy(asked: float | None, tried: int) -> float:
    """Seconds until a request is tried again that a server refused as overloaded; `asked` is its `Retry-After`."""
    return asked if asked is not None and asked > _FIRST_PAUSE_SECONDS else pause_after(tried)  # some ask for zero


def is_long(pause: float) -> bool:
    """True if a pause is too long to keep a lease meanwhile, and to be obeyed as a whole."""
    return pause > _LONGEST_ASKED_SECONDS


def obeyed(asked: float | None) -> float:
    """The part of `asked`, a server's `Retry-After` in seconds, after which it is looked at again in any case."""
    return min(asked or 0.0, _LONGEST_ASKED_SECONDS)


async def looks(look: Callable[[], Awaitable[T]], asked: Callable[[T], float | None]) -> AsyncGenerator[T]:
    """The results of looking at a server again and again, as they arrive. An error of `look` ends the looking.

    `asked` gives the pause in seconds that the server asks for in a result. The next look begins after that pause, or a
    growing one. If a look hangs, because its connection was lost unnoticed for example, the next one begins anyway,
    and the earlier one continues.
    """
    running: set[asyncio.Future[T]] = set()
    tried = 0
    try:
        while True:
            next_at = longest = time.monotonic() + _LONGEST_PAUSE_SECONDS
            running.add(asyncio.ensure_future(look()))
            while (left := next_at - time.monotonic()) > 0:
                if not running:
                    await asyncio.sleep(left)
                    continue
                done, running = await asyncio.wait(running, timeout=left, return_when=asyncio.FIRST_COMPLETED)
                for one in done:
                    found = await one
                    now = time.monotonic()
                    next_at = max(min(now + pause_after(tried), longest), now + obeyed(asked(found)))
                    yield found
            tried += 1
    finally:
        for one in running:
            one.cancel()
        await asyncio.gather(*running, return_exceptions=True)
