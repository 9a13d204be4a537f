"""Requests to the transformers engine, alone and together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from cord_worker.config import DEFAULT_SCORING_TEMPLATE
from cord_worker.engines.protocol import AnswerScore, Generation, Sampling, Turn
from cord_worker.engines.settings import EngineSettings
from cord_worker.engines.transformers.engine import TransformersEngine
from tests.support import settings

SettingsOf = Callable[..., EngineSettings]
Request = Callable[[TransformersEngine], Awaitable[Generation | AnswerScore]]
ANSWERS = ["204", "-3", r"\frac{1}{2}", "三", "The apples are three, and the answer is a sentence"]


def sampling(seed: int = 0, **changes: Any) -> Sampling:
    return settings.sampling(**{"temperature": 1.0, "max_tokens": 24, "seed": seed, **changes})


GREEDY = sampling(temperature=0.0, max_tokens=60)


def proposing(question: str, steps: Sequence[str], settings: Sampling) -> Request:
    return lambda engine: engine.propose(Turn(question), steps, settings)


def answering(question: str, steps: Sequence[str], settings: Sampling) -> Request:
    return lambda engine: engine.answer(Turn(question), steps, settings)


def scoring(question: str, steps: Sequence[str], answer: str, *, full_stop: bool = False) -> Request:
    return lambda engine: engine.score(Turn(question), steps, answer, DEFAULT_SCORING_TEMPLATE, full_stop=full_stop)


def mixed_requests() -> list[Request]:
    """Different questions, depths, lengths, settings and kinds; some share prefixes, two are the same."""
    requests: list[Request] = []
    for number in range(8):
        question = f"How many apples are in bag {number % 3}?"
        steps = ["We add.", "Then we halve it, 12, 27, 39."][: number % 3]
        settings = sampling(
            number,
            top_p=(0.95, 1.0, 0.5, 0.8)[number % 4],
            top_k=(0, 5)[number % 2],
            min_p=(0.0, 0.05)[number % 3 == 0],
            repetition_penalty=(1.0, 1.2)[number % 4 == 3],
            temperature=(1.0, 0.6, 0.0)[number % 3],
            max_tokens=12 + 5 * (number % 4),
        )
        requests.append(proposing(question, steps, settings))
        requests.append(answering(question, ["We add.", f"It is {number}"], settings))
        requests.append(scoring(question, ["We add.", f"It is {number // 2}."], ANSWERS[number % 5]))
    return requests


def outcome(result: Generation | AnswerScore) -> tuple[Any, ...]:
    """What must not depend on the batch: everything but times and cache hits."""
    if isinstance(result, Generation):
        return result.text, result.finish_reason, result.prompt_tokens, result.completion_tokens
    return (
        result.score,
        result.log_prob_sum,
        result.mean_probability,
        result.answer_tokens,
        result.prompt_tokens,
        result.thinking_tokens,
    )


def together(engine: TransformersEngine, requests: Sequence[Request]) -> list[Any]:
    async def run() -> list[Any]:
        return list(await asyncio.gather(*(request(engine) for request in requests)))

    return asyncio.run(run())


def alone(engine: TransformersEngine, requests: Sequence[Request]) -> list[Any]:
    return [together(engine, [request])[0] for request in requests]
