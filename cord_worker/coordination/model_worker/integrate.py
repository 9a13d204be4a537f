"""Asks an integrator's model to merge whole trajectories into one (see `search.integration`)."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

from cord_worker.coordination.model_worker.request_errors import reason_of
from cord_worker.coordination.run_context import RunContext
from cord_worker.engines.protocol import Engine, FinishReason, Sampling, Turn
from cord_worker.errors import RequestError, StoreError, TooLongError
from cord_worker.local.killable import CallFailed, KillablePool, ProcessEnded
from cord_worker.prompting.integration import Integration, integration_prompt, read_integration, repair_integration
from cord_worker.prompting.trajectory import Segmentation
from cord_worker.search.types import InvalidReason
from cord_worker.search.validity import invalid_reason, storable, text_key
from cord_worker.store.work.propose import LeasedProposal, ProposalResult

logger = logging.getLogger(__name__)


async def integrate(
    engine: Engine,
    processes: KillablePool,
    context: RunContext,
    lease: LeasedProposal,
    *,
    system_prompt: str | None,
    sampling: Sampling,
) -> ProposalResult:
    """The integrator's candidate; broken JSON is repaired in one of `processes`.

    If the context has no room for all sources and the reply, sources are left out, the worst score first. The
    candidate's row names those that were merged. They are shown in the teachers' order, so that the integrator does not
    learn how the prover ranks them. Tokens and seconds are the sums over all attempts. Raises StoreError if the run has
    no integrator.
    """
    search, integration = context.search, context.config.integration
    if integration is None:
        raise StoreError(f"candidate {lease.candidate_id} is to be integrated in a run without [integration]")
    result = ProposalResult(
        candidate_id=lease.candidate_id,
        attempt=lease.attempt,
        text="",
        finish_reason=None,
        invalid_reason=InvalidReason.TOO_LONG.value,
        prompt_tokens=None,
        completion_tokens=None,
        cached_tokens=None,
        seconds=None,
    )
    for merged in range(len(lease.sources), 0, -1):
        shown = sorted(lease.sources[:merged], key=lambda source: source.candidate_id)
        prompt = integration_prompt(
            integration.prompt, lease.question, [source.steps for source in shown], context.segmentation
        )
        try:
            generation = await engine.reply(Turn(prompt, system_prompt, lease.passage, date=context.date), sampling)
        except TooLongError as error:
            logger.warning("candidate %d, %d trajectories: %s", lease.candidate_id, merged, error)
            continue
        except RequestError as error:
            logger.warning("candidate %d: %s", lease.candidate_id, error)
            return replace(result, invalid_reason=reason_of(error).value)
        cut = generation.finish_reason == FinishReason.LENGTH
        result = replace(
            result,
            reply=storable(generation.text),
            merged=merged,
            finish_reason=generation.finish_reason.value,
            prompt_tokens=(result.prompt_tokens or 0) + generation.prompt_tokens,
            completion_tokens=(result.completion_tokens or 0) + generation.completion_tokens,
            cached_tokens=(result.cached_tokens or 0) + generation.cached_tokens,
            seconds=(result.seconds or 0.0) + generation.seconds,
        )
        found = read_integration(generation.text, context.segmentation, complete=False)
        if found is None and not cut:
            found = await asyncio.to_thread(_repair, processes, lease, generation.text, context.segmentation)
        if found is not None:
            reason = invalid_reason(found.text, loop_ngram=search.loop_ngram, loop_repeats=search.loop_repeats)
            return replace(
                result,
                text=storable(found.text),
                answer_part=None if found.answer is None else storable(found.answer),
                finish_reason=FinishReason.EOS.value,
                invalid_reason=None if reason is None else reason.value,
                text_key=text_key(found.text) if reason is None else None,
            )
        if not cut or generation.completion_tokens >= sampling.max_tokens:
            return replace(result, invalid_reason=InvalidReason.MALFORMED.value)
    return result


def _repair(
    processes: KillablePool, lease: LeasedProposal, reply: str, segmentation: Segmentation
) -> Integration | None:
    try:
        return processes.call(repair_integration, reply, segmentation)
    except (TimeoutError, ProcessEnded, CallFailed) as error:
        logger.warning("candidate %d: repairing the reply was given up: %s", lease.candidate_id, error)
        return None
