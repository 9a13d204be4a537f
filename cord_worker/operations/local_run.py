"""A whole run on one machine: services, workers, progress, export. The same call continues an interrupted run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import sqlalchemy as sa

from cord_worker.config import RunConfig, Settings
from cord_worker.dataset import RejectedRecord
from cord_worker.errors import LocalServiceError, RunConflict
from cord_worker.export.exporting import export_run
from cord_worker.export.file_types import check_output
from cord_worker.export.report import ExportReport
from cord_worker.local import processes
from cord_worker.local.fork_server import ForkServer
from cord_worker.local.state import StateDir
from cord_worker.local.supervisor import EventKind, ProcessSpec, Supervisor
from cord_worker.operations.background import check_background, find_background
from cord_worker.operations.database import ensure_schema, open_database
from cord_worker.operations.enqueue import DatasetSource, EnqueueResult, enqueue_dataset
from cord_worker.operations.fleet import check_limits, check_startable, fleet_models, process_specs
from cord_worker.operations.run_wait import limit_reached
from cord_worker.operations.run_watch import RunWatch, watch_run
from cord_worker.operations.services import RunServices, services_for
from cord_worker.progress import ProgressView, Snapshot
from cord_worker.store.database import Database
from cord_worker.store.reports.failure_causes import FailureCause, failure_causes
from cord_worker.store.reports.status import unfinished_run_names
from cord_worker.store.runs.runs import RunRow, get_run
from cord_worker.store.schema.tables import RunState

_INTERVAL_SECONDS = 0.5
_STOP_MARGIN_SECONDS = 10.0
_MAX_FAILURES = 5


@dataclass(frozen=True, slots=True)
class LocalRun:
    """A run to execute on this machine. Without `run_name`, its name is `default_run_name`. `on_rejected` gets each row
    that is left out."""

    source: DatasetSource
    config: RunConfig
    config_path: Path
    run_name: str | None
    settings: Settings
    on_rejected: Callable[[RejectedRecord], None] = lambda _: None


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LocalRunResult(Generic[T]):
    """The result of a local run: `result` is what `conclude` returned, `seconds` the wall time of the call, `logs` the
    folder with the logs of its processes; `embedded`: whether PostgreSQL or Redis is embedded."""

    enqueued: EnqueueResult
    snapshot: Snapshot
    result: T
    failures: list[FailureCause]
    seconds: float
    logs: Path
    embedded: bool


def run_locally(
    task: LocalRun,
    output: str,
    view: ProgressView,
    check_interrupted: Callable[[], None],
    fork_server: ForkServer | None = None,
) -> LocalRunResult[ExportReport]:
    """Runs until every problem of the dataset is final, and exports the run to `output`; see `run_until_final`."""
    check_output(output)
    return run_until_final(
        task, view, check_interrupted, lambda database, run: export_run(database, run.name, output), fork_server
    )


def run_until_final(
    task: LocalRun,
    view: ProgressView,
    check_interrupted: Callable[[], None],
    conclude: Callable[[Database, RunRow], T],
    fork_server: ForkServer | None = None,
) -> LocalRunResult[T]:
    """Runs until every problem of the dataset is final, then calls `conclude`.

    `fork_server` starts the workers that can be forked (`operations.preload`). `check_interrupted` is called often. If
    it raises KeyboardInterrupt, the processes are stopped first.

    Raises CordError if the run cannot continue.
    """
    started = time.monotonic()
    task.source.check()
    check_startable(task.config)
    settings = task.settings
    if find_background(settings) is None:
        check_limits(task.config, settings)
    view.say(preparation(settings))
    with services_for(settings, view.say) as services, announce_command(services.state, view.say):
        ensure_schema(services.endpoints.database_url)
        with (
            local_workers(task.config, task.config_path, settings, services, view.say, fork_server) as workers,
            open_database(settings, url=services.endpoints.database_url) as database,
        ):
            enqueued = enqueue_dataset(database, task.source, task.config, task.run_name, on_rejected=task.on_rejected)
            view.say(enqueued.sentence())
            for line in enqueued.lines():
                view.say(line)
            run = database.run(lambda connection: runnable_run(connection, enqueued.report.run_id))
            snapshot = watch_until_final(database, run, settings, workers, view, check_interrupted)
            view.say("no problem is left: writing the results")
            result = conclude(database, run)
            failures = database.run(lambda connection: failure_causes(connection, run.id, _MAX_FAILURES))
        return LocalRunResult(
            enqueued=enqueued,
            snapshot=snapshot,
            result=result,
            failures=failures,
            seconds=time.monotonic() - started,
            logs=services.state.logs,
            embedded=services.embedded,
        )


def preparation(settings: Settings) -> str:
    """A sentence on which services are embedded and which are the environment's."""
    embedded = [
        name for name, url in (("PostgreSQL", settings.database_url), ("Redis", settings.broker_url)) if url is None
    ]
    if not embedded:
        return "connecting to the database of CORD_DATABASE_URL and the broker of CORD_BROKER_URL"
    embedding = f"preparing {' and '.join(embedded)} in {settings.state_dir}"
    if settings.database_url is not None:
        return f"{embedding}; the database is that of CORD_DATABASE_URL"
    if settings.broker_url is not None:
        return f"{embedding}; the broker is that of CORD_BROKER_URL"
    return embedding


@contextmanager
def announce_command(state: StateDir, say: Callable[[str], None]) -> Iterator[None]:
    """Keeps a marker file in the state folder for the length of a `with`, and tells `say` about other commands that
    have one."""
    folder = state.path / "commands"
    folder.mkdir(mode=0o700, exist_ok=True)
    this_process = processes.current()
    own = folder / f"{this_process.pid}-{this_process.start}"
    own.touch()
    try:
        for mark in sorted(folder.iterdir()):
            pid, _, start = mark.name.partition("-")
            if mark == own or not pid.isdigit():
                continue
            if processes.ProcessId(int(pid), start).is_alive():
                say(
                    f"another cordctl run (pid {pid}) works in {state.path}: each has its own workers, so both are "
                    "slower. Stop one of them, or let both use the same workers (cordctl up)."
                )
            else:
                mark.unlink(missing_ok=True)
        yield
    finally:
        own.unlink(missing_ok=True)


def runnable_run(connection: sa.Connection, run_id: int) -> RunRow:
    """The run with this key. Raises LimitReached if a spending limit paused it, RunConflict if it is not active."""
    run = get_run(connection, run_id)
    if run.state == RunState.PAUSED and run.pause_reason is not None:
        raise limit_reached(run.name, run.pause_reason)
    if run.state == RunState.PAUSED:
        raise RunConflict(f"run {run.name!r} is paused. Continue it: cordctl resume {run.name}")
    if run.state == RunState.CANCELLED:
        raise RunConflict(f"run {run.name!r} was cancelled. Start another one with --run NAME.")
    return run


def _report_other_runs(unfinished: list[str], run: RunRow, say: Callable[[str], None]) -> None:
    others = [name for name in unfinished if name != run.name]
    if others:
        say(
            f"other unfinished runs: {', '.join(others[:5])}; they are worked on too if they use the same models "
            "(to prevent that: cordctl pause RUN)"
        )


@dataclass(frozen=True, slots=True)
class LocalWorkers:
    """The workers of a run. `look_after` must be called often: it restarts processes that ended, and raises
    LocalServiceError if that does not help. `rest` sleeps, and returns early if `look_after` has something to do."""

    look_after: Callable[[], None]
    rest: Callable[[float], None] = time.sleep


def watch_until_final(
    database: Database,
    run: RunRow,
    settings: Settings,
    workers: LocalWorkers,
    view: ProgressView,
    check_interrupted: Callable[[], None],
) -> Snapshot:
    """Shows the progress of the run until each of its problems is final; returns its last state.

    Raises LimitReached once a spending limit has paused the run and all results of begun work are written.
    """
    _report_other_runs(database.run(unfinished_run_names), run, view.say)
    watched = RunWatch(database, run, worker_timeout_seconds=settings.worker_timeout_seconds, starts_workers=True)

    def on_round() -> None:
        check_interrupted()
        workers.look_after()

    def on_snapshot(snapshot: Snapshot) -> None:
        if snapshot.pause_reason is not None and not snapshot.counts.leased:
            raise limit_reached(snapshot.run, snapshot.pause_reason)

    with view:
        return watch_run(
            watched,
            view,
            interval_seconds=_INTERVAL_SECONDS,
            on_round=on_round,
            on_snapshot=on_snapshot,
            rest=workers.rest,
        )


@contextmanager
def local_workers(
    config: RunConfig,
    config_path: Path,
    settings: Settings,
    services: RunServices,
    say: Callable[[str], None],
    fork_server: ForkServer | None,
) -> Iterator[LocalWorkers]:
    """Workers for the models of `config`, whose file is `config_path`, for the length of a `with`: those that `up` has
    started, else new ones. Raises LocalServiceError if those of `up` serve other models."""
    running = find_background(settings)
    if running is not None:
        if not running.serves(config):
            raise LocalServiceError(
                f"cordctl up runs for {running.state_dir} with other models ({', '.join(sorted(running.models))}). "
                "Stop it first (cordctl down), or use another folder (--state-dir)."
            )
        say(f"using the workers that run in the background (cordctl up, pid {running.pid})")
        yield LocalWorkers(lambda: check_background(settings))
        return
    specs = process_specs(config, config_path, settings, services.endpoints, services.state.path)
    sentence = f"starting a coordinator and a worker for each model: {', '.join(fleet_models(config).values())}"
    with supervised_workers(specs, settings, services, say, sentence, fork_server) as workers:
        yield workers


@contextmanager
def supervised_workers(
    specs: Sequence[ProcessSpec],
    settings: Settings,
    services: RunServices,
    say: Callable[[str], None],
    sentence: str,
    fork_server: ForkServer | None = None,
) -> Iterator[LocalWorkers]:
    """Keeps these processes running for the length of a `with`; `say` gets `sentence` when they start."""
    supervisor = Supervisor(specs, grace_seconds=settings.grace_seconds + _STOP_MARGIN_SECONDS, fork_server=fork_server)
    try:
        supervisor.start()
        say(sentence)
        reported: list[str] = []

        def look_after() -> None:
            _look_after(supervisor, say)
            if fork_server is not None and fork_server.failure is not None and not reported:
                reported.append(fork_server.failure)
                say(f"workers start more slowly, without the fork server: {fork_server.failure}")

        yield LocalWorkers(look_after, supervisor.rest)
    finally:
        say(f"stopping the workers{' and services' if services.embedded else ''}")
        try:
            supervisor.stop()
        except KeyboardInterrupt:
            # A second interrupt: running generations are cancelled, which loses nothing that was committed.
            supervisor.stop(0.0)
            raise


def _look_after(supervisor: Supervisor, say: Callable[[str], None]) -> None:
    for event in supervisor.poll():
        if event.kind is EventKind.GAVE_UP and event.error is not None:
            raise event.error
        if event.kind in {EventKind.FAILED, EventKind.STOPPED}:
            say(f"process {event}")
