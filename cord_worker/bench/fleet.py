"""Runs the service's processes during a measurement, under the supervisor that `cordctl run` uses."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from cord_worker.bench.workspace import Workspace
from cord_worker.config import RunConfig
from cord_worker.errors import LocalServiceError
from cord_worker.local.supervisor import EventKind, Supervisor
from cord_worker.operations.fleet import process_specs
from cord_worker.store.reports.measurements import metrics_ports

_LOOK_SECONDS = 0.1
_START_SECONDS = 600.0


class Fleet:
    """The running processes of the service."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    @property
    def pids(self) -> Mapping[str, int]:
        """Process ids by name."""
        return {status.name: status.pid for status in self._supervisor.status() if status.pid is not None}

    def ports(self, workspace: Workspace) -> Mapping[str, int]:
        """Metrics ports of the processes that are ready, by name."""
        pids = self.pids
        ports = workspace.database.run(lambda connection: metrics_ports(connection, list(pids.values())))
        return {name: ports[pid] for name, pid in pids.items() if pid in ports}

    def check_running(self) -> None:
        """Raises LocalServiceError if a process ended, because the measurement would be wrong."""
        for event in self._supervisor.poll():
            if event.kind is EventKind.GAVE_UP and event.error is not None:
                raise event.error
            if event.kind is EventKind.FAILED:
                raise LocalServiceError(f"process {event} ended during the measurement; look at its log")

    def wait_until(self, condition: Callable[[], bool], what: str, seconds: float) -> None:
        """Waits for `condition`. Raises LocalServiceError after `seconds`, or if a process ended."""
        deadline = time.monotonic() + seconds
        while not condition():
            self.check_running()
            if time.monotonic() > deadline:
                raise LocalServiceError(f"{what} took more than {seconds:.0f} s; the measurement was given up")
            time.sleep(_LOOK_SECONDS)


@contextmanager
def running_fleet(workspace: Workspace, config: RunConfig, config_path: Path) -> Iterator[Fleet]:
    """Starts a coordinator and a worker for every model, yields when they are ready, and stops them after the block.

    Every process serves its metrics on its own port. Raises LocalServiceError if a process does not start.
    """
    specs = [
        replace(spec, env={**spec.env, "CORD_METRICS_PORT": "0", "CORD_METRICS_HOST": "127.0.0.1"})
        for spec in process_specs(
            config, config_path, workspace.settings, workspace.endpoints, workspace.settings.state_dir
        )
    ]
    with Supervisor(specs, grace_seconds=workspace.settings.grace_seconds + 10) as supervisor:
        fleet = Fleet(supervisor)

        def ready() -> bool:
            return set(fleet.ports(workspace)) == set(fleet.pids)

        fleet.wait_until(ready, "starting the workers", _START_SECONDS)
        yield fleet
