"""Asks the LLM judge about one leased final answer and returns its verdict."""

from __future__ import annotations

import functools
import json
import logging

from cord_worker.config import RunConfig
from cord_worker.coordination.model_worker.handler import AnyEngineHandler, Host
from cord_worker.coordination.run_context import RunContext
from cord_worker.engines.protocol import Engine, Sampling, Turn
from cord_worker.errors import ConfigError, RequestError
from cord_worker.prompting.verdict import judge_prompt, read_verdict
from cord_worker.search.seeds import verdict_seed
from cord_worker.search.validity import storable
from cord_worker.store.work import judge_answer
from cord_worker.store.work.judge_answer import LeasedVerdict, VerdictResult

logger = logging.getLogger(__name__)

_REPLY_KEPT = 2000
"""Characters of the judge's reply, from its end, that are stored as the detail of its verdict."""


class JudgeAnswer(AnyEngineHandler):
    """The handler of `kinds.JUDGE_ANSWER`."""

    finishes_at_once = False

    def __init__(self, host: Host) -> None:
        self._host = host
        self.claim = functools.partial(judge_answer.claim, worker_id=host.worker_id, model=host.model)
        self.finish = functools.partial(judge_answer.finish, worker_id=host.worker_id)

    async def handle(self, lease: LeasedVerdict, context: RunContext) -> VerdictResult:
        """See `ask_judge`."""
        return await ask_judge(self._host.engine, context.config, lease)


async def ask_judge(engine: Engine, config: RunConfig, lease: LeasedVerdict) -> VerdictResult:
    """The judge's verdict on one answer. After a malformed reply the judge is asked again with another seed. After
    `max_rounds` such replies, or if the model cannot take the request, the answer stays undecided."""
    judge, model = config.verify.judge, config.judge_model
    if judge is None or model is None:
        raise ConfigError("a verdict is asked for, but the run's configuration has no table [verify.judge]")
    prompt = judge_prompt(
        judge.template,
        question=lease.question,
        passage=lease.passage,
        reference=lease.reference,
        answer=lease.answer,
    )
    turn = Turn(question=prompt, system=model.system_prompt, date=config.prompt_date)
    prompt_tokens = completion_tokens = rounds = 0
    seconds = 0.0
    correct: bool | None = None
    detail = ""
    while correct is None and rounds < judge.max_rounds:
        sampling = Sampling(
            temperature=judge.retry_temperature if rounds else judge.temperature,
            top_p=judge.top_p,
            top_k=0,
            min_p=0.0,
            repetition_penalty=1.0,
            max_tokens=judge.tokens,
            seed=verdict_seed(config.run.seed, lease.key, lease.lineage, rounds),
            answer_tokens=0,
        )
        try:
            reply = await engine.reply(turn, sampling)
        except RequestError as error:
            logger.warning("trajectory %d cannot be judged: %s", lease.trajectory_id, error)
            detail = f"the judge cannot take the request: {error}"
            break
        rounds += 1
        prompt_tokens += reply.prompt_tokens
        completion_tokens += reply.completion_tokens
        seconds += reply.seconds
        correct = read_verdict(reply.text)
        detail = storable(reply.text.strip()[-_REPLY_KEPT:])
    verification = {
        "method": "undecided" if correct is None else "judge",
        "extracted": None,
        "detail": detail,
        "rounds": rounds,
    }
    return VerdictResult(
        trajectory_id=lease.trajectory_id,
        attempt=lease.attempt,
        correct=correct,
        verification=json.dumps(verification),
        prompt_tokens=prompt_tokens if rounds else None,
        completion_tokens=completion_tokens if rounds else None,
        seconds=seconds if rounds else None,
    )
