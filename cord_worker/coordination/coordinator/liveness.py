"""How long workers have been silent, by this process's own clock.

PostgreSQL's clock dates the heartbeats but does not measure the silence: it may be set, forward or back, and heartbeats
stop while the database is away. A silence therefore is what this process saw with its own eyes: a heartbeat that stays
the same from look to look. A long pause between two looks (this process was stopped, or the machine was) counts as a
short one, for the worker may have been stopped with it.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

_FEWEST_LOOKS = 4
"""A worker is lost after so many looks at least."""


@dataclass(slots=True)
class _Heard:
    heartbeat: datetime
    silent_seconds: float = 0.0


class Silence:
    """Which workers were silent for `timeout_seconds`; to be told every heartbeat every so often."""

    def __init__(self, timeout_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._timeout = timeout_seconds
        self._clock = clock
        self._looked_at = clock()
        self._heard: dict[uuid.UUID, _Heard] = {}

    def look(self, heartbeats: Mapping[uuid.UUID, datetime]) -> None:
        """Takes in when each worker was heard last."""
        now = self._clock()
        passed = min(now - self._looked_at, self._timeout / _FEWEST_LOOKS)
        self._looked_at = now
        heard = {}
        for worker, heartbeat in heartbeats.items():
            before = self._heard.get(worker)
            silent = before.silent_seconds + passed if before is not None and before.heartbeat == heartbeat else 0.0
            heard[worker] = _Heard(heartbeat, silent)
        self._heard = heard

    def lost(self) -> dict[uuid.UUID, datetime]:
        """Workers that are silent for too long, with the last that was heard of them."""
        return {
            worker: heard.heartbeat for worker, heard in self._heard.items() if heard.silent_seconds >= self._timeout
        }

    def forget(self) -> None:
        """Begins anew: nobody could be heard."""
        self._heard = {}
