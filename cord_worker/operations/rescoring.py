"""Scores the stored candidates of a run with another prover: `cordctl rescore`.

It queues the candidates in the tables, as enqueuing does with problems. Workers of the prover's model do the rest. On
one machine the command also starts such a worker and a coordinator, shows the progress and stops them again. After any
interruption, the same command continues.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from cord_worker import endpoints
from cord_worker.config import NAME_PATTERN, ModelConfig, ProverConfig, RunConfig, Settings
from cord_worker.display_text import counted
from cord_worker.errors import ConfigError, RunConflict
from cord_worker.operations.background import check_background, find_background
from cord_worker.operations.database import ensure_schema, open_database
from cord_worker.operations.fleet import COORDINATOR, check_limits_of, check_models, model_named, specs_of
from cord_worker.operations.local_run import LocalWorkers, announce_command, preparation, supervised_workers
from cord_worker.operations.services import RunServices, services_for
from cord_worker.store.database import Database
from cord_worker.store.reports.status import live_workers, worker_conditions
from cord_worker.store.runs.rescorings import (
    BegunRescoring,
    RescoringCounts,
    begin_rescoring,
    find_rescoring,
    rescores_left,
    rescoring_counts,
)
from cord_worker.store.runs.runs import get_run
from cord_worker.store.schema.tables import RunState

_INTERVAL_SECONDS = 0.5
_REPORT_SECONDS = 5.0
_REPEAT_SECONDS = 60.0
"""A sentence that has not changed is printed again after this time."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class RescoreTask:
    """A rescoring to execute. `model_name` is the name of the prover's model in the configuration file."""

    run: str
    name: str
    model_name: str
    model: ModelConfig
    prover: ProverConfig
    config_path: Path
    settings: Settings
    retry: bool = False

    @property
    def is_embedded(self) -> bool:
        """Whether a server is embedded in the state folder."""
        return self.settings.database_url is None or self.settings.broker_url is None

    @property
    def worker_command(self) -> str:
        """The command that starts a worker of the prover's model."""
        return f"cordctl worker {shlex.quote(self.model_name)} --config {shlex.quote(str(self.config_path))}"


@dataclass(frozen=True, slots=True)
class RescoreOutcome:
    """The result of the command: what it queued, and how far the rescoring is. `missing` names the roles and models
    without a living process; `seconds` is the time that the command waited, None if it did not wait."""

    begun: BegunRescoring
    counts: RescoringCounts
    missing: tuple[str, ...]
    seconds: float | None

    @property
    def label(self) -> str:
        """RUN@NAME."""
        return f"{self.begun.run.name}@{self.begun.rescoring.name}"

    def to_json(self) -> dict[str, Any]:
        """For scripts; keys are stable."""
        return {
            "run": self.begun.run.name,
            "rescoring": self.begun.rescoring.name,
            "model": self.begun.rescoring.path,
            "state": self.begun.run.state,
            "created": self.begun.created,
            "added": self.begun.added,
            "retried": self.begun.retried,
            "candidates": self.counts.total,
            "scored": self.counts.scored,
            "invalid": self.counts.invalid,
            "given_up": self.counts.given_up,
            "left": self.counts.left,
            "missing_workers": list(self.missing),
        }


def read_task(
    run: str, model_name: str, name: str | None, config_path: Path, settings: Settings, *, retry: bool = False
) -> RescoreTask:
    """The task that these options of the command describe. `name` is by default `model_name`.

    The scoring template is that of the file's table [prover], if it has one. Raises ConfigError.
    """
    config = RunConfig.load(config_path, unused_models=True)
    model = model_named(config, model_name)
    if model.head == "reward":
        raise ConfigError(f"model {model_name!r} has a reward head, so it cannot be a prover")
    chosen = model_name if name is None else name
    if not NAME_PATTERN.fullmatch(chosen):
        raise ConfigError(
            f"name {chosen!r} must begin with a letter or digit and may hold letters, digits, '_', '.' and '-' only, "
            "at most 63"
        )
    prover = (config.prover or ProverConfig(model=model_name)).model_copy(update={"model": model_name})
    return RescoreTask(run, chosen, model_name, model, prover, config_path, settings, retry)


def rescore_run(
    task: RescoreTask, *, wait: bool | None, say: Say, check_interrupted: Callable[[], None]
) -> RescoreOutcome:
    """Queues the candidates, and waits for their scores if `wait`. If `wait` is None, it waits only with an embedded
    server.

    With an embedded server, it keeps the missing processes running while it waits. `say` gets sentences about the
    progress; `check_interrupted` is called often and may raise KeyboardInterrupt. Raises CordError.
    """
    settings = task.settings
    if not (task.is_embedded if wait is None else wait):
        with open_database(settings) as database:
            return _outcome(database, task, _begin(database, task), None)
    if not task.is_embedded:
        with open_database(settings) as database:
            return _wait_for_scores(
                database, task, _begin(database, task), LocalWorkers(lambda: None), say, check_interrupted
            )
    check_models({task.model_name: task.model})
    if not settings.state_dir.is_dir():
        endpoints.database_url(settings)  # raises ConfigError if there is no database, and so no run
    say(preparation(settings))
    with services_for(settings, say) as services, announce_command(services.state, say):
        ensure_schema(services.endpoints.database_url)
        with open_database(settings, url=services.endpoints.database_url) as database:
            begun = _begin(database, task)
            say(_queued_sentence(begun))
            if not begun.counts.left:
                return _outcome(database, task, begun, 0.0)
            _check_runnable(begun.run.state, begun.run.name)
            with _workers(task, services, say) as workers:
                return _wait_for_scores(database, task, begun, workers, say, check_interrupted)


def _begin(database: Database, task: RescoreTask) -> BegunRescoring:
    return database.run(
        lambda connection: begin_rescoring(connection, task.run, task.name, task.model, task.prover, retry=task.retry)
    )


def _queued_sentence(begun: BegunRescoring) -> str:
    retried = f", {counted(begun.retried, 'candidate')} given up before, to be tried again" if begun.retried else ""
    return f"{begun.run.name}@{begun.rescoring.name}: {counted(begun.added, 'candidate')} added{retried}"


def _outcome(database: Database, task: RescoreTask, begun: BegunRescoring, seconds: float | None) -> RescoreOutcome:
    def read(connection: sa.Connection) -> tuple[RescoringCounts, tuple[str, ...]]:
        counts = rescoring_counts(connection, begun.rescoring.id)
        return counts, _missing(connection, task) if counts.left else ()

    return RescoreOutcome(begun, *database.run(read), seconds)


def _missing(connection: sa.Connection, task: RescoreTask) -> tuple[str, ...]:
    there = {worker.model for worker in live_workers(connection, task.settings.worker_timeout_seconds)}
    needed = {None: COORDINATOR, task.model.fingerprint(): task.model_name}
    return tuple(name for model, name in needed.items() if model not in there)


def _wait_for_scores(
    database: Database,
    task: RescoreTask,
    begun: BegunRescoring,
    workers: LocalWorkers,
    say: Say,
    check_interrupted: Callable[[], None],
) -> RescoreOutcome:
    """Waits until no candidate is left. Raises RunConflict if the run is paused or cancelled meanwhile, and StoreError
    if it or the rescoring is removed."""
    started = reported_at = rate_since = time.monotonic()
    reported = ""
    while True:
        check_interrupted()
        workers.look_after()
        found = database.run(lambda connection: _read_progress(connection, task, begun))
        if not found.left:
            break
        _check_runnable(found.run_state, begun.run.name)
        now = time.monotonic()
        if found.left == begun.counts.left:
            rate_since = now  # the model may still be loading, so the rate counts from the first result
        if now - reported_at >= _REPORT_SECONDS:
            done = begun.counts.left - found.left
            per_second = done / (now - rate_since) if now > rate_since else 0.0
            sentence = _progress_sentence(
                task.model_name, begun.counts.total, found, per_second, are_starting=task.is_embedded
            )
            if sentence != reported or now - reported_at >= _REPEAT_SECONDS:
                say(sentence)
                reported, reported_at = sentence, now
        workers.rest(_INTERVAL_SECONDS)
    return _outcome(database, task, begun, time.monotonic() - started)


@dataclass(frozen=True, slots=True)
class _RescoringProgress:
    """How far a rescoring is, and what keeps the worker of its model from its work."""

    run_state: str
    left: int
    missing: tuple[str, ...]
    condition: str | None


def _read_progress(connection: sa.Connection, task: RescoreTask, begun: BegunRescoring) -> _RescoringProgress:
    run, model = get_run(connection, begun.run.id), task.model.fingerprint()
    find_rescoring(connection, run, begun.rescoring.name)
    conditions = worker_conditions(connection, task.settings.worker_timeout_seconds)
    return _RescoringProgress(
        run.state,
        rescores_left(connection, begun.rescoring.id),
        _missing(connection, task),
        next((one.text for one in conditions if one.model == model), None),
    )


def _progress_sentence(
    model: str, total: int, found: _RescoringProgress, per_second: float, *, are_starting: bool
) -> str:
    """A sentence about `model`; `are_starting`: this command is starting the missing processes."""
    from cord_worker.progress import duration, shown

    done = f"{total - found.left:,} of {counted(total, 'candidate')} rescored"
    if found.missing:
        why = "being started" if are_starting else "NO WORKER"
        return f"{done}; {why}: {', '.join(found.missing)}"
    if found.condition is not None:
        return f"{done}; {shown(model)} {shown(found.condition)}"
    return f"{done}, {per_second:,.1f} / s, {duration(found.left / per_second)} left" if per_second else done


def _check_runnable(state: str, run: str) -> None:
    if state == RunState.PAUSED:
        raise RunConflict(
            f"run {run!r} is paused, and its rescorings with it; they stay queued. Continue with: cordctl resume {run}"
        )
    if state == RunState.CANCELLED:
        raise RunConflict(f"run {run!r} was cancelled: its candidates are no longer scored")


@contextmanager
def _workers(task: RescoreTask, services: RunServices, say: Say) -> Iterator[LocalWorkers]:
    """A worker of the prover's model and a coordinator for the length of a `with`: those that `up` has started, else
    new ones."""
    models = {task.model_name: task.model}
    running = find_background(task.settings)
    if running is not None and task.model.fingerprint() in running.models.values():
        say(f"using the workers that run in the background (cordctl up, pid {running.pid})")
        yield LocalWorkers(lambda: check_background(task.settings))
        return
    check_limits_of(models, task.settings)
    specs = specs_of(
        models,
        task.config_path,
        task.settings,
        services.endpoints,
        services.state.path,
        has_coordinator=running is None,
    )
    sentence = f"starting {'a coordinator and ' if running is None else ''}a worker for the model {task.model_name}"
    with supervised_workers(specs, task.settings, services, say, sentence) as workers:
        yield workers
