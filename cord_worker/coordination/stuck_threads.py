"""Threads of this process that no longer move: a piece of work that takes longer than any such piece may.

Whoever serves tasks says what it is at, with `working`; so does every transaction and every message to the broker
(`faults`) that is no part of something longer. One thread looks at all of it, says so once with the stack of the
thread, and leaves the rest to `on_stuck`. Time is added up from look to look, so that a process that was stopped,
or a clock that jumps, does not make its threads look stuck.
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
"""Looks within the time that a piece of work may take; a pause between two looks counts as no more than one of them."""
_MOST_FRAMES = 12


@dataclass(slots=True, eq=False)
class Work:
    """A piece of work that a thread is at: what it is, and for how many seconds it was seen so."""

    what: str
    thread: int
    seconds: float = 0.0


_lock = threading.Lock()
_at_work: set[Work] = set()
_here = threading.local()


@contextmanager
def working(what: str) -> Iterator[None]:
    """Around a piece of work of this thread that is watched; what it consists of is not watched by itself."""
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
    """Is told what keeps this process from its work, under a topic."""

    def __call__(self, condition: str | None, *, topic: str) -> None: ...


class ThreadWatch:
    """A thread that looks for pieces of work that take longer than `seconds`.

    `on_stuck` is called once for each of them. `loops` are asked for signs of life: each is a function that calls what
    it is given on its loop.
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
            except Exception:  # who watches the others must go on, whatever it was
                logger.exception("the threads could not be looked at")

    def look(self) -> None:
        """Takes in how long every piece of work has taken by now."""
        now = self._clock()
        passed = max(0.0, min(now - self._looked_at, self._seconds / _FEWEST_LOOKS))
        self._looked_at = now
        self._ask_loops()
        with _lock:
            for work in _at_work:
                work.seconds += passed
            stuck = {work for work in _at_work if work.seconds >= self._seconds}
        for work in stuck - self._stuck:
            logger.critical("%s has stood still for %.0f s:\n%s", work.what, work.seconds, _stack(work.thread))
        for work in self._stuck - stuck:
            logger.warning("%s goes on after %.0f s", work.what, work.seconds)
        new, self._stuck = stuck - self._stuck, stuck
        names = ", ".join(sorted({work.what for work in stuck}))
        self._describe(f"has a thread that stands still ({names}); see its log" if stuck else None, topic="threads")
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
        return "(its stack cannot be told)"
    return "".join(traceback.format_stack(frame)[-_MOST_FRAMES:]).rstrip()
