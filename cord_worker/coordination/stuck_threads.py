"""Detects threads of this process that hang: their current piece of work takes longer than any should.

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

logger = logging.getLogger(__name__)

_FEWEST_LOOKS = 8
"""Looks within the time that a piece of work may take; a longer pause between two looks counts as one look."""
_MOST_FRAMES = 12


@dataclass(slots=True, eq=False)
class Work:
    """What a thread currently does, and for how many seconds this was observed."""

    what: str
    thread: int
    seconds: float = 0.0


_lock = threading.Lock()
_at_work: set[Work] = set()
_here = threading.local()


@contextmanager
def working(what: str) -> Iterator[None]:
    """Surrounds a piece of work of this thread that is watched; parts of it are not watched separately."""
    if getattr(_here, "is_watched", False):
        yield
        return
    work = Work(what, threading.get_ident())
    _here.is_watched = True
    with _lock:
        _at_work.add(work)
    try:
        yield
    finally:
        with _lock:
            _at_work.discard(work)
        _here.is_watched = False


class Described(Protocol):
    """Is called with what keeps this process from its work, under a topic."""

    def __call__(self, condition: str | None, *, topic: str) -> None: ...


class ThreadWatch:
    """A thread that looks for pieces of work that take longer than `seconds`.

    `on_stuck` is called once for each of them. `loops` are event loops to watch, by name: each is a function that calls
    its argument on the loop.
    """

    def __init__(
        self,
        seconds: float,
        *,
        describe: Described,
        on_stuck: Callable[[Work], None],
        loops: dict[str, Callable[[Callable[[], None]], object]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seconds = seconds
        self._describe = describe
        self._on_stuck = on_stuck
        self._loops = loops or {}
        self._asked: dict[str, Work] = {}
        self._threads: dict[str, int] = {}
        self._clock = clock
        self._looked_at = clock()
        self._stuck: set[Work] = set()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="thread-watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()

    def _watch(self) -> None:
        while not self._ended.wait(self._seconds / _FEWEST_LOOKS):
            try:
                self.look()
            except Exception:  # this watch must continue, whatever happened
                logger.exception("the threads could not be looked at")

    def look(self) -> None:
        """Adds the time since the last look to every piece of work, and reports those that are stuck."""
        now = self._clock()
        passed = max(0.0, min(now - self._looked_at, self._seconds / _FEWEST_LOOKS))
        self._looked_at = now
        self._ask_loops()
        with _lock:
            for work in _at_work:
                work.seconds += passed
            stuck = {work for work in _at_work if work.seconds >= self._seconds}
        for work in stuck - self._stuck:
            logger.critical("%s has hung for %.0f s:\n%s", work.what, work.seconds, _stack(work.thread))
        for work in self._stuck - stuck:
            logger.warning("%s continues after %.0f s", work.what, work.seconds)
        new, self._stuck = stuck - self._stuck, stuck
        names = ", ".join(sorted({work.what for work in stuck}))
        self._describe(f"has a thread that hangs ({names}); see its log" if stuck else None, topic="threads")
        for work in new:
            self._on_stuck(work)

    def _ask_loops(self) -> None:
        for name, ask in self._loops.items():
            if name in self._asked:
                continue
            work = self._asked[name] = Work(name, self._threads.get(name, 0))

            def answer(name: str = name, work: Work = work) -> None:
                self._threads[name] = threading.get_ident()
                with _lock:
                    _at_work.discard(work)
                self._asked.pop(name, None)

            with _lock:
                _at_work.add(work)
            try:
                ask(answer)
            except RuntimeError:  # the loop is closed: the process ends
                answer()


def _stack(thread: int) -> str:
    frame = sys._current_frames().get(thread)
    if frame is None:
        return "(its stack is not available)"
    return "".join(traceback.format_stack(frame)[-_MOST_FRAMES:]).rstrip()
