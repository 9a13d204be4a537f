"""Decides whether a coordinator takes decisions: it pauses once its decisions fail for every problem.

If the decisions of `_MIN_PROBLEMS` different problems fail, and none succeeds between them, the coordinator is at
fault. It steps back for a pause that doubles, and then tries one problem at a time. Further failures of the same
problem are not counted.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

_MIN_PROBLEMS = 3
_MAX_FAILED = 10_000


@dataclass(frozen=True, slots=True)
class DecisionFailure:
    """What follows from a failed decision.

    `counts`: the failure counts against its problem. `pause`: if given, the coordinator steps back for this many
    seconds. `begins`: the coordinator had not stepped back before. `innocent`: problems whose decisions failed because
    this coordinator is at fault.
    """

    counts: bool
    pause: float | None = None
    begins: bool = False
    innocent: tuple[int, ...] = ()


class StepBack:
    """State of one coordinator; safe for use from several threads.

    The pause doubles from `first_pause` up to `max_pause` (seconds).
    """

    def __init__(self, first_pause: float, max_pause: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._first, self._max = first_pause, max_pause
        self._clock = clock
        self._lock = threading.Lock()
        self._failed: OrderedDict[int, None] = OrderedDict()
        self._streak: list[int] = []
        self._pause = 0.0
        self._paused_at = 0.0
        self._is_trying = False

    @property
    def has_stepped_back(self) -> bool:
        """Whether this coordinator has stepped back and has taken no decision since."""
        return self._pause > 0

    def may_decide(self) -> bool:
        """Whether a decision may be tried now; if True, one of the `note_…` methods must be called next."""
        with self._lock:
            if not self._pause:
                return True
            if self._is_trying or self._is_pausing():
                return False
            self._is_trying = True
            return True

    def is_waiting(self) -> bool:
        """Whether no decision may be tried now."""
        with self._lock:
            return self._pause > 0 and (self._is_trying or self._is_pausing())

    def _is_pausing(self) -> bool:
        # A clock that jumps back must not keep the coordinator from trying.
        return 0 <= self._clock() - self._paused_at < self._pause

    def note_no_decision(self) -> None:
        """Notes that there was nothing to decide, or that the database was away."""
        with self._lock:
            self._is_trying = False

    def note_success(self, problem_id: int) -> bool:
        """Notes a decision that was taken; True if the coordinator had stepped back until now."""
        with self._lock:
            was_back = self._pause > 0
            self._pause, self._is_trying = 0.0, False
            self._streak.clear()
            self._failed.pop(problem_id, None)
            return was_back

    def note_failure(self, problem_id: int) -> DecisionFailure:
        """Notes a decision that failed."""
        with self._lock:
            is_new = problem_id not in self._failed
            self._failed[problem_id] = None
            if len(self._failed) > _MAX_FAILED:
                self._failed.popitem(last=False)
            if is_new:
                self._streak.append(problem_id)
            if not self._pause and len(self._streak) < _MIN_PROBLEMS:
                return DecisionFailure(counts=True)
            if self._pause and not self._is_trying:  # it started before the coordinator stepped back
                return DecisionFailure(counts=False)
            innocent, begins = tuple(self._streak), not self._pause
            self._streak.clear()
            self._pause = min(2 * self._pause, self._max) or self._first
            self._paused_at, self._is_trying = self._clock(), False
            return DecisionFailure(counts=False, pause=self._pause, begins=begins, innocent=innocent)
