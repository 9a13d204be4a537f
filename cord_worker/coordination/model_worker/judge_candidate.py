"""Computes the selection judgment of one candidate: a reward, or a binary judgment.

A binary judgment compares answers by the rules for final answers, in a process that can be killed (`AnswerChecker`): a
comparison in this process could hang, and a simpler one would call right answers wrong. If a comparison takes too long,
the answer does not count as right, and the judgment's detail says so.
"""

from __future__ import annotations

import asyncio
import functools
import json
import logging
from collections import Counter
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from cord_worker.config import RewardConfig, RunConfig
from cord_worker.coordination.model_worker.handler import AnyEngineHandler, Host
from cord_worker.coordination.model_worker.request_errors import reason_of
from cord_worker.coordination.run_context import RunContext
from cord_worker.engines.protocol import Engine, Sampling, Turn
from cord_worker.errors import RequestError
from cord_worker.prompting.trajectory import THINK_CLOSE, Segmentation
from cord_worker.search.seeds import judgment_seed
from cord_worker.search.types import InvalidReason
from cord_worker.search.validity import storable
from cord_worker.store.work import judge_candidate
from cord_worker.store.work.judge_candidate import JudgmentResult, LeasedJudgment
from cord_worker.verify import AnswerChecker, rule_of

logger = logging.getLogger(__name__)

T = TypeVar("T")


class JudgeCandidate(AnyEngineHandler):
    """The handler of `kinds.JUDGE_CANDIDATE`."""

    finishes_at_once = True

    def __init__(self, host: Host) -> None:
        self._host = host
        self.claim = functools.partial(judge_candidate.claim, worker_id=host.worker_id, model=host.model)
        self.finish = functools.partial(judge_candidate.finish, worker_id=host.worker_id)

    async def handle(self, lease: LeasedJudgment, context: RunContext) -> JudgmentResult:
        """See `compute_judgment`."""
        return await compute_judgment(self._host.engine, self._host.checker, context.config, lease)


async def compute_judgment(
    engine: Engine, checker: AnswerChecker, config: RunConfig, lease: LeasedJudgment
) -> JudgmentResult:
    """The candidate's selection judgment; invalid if the model cannot take the request."""
    try:
        if config.reward is not None:
            return await _reward_judgment(engine, config, config.reward, lease)
        return await _binary_judgment(engine, checker, config, lease)
    except RequestError as error:
        logger.warning("candidate %d: %s", lease.candidate_id, error)
        return _invalid(lease, reason_of(error))


async def _reward_judgment(
    engine: Engine, config: RunConfig, reward: RewardConfig, lease: LeasedJudgment
) -> JudgmentResult:
    """The reward model's rating of the last step; the model never sees the answer."""
    segmentation = Segmentation.of(config.search.segmentation, config.search.phrases)
    turn = Turn(
        lease.question, config.models[reward.model].system_prompt, lease.passage, segmentation, config.prompt_date
    )
    found = await engine.reward(turn, lease.steps, reward.step_separator)
    if not 0.0 <= found.score <= 1.0:
        return _invalid(lease, InvalidReason.UNJUDGEABLE)
    return JudgmentResult(
        candidate_id=lease.candidate_id,
        attempt=lease.attempt,
        invalid_reason=None,
        judgment=found.score,
        detail=json.dumps({"logits": found.logits, "mode": engine.scoring_mode}),
        prompt_tokens=found.prompt_tokens,
        completion_tokens=0,
        cached_tokens=found.cached_tokens,
        seconds=found.seconds,
    )


async def all_or_none(requests: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """The results of all requests; if one fails, the others are cancelled and its error is raised."""
    tasks = [asyncio.create_task(request) for request in requests]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        raise


async def _binary_judgment(
    engine: Engine, checker: AnswerChecker, config: RunConfig, lease: LeasedJudgment
) -> JudgmentResult:
    """The share of right answers among the seeded answers that the prover gives directly after the candidate
    (docs/what-is-computed.md#binary-judgment)."""
    binary = config.binary
    segmentation = Segmentation.of(config.search.segmentation, config.search.phrases)
    turn = Turn(lease.question, config.prover_model.system_prompt, lease.passage, segmentation, config.prompt_date)
    generations = await all_or_none(
        [
            engine.answer(
                turn,
                lease.steps,
                Sampling(
                    temperature=binary.temperature,
                    top_p=binary.top_p,
                    top_k=0,
                    min_p=0.0,
                    repetition_penalty=1.0,
                    max_tokens=binary.tokens,
                    seed=judgment_seed(config.run.seed, lease.key, lease.lineage, index),
                    answer_tokens=0,
                ),
                opening=binary.template,
            )
            for index in range(binary.judgments)
        ]
    )
    rule = rule_of(config.verify, "math" if lease.method in ("none", "judge") else lease.method)
    closing = binary.template.partition(THINK_CLOSE)[2]
    answers = Counter(storable(generation.text) for generation in generations)
    found = []
    for text, times in answers.items():
        check = await asyncio.to_thread(checker.check, closing + text, lease.reference, rule, lease.question)
        found.append({"text": text, "times": times, "correct": check.correct, "method": check.method})
    right = sum(answers[str(item["text"])] for item in found if item["correct"])
    return JudgmentResult(
        candidate_id=lease.candidate_id,
        attempt=lease.attempt,
        invalid_reason=None,
        judgment=right / binary.judgments,
        detail=json.dumps({"right": right, "answers": found}),
        prompt_tokens=sum(generation.prompt_tokens for generation in generations),
        completion_tokens=sum(generation.completion_tokens for generation in generations),
        cached_tokens=sum(generation.cached_tokens for generation in generations),
        seconds=max(generation.seconds for generation in generations),
    )


def _invalid(lease: LeasedJudgment, reason: InvalidReason) -> JudgmentResult:
    return JudgmentResult(
        candidate_id=lease.candidate_id,
        attempt=lease.attempt,
        invalid_reason=reason.value,
        judgment=None,
        detail=None,
        prompt_tokens=None,
        completion_tokens=None,
        cached_tokens=None,
        seconds=None,
    )
