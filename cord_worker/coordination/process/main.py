"""The two kinds of process, both plain Celery workers: one hosts a model, the other is a coordinator."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING

from celery import signals
from celery.exceptions import SecurityWarning
from celery.worker import state as worker_state

from cord_worker import metrics
from cord_worker.config import ModelConfig, Settings
from cord_worker.coordination import log_fields
from cord_worker.coordination.broker.broker_check import check_broker
from cord_worker.coordination.celery.app import create_app
from cord_worker.coordination.celery.tasks import PROCESS
from cord_worker.coordination.celery.wakeup import call_in_consumer_loop
from cord_worker.coordination.coordinator.check_answers import AnswerChecks
from cord_worker.coordination.coordinator.coordinator import Coordinator
from cord_worker.coordination.coordinator.retry_decisions import retry_thread
from cord_worker.coordination.coordinator.sweeper import Sweeper
from cord_worker.coordination.coordinator.table_metrics import TableMetrics
from cord_worker.coordination.fault_points import FaultPoint, arm
from cord_worker.coordination.messaging.messenger import COORDINATOR_QUEUE, Messenger, queue_name
from cord_worker.coordination.messaging.routing import Shards, model_queue
from cord_worker.coordination.model_worker.group_commit import COMMITS
from cord_worker.coordination.model_worker.work_stealing import WorkStealer
from cord_worker.coordination.model_worker.worker import ModelWorker
from cord_worker.coordination.process.health import Health
from cord_worker.coordination.process.registration import Registration
from cord_worker.coordination.process.shutdown import Shutdown, exit_now
from cord_worker.coordination.stuck_threads import ThreadWatch, WatchedWork
from cord_worker.coordination.transactions import TRANSACTION, commit, read
from cord_worker.endpoints import broker_url, database_url
from cord_worker.engines import Engine, load_engine
from cord_worker.engines.protocol import Describe
from cord_worker.engines.settings import EngineSettings
from cord_worker.errors import BrokerError, BrokerRefused, ConfigError, CordError, EngineError, EngineLoadError
from cord_worker.local.limits import limit_that_caused
from cord_worker.store.database import Database
from cord_worker.store.runs.enqueue import ensure_model
from cord_worker.store.schema.tables import WorkerRole
from cord_worker.store.schema.version import check_schema
from cord_worker.store.work import workers
from cord_worker.verify import AnswerChecker

if TYPE_CHECKING:
    from celery import Celery

logger = logging.getLogger(__name__)

_ENGINE_DIED_EXIT_CODE = 1
_STUCK_EXIT_CODE = 70
"""Exit code of a coordinator with a thread that hangs (EX_SOFTWARE)."""
_RETRIES_PER_RESEND = 20
"""A failed decision is tried again after `resend_seconds` divided by this: after 1 s if `resend_seconds` is 20."""
_MAX_RETRY_SECONDS = 1.0
_ENGINE_LOOP, _CONSUMER = "the engine's event loop", "the consumer"
_IDLE_TRANSACTION_SECONDS = 10.0
"""A process that hangs within a transaction loses it, and the locks that others wait for, after this time."""
_INTERRUPT_SECONDS = 1.0
"""If a signal arrives this soon after the engine died, the same Ctrl-C has ended both."""
_NOISY_LOGGERS = (
    "celery.app.trace",
    "celery.worker.strategy",
    "celery.worker.consumer.connection",
    "celery.worker.consumer.tasks",
    "alembic",
    "httpx",
    "httpx2",
)
_EXPIRE_FACTOR = 1.5
"""A model worker waits this many times the timeout before it declares others lost, so that coordinators do it first."""


def run_model_worker(model: ModelConfig, settings: Settings, *, name: str, concurrency: int | None = None) -> int:
    """Hosts `model` and serves its queue until SIGTERM; returns the exit code.

    The engine is loaded before the process consumes. Raises EngineLoadError if the model cannot be loaded or its files
    differ from those of other workers, SchemaMismatch if the database's schema is not this code's.
    """
    _prepare(settings, worker=name, model=model.path)
    metrics.PROCESS_INFO.labels(WorkerRole.MODEL, model.path).set(1)
    app = create_app(_broker_url(settings), settings)
    health = Health()
    with ExitStack() as stack:
        database = _open_database(settings, f"cord worker {name}", pool_size=3)
        stack.callback(database.close)
        check_schema(database)
        loop = stack.enter_context(_loop_in_thread())
        fingerprint = model.fingerprint()
        model_id = commit(
            database,
            FaultPoint.ENTER_MODEL,
            lambda connection: ensure_model(connection, fingerprint, model.path, model.identity()),
        )
        # Registered before the model is loaded, so that `cordctl status` shows the loading. Work is sent only once the
        # process is ready.
        registration = stack.enter_context(
            Registration(
                database,
                WorkerRole.MODEL,
                heartbeat_seconds=settings.heartbeat_seconds,
                model_id=model_id,
                metrics_port=_serve_metrics(settings, health),
                condition="loads its model",
                expires_seconds=_EXPIRE_FACTOR * settings.worker_timeout_seconds,
            )
        )
        loading = asyncio.run_coroutine_threadsafe(_load(EngineSettings.of(model), registration.describe), loop)
        engine = _wait_for_engine(loading, model, settings.load_timeout_seconds)
        stack.callback(lambda: asyncio.run_coroutine_threadsafe(engine.close(), loop).result(timeout=30))
        commit(
            database,
            FaultPoint.CHECK_WEIGHTS,
            lambda connection: workers.check_weights(connection, model_id, engine.weights_digest),
        )
        conflicting = read(
            database,
            lambda connection: workers.find_other_scores(connection, model_id, engine.scoring_mode),
        )
        other = conflicting[0] if conflicting else None
        if other is not None and engine.scoring_mode is None:
            raise EngineLoadError(
                f"model {name} is the prover of {other.kind} {other.name!r}, but its server gives no "
                "log-probabilities of a prompt. Serve it with vLLM (`vllm serve`), or host it here with engine = "
                f'"vllm" or "transformers"; or end that {other.kind}: {other.ending}'
            )
        if other is not None:
            raise EngineLoadError(
                f"model {name}: this worker scores in mode {engine.scoring_mode!r}, but {other.kind} "
                f"{other.name!r} has scores in mode {other.scoring_mode!r}, and scores of one {other.kind} "
                "must be comparable. Start the worker with the same engine, dtype and version, or finish that "
                f"{other.kind} first, or end it: {other.ending}"
            )
        messenger = Messenger(app, Shards(database), partial(registration.describe, topic="sending"))
        worker = ModelWorker(
            database,
            messenger,
            engine,
            loop,
            registration.worker_id,
            fingerprint,
            width=model.batch_size,
            describe=registration.describe,
        )
        stack.callback(worker.close)
        stack.push(registration)  # leases are returned before the engine ends
        registration.on_heartbeat(worker.reconcile)
        queue = model_queue(fingerprint, registration.shard or 0)
        stealer = stack.enter_context(
            WorkStealer(
                database,
                messenger,
                model=fingerprint,
                queue=queue,
                steal_seconds=settings.steal_seconds,
                room=lambda: model.batch_size - worker.leased_candidates() if worker.takes_more else 0,
            )
        )
        PROCESS.model_worker = worker

        def forget_leases(work: WatchedWork) -> None:
            # A model takes minutes to load, so the process stays, and other workers do the work that it holds.
            if work.what in (COMMITS, TRANSACTION, _ENGINE_LOOP):
                worker.forget_held_leases()

        watch = stack.enter_context(
            ThreadWatch(
                settings.stuck_seconds,
                describe=registration.describe,
                on_stuck=forget_leases,
                loops={_ENGINE_LOOP: loop.call_soon_threadsafe, _CONSUMER: call_in_consumer_loop},
            )
        )
        health.watch(watch.hanging_loops)

        def leave() -> None:
            worker.refuse()
            stealer.stop()
            registration.leave_shard()

        return _consume(
            app,
            settings,
            name=name,
            queue=queue,
            concurrency=concurrency or max(2, model.batch_size),
            registration=registration,
            health=health,
            leave=leave,
            abort=worker.abort,
        )


def run_coordinator(settings: Settings, *, concurrency: int = 8) -> int:
    """Decides, admits, verifies and sweeps until SIGTERM; returns the exit code.

    Raises SchemaMismatch if the database's schema is not this code's.
    """
    _prepare(settings, worker="coordinator")
    metrics.PROCESS_INFO.labels(WorkerRole.COORDINATOR, "").set(1)
    app = create_app(_broker_url(settings), settings)
    health = Health()
    with ExitStack() as stack:
        database = _open_database(settings, "cord coordinator", pool_size=concurrency + 2)
        stack.callback(database.close)
        check_schema(database)
        shards = Shards(database)
        checker = stack.enter_context(AnswerChecker())
        registration = stack.enter_context(
            Registration(
                database,
                WorkerRole.COORDINATOR,
                heartbeat_seconds=settings.heartbeat_seconds,
                metrics_port=_serve_metrics(settings, health),
            )
        )
        messenger = Messenger(app, shards, partial(registration.describe, topic="sending"))
        coordinator = PROCESS.coordinator = Coordinator(
            database,
            messenger,
            checker,
            registration.worker_id,
            pause_seconds=settings.resend_seconds / _RETRIES_PER_RESEND,
            describe=partial(registration.describe, topic="decisions"),
        )
        checks = PROCESS.checks = AnswerChecks(
            database,
            messenger,
            checker,
            registration.worker_id,
            describe=partial(registration.describe, topic="checks"),
            admit=coordinator.admit,
        )
        stack.callback(checks.close)
        registration.on_heartbeat(checks.reconcile)
        sweeper = stack.enter_context(Sweeper(database, messenger, shards, settings))
        if settings.metrics_port is not None:
            stack.enter_context(
                TableMetrics(database, lambda: sweeper.leads, worker_timeout_seconds=settings.worker_timeout_seconds)
            )
        stack.enter_context(retry_thread(coordinator, min(settings.sweep_seconds, _MAX_RETRY_SECONDS)))

        def end_process(work: WatchedWork) -> None:
            logger.critical("this coordinator ends, to be started again: %s hangs", work.what)
            exit_now(registration.sign_off, _STUCK_EXIT_CODE)

        watch = stack.enter_context(
            ThreadWatch(
                settings.stuck_seconds,
                describe=registration.describe,
                on_stuck=end_process,
                loops={_CONSUMER: call_in_consumer_loop},
            )
        )
        health.watch(watch.hanging_loops)
        return _consume(
            app,
            settings,
            name="coordinator",
            queue=COORDINATOR_QUEUE,
            concurrency=concurrency,
            registration=registration,
            health=health,
            leave=checks.refuse,
            abort=checks.abort,
        )


def _consume(
    app: Celery,
    settings: Settings,
    *,
    name: str,
    queue: str,
    concurrency: int,
    registration: Registration,
    health: Health,
    leave: Callable[[], None],
    abort: Callable[[], None],
) -> int:
    """Consumes messages from `queue` until the process is asked to end; returns the exit code.

    Raises the error that ended the process, such as EngineError or SchemaMismatch.
    """
    worker = app.Worker(
        hostname=f"{name}-{os.getpid()}@{socket.gethostname()}",
        pool="threads",
        concurrency=concurrency,
        queues=[queue_name(app, queue)],
        loglevel=settings.log_level,
        without_gossip=True,
        without_mingle=True,
        quiet=True,
    )
    shutdown = Shutdown(settings.grace_seconds, leave=leave, abort=abort, sign_off=registration.sign_off)

    def shut_down(**_: object) -> None:
        PROCESS.draining = True
        health.end()
        shutdown.begin()

    def engine_died(error: EngineError) -> None:
        # A terminal's Ctrl-C also ends the engine's processes, perhaps before this one: that is not a failure.
        if not shutdown.started.wait(_INTERRUPT_SECONDS) and shutdown.error is None:
            shutdown.error = error
            logger.critical("the engine died, this worker ends and its work goes to others: %s", error)
            PROCESS.draining = True
            worker_state.should_stop = _ENGINE_DIED_EXIT_CODE

    def become_ready(**_: object) -> None:
        registration.mark_ready()
        registration.set_handlers(drain=shutdown.drain, fail=shutdown.fail)
        health.begin()
        if settings.ready_file is not None:
            settings.ready_file.touch()

    PROCESS.engine_died = engine_died
    PROCESS.describe_broker = registration.describe_broker
    signals.worker_ready.connect(become_ready, weak=False)
    signals.worker_shutting_down.connect(shut_down, weak=False)
    worker.start()
    if shutdown.error is not None:
        raise shutdown.error
    # Celery's exit code would be that of a failure after Ctrl-C.
    return 0 if shutdown.started.is_set() else int(worker.exitcode or 0)


async def _load(settings: EngineSettings, describe: Describe) -> Engine:
    """Loads the engine on the loop that will run it. Raises EngineLoadError for any error of a library."""
    try:
        return load_engine(settings, describe)
    except CordError:
        raise
    except Exception as error:
        logger.debug("the model could not be hosted", exc_info=True)
        raise EngineLoadError(
            f"model {settings.path!r} could not be hosted: {type(error).__name__}: {' '.join(str(error).split())[:500]}"
        ) from error


def _wait_for_engine(loading: Future[Engine], model: ModelConfig, seconds: float) -> Engine:
    """The engine, once it is loaded.

    Raises EngineLoadError, including when loading takes longer than `seconds`; for a server there is no limit.
    """
    try:
        return loading.result(None if model.engine == "openai" else seconds)
    except TimeoutError as error:
        if loading.done():  # a timeout within the engine
            raise
        raise EngineLoadError(
            f"model {model.path!r} was not loaded within {seconds:g} s; look at the disk or the network that its files "
            "come from, or raise CORD_LOAD_TIMEOUT_SECONDS"
        ) from error


@contextmanager
def _loop_in_thread() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    is_over = threading.Event()

    def run() -> None:
        while not is_over.is_set():
            try:
                loop.run_forever()
            except Exception as error:  # noqa: BLE001 - memory or file handles run out for a moment; the engine lives
                logger.error(
                    "the engine's loop was interrupted and continues: %s", limit_that_caused(error) or repr(error)
                )

    thread = threading.Thread(target=run, name="engine-loop", daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        is_over.set()
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=10)


def _open_database(settings: Settings, name: str, *, pool_size: int) -> Database:
    return Database(
        database_url(settings),
        pool_size=pool_size,
        application_name=f"{name} {os.getpid()}",
        idle_transaction_seconds=_IDLE_TRANSACTION_SECONDS,
        by_keys=True,
        waits_for_tables=True,
    )


def _broker_url(settings: Settings) -> str:
    """URL of the broker. A broker that is away is not an error; raises BrokerRefused if waiting for it cannot help."""
    url = broker_url(settings)
    try:
        check_broker(url, settings.key_prefix)
    except BrokerRefused:
        raise
    except BrokerError as error:
        logger.warning("%s; waiting for it", error)
    return url


def _serve_metrics(settings: Settings, health: Health) -> int | None:
    if settings.metrics_port is None:
        return None
    try:
        return metrics.serve_metrics(settings.metrics_port, settings.metrics_host, health.probes)
    except OSError as error:
        raise ConfigError(
            f"CORD_METRICS_PORT: port {settings.metrics_port} of {settings.metrics_host} cannot be served: {error}. "
            "Several processes on one machine need CORD_METRICS_PORT=0, which takes any free one."
        ) from error


def _prepare(settings: Settings, **process: object) -> None:
    log_fields.configure(settings.log_level, settings.log_format, **process, host=socket.gethostname(), pid=os.getpid())
    # Celery warns because it would unpickle messages; this application accepts JSON only.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    for name in _NOISY_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    if settings.ready_file is not None:  # a container that is started again keeps the file of its last start
        settings.ready_file.unlink(missing_ok=True)
    arm()
