"""Propose: a teacher writes the next step of a trajectory, or its whole rest."""

from __future__ import annotations

import functools
import logging

from cord_worker.coordination.model_worker.handler import AnyEngineHandler, Host
from cord_worker.coordination.model_worker.integrate import integrate
from cord_worker.coordination.model_worker.request_errors import reason_of
from cord_worker.coordination.run_context import RunContext
from cord_worker.engines.protocol import FinishReason, Sampling, Turn
from cord_worker.errors import RequestError
from cord_worker.search.types import InvalidReason
from cord_worker.search.validity import invalid_reason, storable, text_key
from cord_worker.store.work import propose
from cord_worker.store.work.propose import LeasedProposal, ProposalResult

logger = logging.getLogger(__name__)


class Propose(AnyEngineHandler):
    """The handler of `kinds.PROPOSE`."""

    finishes_at_once = True

    def __init__(self, host: Host) -> None:
        self._host = host
        self.claim = functools.partial(propose.claim, worker_id=host.worker_id, model=host.model)
        self.finish = functools.partial(propose.finish, worker_id=host.worker_id)

    async def handle(self, lease: LeasedProposal, context: RunContext) -> ProposalResult:
        """The candidate's text; invalid if the model cannot take the request, or if what it wrote is not a step."""
        search, segmentation = context.search, context.segmentation
        row, teacher = context.teacher(lease.teacher_id)
        sampling = Sampling.of(teacher, lease.max_tokens, lease.seed, answer_tokens=context.config.search.answer_tokens)
        if lease.sources:
            return await integrate(
                self._host.engine,
                self._host.repairers,
                context,
                lease,
                system_prompt=row.system_prompt,
                sampling=sampling,
            )
        turn = Turn(lease.question, row.system_prompt, lease.passage, segmentation, context.date)
        try:
            write = self._host.engine.complete if lease.whole else self._host.engine.propose
            generation = await write(turn, lease.steps, sampling)
        except RequestError as error:
            logger.warning("candidate %d: %s", lease.candidate_id, error)
            return ProposalResult(
                candidate_id=lease.candidate_id,
                attempt=lease.attempt,
                text="",
                finish_reason=None,
                invalid_reason=reason_of(error).value,
                prompt_tokens=None,
                completion_tokens=None,
                cached_tokens=None,
                seconds=None,
            )
        closes = generation.finish_reason in (FinishReason.THINK_END, FinishReason.EOS)
        reason: InvalidReason | None = None
        if context.config.is_scored:
            # A run without selection rejects nothing: a sample that loops or is empty is a result as well.
            reason = invalid_reason(
                generation.text,
                loop_ngram=search.loop_ngram,
                loop_repeats=search.loop_repeats,
                was_cut=generation.finish_reason == FinishReason.LENGTH,
                has_markers=segmentation.has_markers,
                # After a marker a step must follow; after a blank line or a sentence the thinking may end.
                may_be_empty=closes and not segmentation.has_markers and any(step.strip() for step in lease.steps),
            )
        return ProposalResult(
            candidate_id=lease.candidate_id,
            attempt=lease.attempt,
            text=storable(generation.text),
            finish_reason=generation.finish_reason.value,
            invalid_reason=None if reason is None else reason.value,
            prompt_tokens=generation.prompt_tokens,
            completion_tokens=generation.completion_tokens,
            cached_tokens=generation.cached_tokens,
            seconds=generation.seconds,
            text_key=text_key(generation.text) if context.config.is_scored and reason is None else None,
        )
