"""Answer: the last step's teacher writes the final answer after a finished trajectory."""

from __future__ import annotations

import functools
import logging

import sqlalchemy as sa

from cord_worker.coordination.decision import answer_seeds
from cord_worker.coordination.fault_points import FaultPoint
from cord_worker.coordination.model_worker.handler import AnyEngineHandler, Host, WorkImpossible
from cord_worker.coordination.model_worker.request_errors import reason_of
from cord_worker.coordination.run_context import RunContext
from cord_worker.engines.protocol import Generation, Sampling, Turn
from cord_worker.errors import ContentFilterError, RequestError
from cord_worker.search.validity import storable
from cord_worker.store.search.decisions import fail_problem
from cord_worker.store.work import answer
from cord_worker.store.work.answer import AnswerResult, LeasedAnswer

logger = logging.getLogger(__name__)


class Answer(AnyEngineHandler):
    """The handler of `kinds.ANSWER`."""

    finishes_at_once = False

    def __init__(self, host: Host) -> None:
        self._host = host
        self.claim = functools.partial(answer.claim, worker_id=host.worker_id, model=host.model)
        self.finish = functools.partial(answer.finish, worker_id=host.worker_id)

    async def handle(self, lease: LeasedAnswer, context: RunContext) -> AnswerResult:
        """The final answer. If the model refuses the request, a sample gets the refusal as its result; in a search this
        raises WorkImpossible."""
        try:
            seed, generation = await self._draw(lease, context)
        except RequestError as error:
            if context.config.is_scored:
                reason = f"the final answer cannot be written: {error}"
                fail = functools.partial(self._fail, problem_id=lease.problem_id, reason=reason)
                raise WorkImpossible(reason, FaultPoint.FAIL_ANSWER, fail) from error
            logger.warning("trajectory %d: %s", lease.trajectory_id, error)
            return AnswerResult(
                trajectory_id=lease.trajectory_id,
                attempt=lease.attempt,
                text="",
                finish_reason=reason_of(error).value,
                prompt_tokens=0,
                completion_tokens=0,
                cached_tokens=0,
                seconds=0.0,
            )
        return AnswerResult(
            trajectory_id=lease.trajectory_id,
            attempt=lease.attempt,
            text=storable(generation.text),
            finish_reason=generation.finish_reason.value,
            prompt_tokens=generation.prompt_tokens,
            completion_tokens=generation.completion_tokens,
            cached_tokens=generation.cached_tokens,
            seconds=generation.seconds,
            seed=seed,
        )

    async def _draw(self, lease: LeasedAnswer, context: RunContext) -> tuple[int, Generation]:
        """The final answer and its seed: the first of the seeds whose answer no content filter refuses.

        Raises RequestError; if all attempts were refused, the last refusal.
        """
        row, teacher = context.teacher(lease.teacher_id)
        turn = Turn(lease.question, row.system_prompt, lease.passage, context.segmentation, context.date)
        seeds = [lease.seed, *answer_seeds(context, lease.key, lease.lineage, teacher.name)[1:]]
        draws = len(seeds)
        for draw, seed in enumerate(seeds):
            sampling = Sampling.of(teacher, context.config.search.answer_tokens, seed, answer_tokens=0)
            try:
                return seed, await self._host.engine.answer(turn, lease.steps, sampling)
            except ContentFilterError as error:
                if draws == 1:
                    raise
                if draw + 1 == draws:
                    raise ContentFilterError(f"{error}; all {draws} draws were refused") from error
                logger.warning("trajectory %d: draw %d of %d: %s", lease.trajectory_id, draw + 1, draws, error)
        raise AssertionError("there is one draw at least")

    def _fail(self, connection: sa.Connection, problem_id: int, reason: str) -> None:
        """Fails the problem; the leases of its other answers are returned."""
        answer.return_answers(connection, self._host.worker_id, problem_id)
        fail_problem(connection, problem_id, reason)
