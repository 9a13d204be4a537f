"""What `cordctl up` and `down` do: start services and workers in the background, and stop them.

Later commands find them through the state folder.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from cord_worker.config import RunConfig, Settings
from cord_worker.errors import LocalServiceError
from cord_worker.local.daemon import DaemonSpec, start_daemon, start_stopped, stop_daemon
from cord_worker.local.services import Endpoints, LocalServices
from cord_worker.local.state import StateDir, Worker, write_atomically
from cord_worker.local.supervisor import State
from cord_worker.operations.database import ensure_schema
from cord_worker.operations.fleet import check_limits, check_startable, fleet_models, preloaded_modules, process_specs
from cord_worker.operations.services import services_for
from cord_worker.progress import named_conditions, shown
from cord_worker.store.database import Database
from cord_worker.store.reports.status import live_workers, worker_conditions

_RECORD = "up.json"
_POLL_SECONDS = 0.3
_LOCK_SECONDS = 400
"""How long a command waits for another `up` or `down`."""


@dataclass(frozen=True, slots=True)
class Background:
    """The services and workers of a state folder that run in the background; `models` maps names to fingerprints."""

    state_dir: Path
    pid: int
    models: Mapping[str, str]
    workers: tuple[Worker, ...]

    def serves(self, config: RunConfig) -> bool:
        """True if every model of `config` has a worker here."""
        return set(fleet_models(config)) <= set(self.models.values())


def find_background(settings: Settings) -> Background | None:
    """What `up` has started for this state folder, if it still runs."""
    if not settings.state_dir.is_dir():
        return None
    state = StateDir.open(settings.state_dir)
    recorded = state.read()
    daemon = recorded.living_daemon()
    if daemon is None:
        return None
    try:
        models = json.loads((state.path / _RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        models = {}
    return Background(state.path, daemon.pid, models, recorded.workers)


def bring_up(
    config: RunConfig, config_path: Path, settings: Settings, say: Callable[[str], None]
) -> tuple[Background, bool]:
    """Starts services and workers in the background; returns them, and whether this call started them.

    If they run already, it restarts the processes that stopped (`cordctl drain`) or were given up. It waits for another
    `up` or `down` of this state folder. `say` gets warnings about the broker.

    Raises LocalServiceError if workers of another configuration run for this state folder or something could not be
    started, MachineLimit if the machine allows too little, ConfigError if a model cannot be found.
    """
    with _only_one_command(StateDir.open(settings.state_dir)):
        return _bring_up(config, config_path, settings, say)


def _bring_up(
    config: RunConfig, config_path: Path, settings: Settings, say: Callable[[str], None]
) -> tuple[Background, bool]:
    running = find_background(settings)
    if running is not None:
        if running.serves(config):
            start_stopped(running.state_dir)
            return find_background(settings) or running, False
        raise LocalServiceError(
            f"Workers of another configuration run in the background of {running.state_dir} (models: "
            f"{', '.join(sorted(running.models)) or 'unknown'}). Stop them first (cordctl down), or use another folder "
            "(--state-dir)."
        )
    check_startable(config)
    check_limits(config, settings)
    with services_for(settings, say) as services:
        ensure_schema(services.endpoints.database_url)
        specs = process_specs(config, config_path, settings, services.endpoints, services.state.path)
        names = {name: fingerprint for fingerprint, name in fleet_models(config).items()}
        write_atomically(services.state.path / _RECORD, json.dumps(names, indent=2) + "\n")
        start_daemon(
            DaemonSpec(
                services.state.path,
                tuple(specs),
                embedded=services.embedded,
                grace_seconds=settings.grace_seconds + 10,
                preload=preloaded_modules(config),
            )
        )
    started = find_background(settings)
    if started is None:
        raise LocalServiceError(
            f"The background daemon of {settings.state_dir} ended right after its start; see its logs/daemon.log."
        )
    return started, True


def wait_until_ready(
    config: RunConfig, settings: Settings, endpoints: Endpoints, seconds: float, say: Callable[[str], None]
) -> bool:
    """Waits until a coordinator and a worker of every model take work; False if that takes longer than `seconds`.

    Raises LocalServiceError if a process was given up or the daemon ended.
    """
    database = Database(endpoints.database_url, pool_size=1, application_name="cordctl", retry_seconds=5.0)
    names = fleet_models(config)
    waiting = set(names) | {None}  # None: the coordinator
    reported: set[tuple[str, str]] = set()
    deadline = time.monotonic() + seconds
    try:
        while waiting and time.monotonic() < deadline:
            check_background(settings)
            live = database.run(lambda connection: live_workers(connection, settings.worker_timeout_seconds))
            for worker in live:
                if worker.ready and worker.model in waiting:
                    waiting.discard(worker.model)
                    say(f"ready: {names.get(worker.model or '', 'coordinator')}")
            found = database.run(lambda connection: worker_conditions(connection, settings.worker_timeout_seconds))
            for condition in named_conditions(found, names):
                if (condition.model, condition.text) not in reported:
                    reported.add((condition.model, condition.text))
                    say(shown(f"{condition.model} {condition.text}"))
            if waiting:
                time.sleep(_POLL_SECONDS)
    finally:
        database.close()
    return not waiting


def check_background(settings: Settings) -> None:
    """Raises LocalServiceError if the background daemon has ended or has given up a process."""
    running = find_background(settings)
    if running is None:
        raise LocalServiceError(
            f"The background services of {settings.state_dir} ended. Start them again (cordctl up); nothing that was "
            "committed is lost."
        )
    for worker in running.workers:
        if worker.state == State.GIVEN_UP:
            raise LocalServiceError(worker.error or f"The process {worker.name} was given up; look at its log.")


def bring_down(settings: Settings) -> bool:
    """Stops what `up` started; False if nothing ran."""
    if not settings.state_dir.is_dir():
        return False
    with _only_one_command(StateDir.open(settings.state_dir)):
        return _bring_down(settings)


def _bring_down(settings: Settings) -> bool:
    stopped = stop_daemon(settings.state_dir)
    services = LocalServices(settings.state_dir)
    if services.are_running() and not services.state.read().living_owners():
        # Their owner was killed, and so was the watchdog that should have stopped them.
        services.stop()
        stopped = True
    return stopped


@contextmanager
def _only_one_command(state: StateDir) -> Iterator[None]:
    """Waits (at most `_LOCK_SECONDS`) until no other `up` or `down` of the state folder runs, and keeps others out.

    The folder's own lock cannot be used: the daemon that `up` waits for takes it.
    """
    lock = FileLock(str(state.path / "up.lock"), mode=0o600)
    try:
        lock.acquire(timeout=_LOCK_SECONDS)
    except Timeout as error:
        raise LocalServiceError(
            f"Another cordctl up or down for {state.path} has been running for {_LOCK_SECONDS} s. Wait for it or end "
            "it, then try again."
        ) from error
    try:
        yield
    finally:
        lock.release()
