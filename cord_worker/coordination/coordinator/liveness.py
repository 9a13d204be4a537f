"""Measures how long workers have been silent, by this process's own clock.

PostgreSQL's clock dates the heartbeats but does not measure the silence: it may be set forward or back, and heartbeats
stop while the database is away. A worker's silence is therefore the time for which this process has seen the same
heartbeat, look after look. A long pause between two looks (this process or the whole machine was stopped) counts as a
short one, because the worker may have been stopped too.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

_MIN_LOOKS = 4
"""A worker is lost after at least this many looks."""


@dataclass(slots=True)
class _Observation:
    heartbeat: datetime
    silent_seconds: float = 0.0


class LivenessMonitor:
    """Finds workers that were silent for `timeout_seconds`; call `observe` regularly with all heartbeats."""

    def __init__(self, timeout_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._timeout = timeout_seconds
        self._clock = clock
        self._looked_at = clock()
        self._observed: dict[uuid.UUID, _Observation] = {}

    def observe(self, heartbeats: Mapping[uuid.UUID, datetime]) -> None:
        """Notes the last heartbeat of each worker."""
        now = self._clock()
        passed = min(now - self._looked_at, self._timeout / _MIN_LOOKS)
        self._looked_at = now
        observed = {}
        for worker, heartbeat in heartbeats.items():
            before = self._observed.get(worker)
            silent = before.silent_seconds + passed if before is not None and before.heartbeat == heartbeat else 0.0
            observed[worker] = _Observation(heartbeat, silent)
        self._observed = observed

    def lost_workers(self) -> dict[uuid.UUID, datetime]:
        """Workers that have been silent for too long, with their last heartbeats."""
        return {
            worker: last.heartbeat for worker, last in self._observed.items() if last.silent_seconds >= self._timeout
        }

    def forget(self) -> None:
        """Forgets all observations: after an outage every worker gets a full timeout."""
        self._observed = {}
