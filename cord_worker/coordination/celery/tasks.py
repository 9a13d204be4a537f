"""The Celery tasks: thin functions that call the process's model worker or coordinator.

Their arguments are a problem's id and step, which Flower shows.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from celery import current_task
from celery.exceptions import Reject

from cord_worker import metrics
from cord_worker.coordination.broker.incoming_messages import SENT_AT
from cord_worker.coordination.celery.wakeup import RECEIVED_AT
from cord_worker.coordination.coordinator.check_answers import AnswerChecks
from cord_worker.coordination.coordinator.coordinator import Coordinator
from cord_worker.coordination.log_fields import about
from cord_worker.coordination.model_worker.accounting import Transit
from cord_worker.coordination.model_worker.worker import ModelWorker
from cord_worker.coordination.stuck_threads import working
from cord_worker.errors import EngineError, RequestError
from cord_worker.local.limits import is_temporary, limit_that_caused
from cord_worker.store.schema import kinds
from cord_worker.store.schema.kinds import ADVANCE, VERIFY

if TYPE_CHECKING:
    from celery import Celery

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class ProcessParts:
    """The parts of this process that tasks call; set before it consumes messages."""

    model_worker: ModelWorker | None = None
    coordinator: Coordinator | None = None
    checks: AnswerChecks | None = None
    draining: bool = False
    engine_died: Callable[[EngineError], None] | None = None
    describe_broker: Callable[[str | None], None] = lambda _: None
    """Called with what keeps the broker from sending work to this process, and with None when it sends again."""


PROCESS = ProcessParts()
"""Global, because Celery calls tasks by name and can pass them no object of ours."""


def register(app: Celery) -> None:
    """Registers the tasks with `app`: two of the coordinator, and one for each kind of work that models do."""
    for name, task in {**_coordinator_tasks(), **_model_worker_tasks()}.items():
        app.task(task, name=name)


def served_tasks(known: Iterable[str]) -> frozenset[str]:
    """The `known` tasks that this process does. A task for another kind of process, put into a wrong queue, would be
    rejected and come back forever."""
    others = set(_model_worker_tasks() if PROCESS.model_worker is None else ())
    others |= set(_coordinator_tasks() if PROCESS.coordinator is None else ())
    return frozenset(name for name in known if name not in others)


def _coordinator_tasks() -> dict[str, Callable[..., None]]:
    return {f"cord.{ADVANCE}": advance, f"cord.{VERIFY}": verify}


def _model_worker_tasks() -> dict[str, Callable[..., None]]:
    return {f"cord.{kind.name}": _model_task(kind.name) for kind in kinds.served_by_models()}


@contextmanager
def _logging_machine_limits(task: str, problem_id: int) -> Iterator[None]:
    """If a limit of the machine ends the task, logs one line; the sweeper sends the work again."""
    try:
        yield
    except (OSError, MemoryError, RuntimeError) as error:
        if not is_temporary(error):
            raise
        logger.warning("%s of problem %s: %s", task, problem_id, limit_that_caused(error))


def advance(*, problem_id: int, step: int) -> None:
    """Takes the problem's decision. The tables hold the current step; `step` is only for logs and Flower."""
    if PROCESS.coordinator is None:
        raise Reject("this process is not a coordinator", requeue=True)
    with (
        _about(problem_id, step),
        _logging_machine_limits(ADVANCE, problem_id),
        working("a decision"),
    ):
        PROCESS.coordinator.advance(problem_id)


def verify(*, problem_id: int, step: int) -> None:
    """Asks the thread of the checks to verify the problem's final answers."""
    if PROCESS.checks is None:
        raise Reject("this process is not a coordinator", requeue=True)
    with _about(problem_id, step), _logging_machine_limits(VERIFY, problem_id):
        PROCESS.checks.verify(problem_id)


def _about(problem_id: int, step: int) -> AbstractContextManager[None]:
    """Makes lines of the log name this problem and step; a message sent before the first step has step 0."""
    return about(problem=problem_id, step=step) if step else about(problem=problem_id)


def _model_task(kind: str) -> Callable[..., None]:
    def model_work(*, problem_id: int, step: int) -> None:
        """Does the problem's pieces of this kind of work that belong to this process's model."""
        transit = _observe_transit(kind)
        worker = PROCESS.model_worker
        if worker is None or PROCESS.draining:
            raise Reject("this process takes no more model work", requeue=True)
        with _about(problem_id, step):
            try:
                with _logging_machine_limits(kind, problem_id), metrics.TASKS_RUNNING.track_inprogress():
                    worker.handle(kind, problem_id, transit)
            except CancelledError:
                logger.info("a task is left to others, because this worker is shutting down")
            except RequestError:
                raise
            except EngineError as error:
                if PROCESS.engine_died is not None:
                    PROCESS.engine_died(error)
                raise

    return model_work


def _observe_transit(kind: str) -> Transit:
    """How long the message took to arrive; also observed in the metrics."""
    request = current_task.request
    start = time.perf_counter() - request.get(RECEIVED_AT, time.perf_counter())
    sent_at = request.get(SENT_AT)
    broker = max(0.0, time.time() - sent_at - start) if isinstance(sent_at, int | float) else 0.0
    metrics.TASK_PARTS.labels(kind, "start").observe(start)
    metrics.TASK_PARTS.labels(kind, "transit").observe(broker)
    return Transit(broker, start)
