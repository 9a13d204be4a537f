"""How long a run still takes, and its totals at little cost."""

from __future__ import annotations

import time
from collections.abc import Callable

from cord_worker.store.status import Counts, Totals


class TotalsCache:
    """Asks for the expensive totals so rarely that they take a twentieth of the time at most."""

    def __init__(self, read: Callable[[], Totals], *, least_seconds: float = 1.0) -> None:
        self._read = read
        self._least = least_seconds
        self._totals: Totals | None = None
        self._due = 0.0

    def get(self, *, fresh: bool = False) -> Totals:
        """The totals, as old as their cost allows; read anew with `fresh`."""
        started = time.monotonic()
        if self._totals is None or fresh or started >= self._due:
            self._totals = self._read()
            ended = time.monotonic()
            self._due = ended + max(self._least, 20 * (ended - started))
        return self._totals


class EtaClock:
    """Estimates the time left from the progress that it watched (at most 10 minutes back).

    Problems run side by side and end together, so those in flight count by their share of the usual steps.
    """

    _SECONDS = 600.0
    _MOST_OF_ACTIVE = 0.95

    def __init__(self) -> None:
        self._samples: list[tuple[float, float]] = []

    def observe(self, counts: Counts, mean_steps: float | None, now: float | None = None) -> float | None:
        """Seconds left; None while no problem is done, so that the usual number of steps is not known."""
        if counts.final == counts.total:
            return 0.0
        if mean_steps is None:
            return None
        moment = time.monotonic() if now is None else now
        begun = min(self._MOST_OF_ACTIVE * counts.active, counts.active_steps / mean_steps)
        progress = counts.final + begun
        self._samples.append((moment, progress))
        while len(self._samples) > 2 and moment - self._samples[0][0] > self._SECONDS:
            self._samples.pop(0)
        since, then = self._samples[0]
        if progress <= then or moment <= since:
            return None
        return (counts.total - progress) * (moment - since) / (progress - then)
