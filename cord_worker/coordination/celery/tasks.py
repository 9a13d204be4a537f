"""The Celery tasks: thin names for what the process's model worker or coordinator does.

Arguments are ids, so that Flower shows at a glance which problem and step a task is about.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError
from dataclasses import dataclass
from typing import TYPE_CHECKING

from celery import current_task
from celery.exceptions import Reject

from cord_worker import metrics
from cord_worker.coordination.broker.incoming_messages import SENT_AT
from cord_worker.coordination.celery.wakeup import RECEIVED_AT
from cord_worker.coordination.coordinator.check_answers import AnswerChecks
from cord_worker.coordination.coordinator.coordinator import Coordinator
from cord_worker.coordination.model_worker.worker import ModelWorker, Way
from cord_worker.coordination.stuck_threads import working
from cord_worker.errors import EngineError, RequestError
from cord_worker.local.limits import explained, is_passing

if TYPE_CHECKING:
    from celery import Celery

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Process:
    """What this process serves; set before it consumes."""

    model_worker: ModelWorker | None = None
    coordinator: Coordinator | None = None
    checks: AnswerChecks | None = None
    draining: bool = False
    engine_died: Callable[[EngineError], None] | None = None
    describe_broker: Callable[[str | None], None] = lambda _: None
    """Is told what keeps the broker from sending work here, and None when it does."""


PROCESS = Process()
"""The one process-wide state: Celery calls tasks by name and knows nothing of ours."""


def register(app: Celery) -> None:
    """Registers the tasks with `app`."""
    for name, task in {**_of_coordinators(), **_of_model_workers()}.items():
        app.task(_in_one_line(task), name=name)


def served(known: Iterable[str]) -> frozenset[str]:
    """Which of the `known` tasks this process takes: another one, in a queue that is not for it, would come back for
    ever."""
    others = set(_of_model_workers() if PROCESS.model_worker is None else ())
    others |= set(_of_coordinators() if PROCESS.coordinator is None else ())
    return frozenset(name for name in known if name not in others)


def _of_coordinators() -> dict[str, Callable[..., None]]:
    return {f"cord.{task.__name__}": task for task in (advance, verify)}


def _of_model_workers() -> dict[str, Callable[..., None]]:
    return {f"cord.{task.__name__}": task for task in (propose, score, judge, answer, verdict)}


def _in_one_line(task: Callable[..., None]) -> Callable[..., None]:
    """The task; where a limit of the machine ends it, one line says so, and the sweeper has it done again."""

    @functools.wraps(task)
    def limited(**arguments: int) -> None:
        try:
            task(**arguments)
        except (OSError, MemoryError, RuntimeError) as error:
            if not is_passing(error):
                raise
            logger.warning("%s of problem %s: %s", task.__name__, arguments.get("problem_id"), explained(error))

    return limited


def advance(*, problem_id: int, step: int) -> None:
    """Decides what follows the problem's step (`step` is for the reader; the tables know it)."""
    del step
    with working("a decision"):
        _coordinator().advance(problem_id)


def verify(*, problem_id: int, step: int) -> None:
    """Checks the problem's final answers."""
    del step
    if PROCESS.checks is None:
        raise Reject("this process is no coordinator", requeue=True)
    PROCESS.checks.verify(problem_id)


def propose(*, problem_id: int, step: int) -> None:
    """Proposes the candidates of the problem's step that this model's teachers write."""
    del step
    way = _started("propose")
    _in_engine(lambda worker: worker.propose(problem_id, way))


def score(*, problem_id: int, step: int) -> None:
    """Scores the problem's candidates that wait for it."""
    del step
    way = _started("score")
    _in_engine(lambda worker: worker.score(problem_id, way))


def judge(*, problem_id: int, step: int) -> None:
    """Judges the problem's candidates that wait for it."""
    del step
    way = _started("judge")
    _in_engine(lambda worker: worker.judge(problem_id, way))


def answer(*, problem_id: int, step: int) -> None:
    """Writes the problem's final answers that are this model's: after its winning trajectory, or after all of them."""
    del step
    _started("answer")
    _in_engine(lambda worker: worker.answer(problem_id))


def verdict(*, problem_id: int, step: int) -> None:
    """Judges the problem's final answer."""
    del step
    _started("verdict")
    _in_engine(lambda worker: worker.verdict(problem_id))


def _in_engine(work: Callable[[ModelWorker], int]) -> None:
    worker = PROCESS.model_worker
    if worker is None or PROCESS.draining:
        raise Reject("this process takes no more model work", requeue=True)
    try:
        with metrics.TASKS_RUNNING.track_inprogress():
            work(worker)
    except CancelledError:
        logger.info("not begun, or handed back unfinished: this worker is shutting down and others do it")
    except RequestError:
        raise
    except EngineError as error:
        if PROCESS.engine_died is not None:
            PROCESS.engine_died(error)
        raise


def _started(kind: str) -> Way:
    """Observes how the message came here."""
    request = current_task.request
    start = time.perf_counter() - request.get(RECEIVED_AT, time.perf_counter())
    sent_at = request.get(SENT_AT)
    transit = max(0.0, time.time() - sent_at - start) if isinstance(sent_at, int | float) else 0.0
    metrics.TASK_PARTS.labels(kind, "start").observe(start)
    metrics.TASK_PARTS.labels(kind, "transit").observe(transit)
    return Way(transit, start)


def _coordinator() -> Coordinator:
    if PROCESS.coordinator is None:
        raise Reject("this process is no coordinator", requeue=True)
    return PROCESS.coordinator
