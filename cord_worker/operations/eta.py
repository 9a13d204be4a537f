"""Estimates how long a run still takes, and caches totals that take long to read."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Generic, TypeVar

from cord_worker.store.reports.status import Counts

T = TypeVar("T")


class TotalsCache(Generic[T]):
    """Reads totals that take long so rarely that reading takes at most a twentieth of the time.

    `min_seconds`: the least pause between two readings.
    """

    def __init__(self, read: Callable[[], T], *, min_seconds: float = 1.0) -> None:
        self._read = read
        self._min_seconds = min_seconds
        self._totals: T | None = None
        self._due = 0.0

    def get(self, *, fresh: bool = False) -> T:
        """The totals, read now if the pause after the last reading is over, or with `fresh`."""
        started = time.monotonic()
        if self._totals is None or fresh or started >= self._due:
            self._totals = self._read()
            ended = time.monotonic()
            self._due = ended + max(self._min_seconds, 20 * (ended - started))
        return self._totals


class EtaClock:
    """Estimates the time left from the progress of the last 10 minutes that it watched.

    Problems run concurrently and end together, so those in flight count by their share of the usual number of steps.
    That number is known only once a share of the problems is done: the first ones to end are the short ones.
    """

    _WINDOW_SECONDS = 600.0
    _MAX_ACTIVE_SHARE = 0.95
    _MIN_SHARE = 0.05

    def __init__(self) -> None:
        self._samples: list[tuple[float, Counts]] = []

    def observe(self, counts: Counts, mean_steps: float | None, now: float | None = None) -> float | None:
        """Seconds left; None without progress, or while less than a twentieth of the problems is final."""
        if counts.final == counts.total:
            return 0.0
        moment = time.monotonic() if now is None else now
        if len(self._samples) == 1 and _progress_marks(counts) == _progress_marks(self._samples[0][1]):
            # No progress since the watch began: models load, which says nothing about the speed of the work.
            self._samples.clear()
        self._samples.append((moment, counts))
        while len(self._samples) > 2 and moment - self._samples[0][0] > self._WINDOW_SECONDS:
            self._samples.pop(0)
        if mean_steps is None or counts.final < self._MIN_SHARE * counts.total:
            return None
        # On average, a problem in flight has done half of its steps: the usual number is at least twice that mean.
        usual = max(mean_steps, 2 * counts.active_steps / counts.active if counts.active else 0.0)
        since, then = self._samples[0]
        progress, before = self._progress(counts, usual), self._progress(then, usual)
        if progress <= before or moment <= since:
            return None
        return (counts.total - progress) * (moment - since) / (progress - before)

    def _progress(self, counts: Counts, usual: float) -> float:
        return counts.final + min(self._MAX_ACTIVE_SHARE * counts.active, counts.active_steps / usual)


def _progress_marks(counts: Counts) -> tuple[int, int, int]:
    return counts.final, counts.active, counts.active_steps
