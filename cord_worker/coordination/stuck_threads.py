"""Detects threads of this process that hang, because their current piece of work takes too long.

Code that serves tasks says what it does, with `working`. So does every transaction and every message to the broker
(`transactions`) that is not part of a longer piece of work. One thread watches all of these. It logs a hanging thread
once, with its stack, and leaves the rest to `on_stuck`. Time is added up from look to look, so that a pause of the
whole process, or a clock that jumps, does not make threads look stuck.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from cord_worker.coordination.periodic_thread import PeriodicThread

logger = logging.getLogger(__name__)

_MIN_LOOKS = 8
"""Looks within the time that a piece of work may take; a longer pause between two looks counts as one look."""
_MAX_FRAMES = 12


@dataclass(slots=True, eq=False)
class WatchedWork:
    """What a thread currently does, and for how many seconds this was observed."""

    what: str
    thread: int
    seconds: float = 0.0


_lock = threading.Lock()
_watched: set[WatchedWork] = set()
_thread_state = threading.local()


@contextmanager
def working(what: str) -> Iterator[None]:
    """Makes `ThreadWatch` watch this piece of work of this thread; a `working` inside it has no effect."""
    if getattr(_thread_state, "is_watched", False):
        yield
        return
    work = WatchedWork(what, threading.get_ident())
    _thread_state.is_watched = True
    with _lock:
        _watched.add(work)
    try:
        yield
    finally:
        with _lock:
            _watched.discard(work)
        _thread_state.is_watched = False


class DescribeTopic(Protocol):
    """Receives what keeps this process from its work: one condition for each topic."""

    def __call__(self, condition: str | None, *, topic: str) -> None: ...


class ThreadWatch:
    """A thread that looks for pieces of work that take longer than `seconds`.

    `on_stuck` is called once for each of them. `loops` are the event loops to watch: by name, a function that
    calls its argument on the loop.
    """

    def __init__(
        self,
        seconds: float,
        *,
        describe: DescribeTopic,
        on_stuck: Callable[[WatchedWork], None],
        loops: dict[str, Callable[[Callable[[], None]], object]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seconds = seconds
        self._describe = describe
        self._on_stuck = on_stuck
        self._loops = loops or {}
        self._waiting: dict[str, WatchedWork] = {}
        self._threads: dict[str, int] = {}
        self._clock = clock
        self._looked_at = clock()
        self._stuck: set[WatchedWork] = set()
        self._thread = PeriodicThread(
            "thread-watch",
            self.look,
            seconds / _MIN_LOOKS,
            failure="the threads could not be checked",
            logger=logger,
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.stop()

    def hanging_loops(self) -> list[str]:
        """The event loops that hung at the last look."""
        return [work.what for work in self._stuck if work.what in self._loops]

    def look(self) -> None:
        """Adds the time since the last look to every piece of work, and reports those that are stuck."""
        now = self._clock()
        passed = max(0.0, min(now - self._looked_at, self._seconds / _MIN_LOOKS))
        self._looked_at = now
        self._check_loops()
        with _lock:
            for work in _watched:
                work.seconds += passed
            stuck = {work for work in _watched if work.seconds >= self._seconds}
        for work in stuck - self._stuck:
            logger.critical("%s has hung for %.0f s:\n%s", work.what, work.seconds, _stack(work.thread))
        for work in self._stuck - stuck:
            logger.warning("%s continues after %.0f s", work.what, work.seconds)
        new, self._stuck = stuck - self._stuck, stuck
        names = ", ".join(sorted({work.what for work in stuck}))
        self._describe(f"has a thread that hangs ({names}); see its log" if stuck else None, topic="threads")
        for work in new:
            self._on_stuck(work)

    def _check_loops(self) -> None:
        """Gives each loop a callback; until the loop calls it, that counts as a piece of work of the loop."""
        for name, ask in self._loops.items():
            if name in self._waiting:
                continue
            work = self._waiting[name] = WatchedWork(name, self._threads.get(name, 0))

            def answer(name: str = name, work: WatchedWork = work) -> None:
                self._threads[name] = threading.get_ident()
                with _lock:
                    _watched.discard(work)
                self._waiting.pop(name, None)

            with _lock:
                _watched.add(work)
            try:
                ask(answer)
            except RuntimeError:  # the loop is closed: the process ends
                answer()


def _stack(thread: int) -> str:
    frame = sys._current_frames().get(thread)
    if frame is None:
        return "(its stack is not available)"
    return "".join(traceback.format_stack(frame)[-_MAX_FRAMES:]).rstrip()
