"""Workers and coordinators as an operator sees them: lists the living ones, and asks one to drain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from cord_worker.errors import StoreError


@dataclass(frozen=True, slots=True)
class LiveProcess:
    """A process with a recent heartbeat.

    `role` is model or coordinator, as in `workers.role`. `path` and `fingerprint` are of the model that it hosts, None
    for a coordinator. `was_draining`: it had already been asked to drain when this was read.
    """

    id: str
    role: str
    path: str | None
    fingerprint: str | None
    hostname: str
    pid: int
    version: str
    started_at: datetime
    is_ready: bool
    was_draining: bool
    condition: str | None
    condition_since: datetime | None

    def model(self, names: Mapping[str, str]) -> str | None:
        """The name of its model in `names` (by fingerprint), else the model's path; None for a coordinator."""
        return names.get(self.fingerprint or "", self.path)

    def to_json(self, names: Mapping[str, str]) -> dict[str, Any]:
        """As JSON for scripts; keys are stable. `names`: as for `model`."""
        return {
            "id": self.id,
            "process": self.address,
            "role": self.kind,
            "model": self.model(names),
            "version": self.version,
            "started_at": self.started_at.isoformat(),
            "state": self.state,
            "condition": self.condition,
            "condition_since": None if self.condition_since is None else self.condition_since.isoformat(),
        }

    @property
    def address(self) -> str:
        """Its name in outputs, `host:pid`."""
        return f"{self.hostname}:{self.pid}"

    @property
    def kind(self) -> str:
        """Its role in outputs: coordinator, or worker for one that hosts a model."""
        return "coordinator" if self.role == "coordinator" else "worker"

    @property
    def state(self) -> str:
        """starting (not consuming yet), running, degraded (running; `condition` says what is wrong), or draining."""
        if self.was_draining:
            return "draining"
        if not self.is_ready:
            return "starting"
        return "running" if self.condition is None else "degraded"


_LIVE = sa.text(
    """
    SELECT CAST(w.id AS text) AS id, w.role, m.path, m.fingerprint, w.hostname, w.pid, w.version, w.started_at,
           w.ready_at IS NOT NULL AS is_ready, w.drain_requested_at IS NOT NULL AS was_draining,
           w.condition, w.condition_since
    FROM workers w LEFT JOIN models m ON m.id = w.model_id
    WHERE w.stopped_at IS NULL AND w.heartbeat_at > now() - make_interval(secs => :timeout)
    ORDER BY w.role, m.path, w.hostname, w.pid
    """
)

_DRAIN = sa.text(
    """
    UPDATE workers SET drain_requested_at = now()
    WHERE id = CAST(:id AS uuid) AND stopped_at IS NULL AND drain_requested_at IS NULL
    """
)

_MOST_NAMED = 10
"""The most processes that an error lists."""


def live_processes(connection: sa.Connection, timeout_seconds: float) -> list[LiveProcess]:
    """Coordinators and workers with a heartbeat within `timeout_seconds`."""
    return [LiveProcess(**row._mapping) for row in connection.execute(_LIVE, {"timeout": timeout_seconds})]


def request_drain(connection: sa.Connection, worker: str, *, timeout_seconds: float) -> LiveProcess:
    """Asks a process to finish what it holds and leave; it learns of this with its next heartbeat.

    `worker` is its host:pid, or the beginning of its id. Returns the process as it was before. Raises StoreError if no
    process matches, or several do.
    """
    live = live_processes(connection, timeout_seconds)
    found = [one for one in live if worker == one.address or (worker and one.id.startswith(worker.lower()))]
    if len(found) != 1:
        named = ", ".join(f"{one.address} ({one.id[:8]})" for one in (found or live)[:_MOST_NAMED]) or "none"
        if found:
            raise StoreError(f"several workers are called {worker!r}: {named}; give more of the id")
        raise StoreError(f"no living worker is called {worker!r}. There are: {named}")
    connection.execute(_DRAIN, {"id": found[0].id})
    return found[0]
