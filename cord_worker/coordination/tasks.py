"""The Celery tasks: thin names for what the process's model worker or coordinator does.

Arguments are ids, so that Flower shows at a glance which problem and step a task is about.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import CancelledError
from dataclasses import dataclass
from typing import TYPE_CHECKING

from celery.exceptions import Reject

from cord_worker.coordination.coordinator import Coordinator
from cord_worker.coordination.model_worker import ModelWorker
from cord_worker.errors import EngineError, RequestError

if TYPE_CHECKING:
    from celery import Celery

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Process:
    """What this process serves; set before it consumes."""

    model_worker: ModelWorker | None = None
    coordinator: Coordinator | None = None
    draining: bool = False
    engine_died: Callable[[EngineError], None] | None = None


PROCESS = Process()
"""The one process-wide state: Celery calls tasks by name and knows nothing of ours."""


def register(app: Celery) -> None:
    """Registers the five tasks with `app`."""
    app.task(advance, name="cord.advance")
    app.task(verify, name="cord.verify")
    app.task(propose, name="cord.propose")
    app.task(score, name="cord.score")
    app.task(answer, name="cord.answer")


def advance(*, problem_id: int, step: int) -> None:
    """Decides what follows the problem's step (`step` is for the reader; the tables know it)."""
    del step
    _coordinator().advance(problem_id)


def verify(*, problem_id: int, step: int) -> None:
    """Checks the problem's final answer."""
    del step
    _coordinator().verify(problem_id)


def propose(*, problem_id: int, step: int, teacher_id: int) -> None:
    """Proposes the teacher's candidates of the problem's step."""
    del step
    _in_engine(lambda worker: worker.propose(problem_id, teacher_id))


def score(*, problem_id: int, step: int) -> None:
    """Scores the problem's candidates that wait for it."""
    del step
    _in_engine(lambda worker: worker.score(problem_id))


def answer(*, problem_id: int, step: int) -> None:
    """Writes the final answer after the problem's winning trajectory."""
    del step
    _in_engine(lambda worker: worker.answer(problem_id))


def _in_engine(work: Callable[[ModelWorker], int]) -> None:
    worker = PROCESS.model_worker
    if worker is None or PROCESS.draining:
        raise Reject("this process takes no more model work", requeue=True)
    try:
        work(worker)
    except CancelledError:
        logger.info("handed back unfinished: this worker is shutting down")
    except RequestError:
        raise
    except EngineError as error:
        if PROCESS.engine_died is not None:
            PROCESS.engine_died(error)
        raise


def _coordinator() -> Coordinator:
    if PROCESS.coordinator is None:
        raise Reject("this process is no coordinator", requeue=True)
    return PROCESS.coordinator
