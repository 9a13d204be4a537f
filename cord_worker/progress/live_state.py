"""What `cordctl watch` shows: a run at one moment, and its rates in the last ten minutes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from cord_worker.progress.snapshot import Snapshot

if TYPE_CHECKING:
    from cord_worker.store.reports.recent import RecentFailure, RecentRates


@dataclass(frozen=True, slots=True)
class ModelState:
    """A model of the run, by its name in cord.toml, or the coordinators.

    `ready` of the `workers` take work. `waiting` and `leased` count pieces of this run's work. `cached` is the share of
    the newest prompts that came from the prefix cache, None if that is not known.
    """

    name: str
    workers: int
    ready: int
    waiting: int
    leased: int
    cached: float | None


@dataclass(frozen=True, slots=True)
class LiveState:
    """A run at the moment `at` (in local time)."""

    at: datetime
    snapshot: Snapshot
    priority: int
    models: Sequence[ModelState]
    rates: RecentRates
    failures: Sequence[RecentFailure]
