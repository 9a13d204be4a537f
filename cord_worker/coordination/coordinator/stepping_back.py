"""Whether a coordinator takes decisions: not for a while, once they fail here whatever the problem is.

`_FEWEST` different problems whose decision fails, with none taken between, are the coordinator's fault: it steps back,
for a pause that doubles, and then tries itself on one problem at a time. A problem that fails again says nothing new.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

_FEWEST = 3
_MOST_KNOWN = 10_000


@dataclass(frozen=True, slots=True)
class Failure:
    """What a failed decision says: whether it counts against its problem; the `pause` in seconds, where the coordinator
    steps back with it (`begins`: it was at work until now), and the problems that it has failed at without being at
    fault themselves."""

    counts: bool
    pause: float | None = None
    begins: bool = False
    innocent: tuple[int, ...] = ()


class StepBack:
    """Safe for use from several threads. The pause doubles from `first_pause` up to `longest_pause` (seconds)."""

    def __init__(self, first_pause: float, longest_pause: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._first, self._longest = first_pause, longest_pause
        self._clock = clock
        self._lock = threading.Lock()
        self._known: OrderedDict[int, None] = OrderedDict()
        self._streak: list[int] = []
        self._pause = 0.0
        self._stepped_at = 0.0
        self._is_trying = False

    @property
    def is_back(self) -> bool:
        """Whether the last that is known of this coordinator is that its decisions fail."""
        return self._pause > 0

    def begin(self) -> bool:
        """Whether a decision may be tried now; each that may is to be followed by `taken`, `failed` or `left`."""
        with self._lock:
            if not self._pause:
                return True
            if self._is_trying or self._rests():
                return False
            self._is_trying = True
            return True

    def is_waiting(self) -> bool:
        """Whether no decision may be tried now."""
        with self._lock:
            return self._pause > 0 and (self._is_trying or self._rests())

    def _rests(self) -> bool:
        # A clock that was set back must not keep the coordinator from trying.
        return 0 <= self._clock() - self._stepped_at < self._pause

    def left(self) -> None:
        """There was nothing to decide, or the database was away."""
        with self._lock:
            self._is_trying = False

    def taken(self, problem_id: int) -> bool:
        """A decision was taken; True where the coordinator had stepped back and is at work again."""
        with self._lock:
            was_back = self._pause > 0
            self._pause, self._is_trying = 0.0, False
            self._streak.clear()
            self._known.pop(problem_id, None)
            return was_back

    def failed(self, problem_id: int) -> Failure:
        """A decision failed."""
        with self._lock:
            is_new = problem_id not in self._known
            self._known[problem_id] = None
            if len(self._known) > _MOST_KNOWN:
                self._known.popitem(last=False)
            if is_new:
                self._streak.append(problem_id)
            if not self._pause and len(self._streak) < _FEWEST:
                return Failure(counts=True)
            if self._pause and not self._is_trying:  # begun before the coordinator stepped back
                return Failure(counts=False)
            innocent, begins = tuple(self._streak), not self._pause
            self._streak.clear()
            self._pause = min(2 * self._pause, self._longest) or self._first
            self._stepped_at, self._is_trying = self._clock(), False
            return Failure(False, self._pause, begins, innocent)
