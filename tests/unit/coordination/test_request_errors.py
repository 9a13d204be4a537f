"""A refused request makes its candidate invalid, with the reason of the refusal."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from cord_worker.config import RunConfig
from cord_worker.coordination.model_worker.judge_candidate import compute_judgment
from cord_worker.coordination.model_worker.request_errors import reason_of
from cord_worker.engines.instant import InstantEngine
from cord_worker.engines.protocol import StepReward, Turn
from cord_worker.errors import ContentFilterError, EngineFaultError, NotFiniteError, RequestError, TooLongError
from cord_worker.search.types import InvalidReason
from cord_worker.store.work.judge_candidate import LeasedJudgment
from cord_worker.verify import AnswerChecker

CONFIG = RunConfig.model_validate(
    {
        "models": {
            "m": {"path": "m", "engine": "instant"},
            "prm": {"path": "p", "engine": "instant", "head": "reward"},
        },
        "teachers": [{"name": "t", "model": "m"}],
        "prover": {"model": "m"},
        "search": {"selection": "reward_model"},
        "reward": {"model": "prm"},
        "run": {"date": "2026-01-31"},
    }
)
LEASE = LeasedJudgment(7, 1, 3, 1, "p", "l", "2 + 2?", None, "4", "math", (" a",))


class Refusing(InstantEngine):
    """Refuses every judgment."""

    def __init__(self, error: RequestError) -> None:
        self._error = error

    async def reward(self, turn: Turn, steps: Sequence[str], separator: str | None) -> StepReward:
        del turn, steps, separator
        raise self._error


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RequestError("no such field"), "malformed_request"),
        (TooLongError("too many tokens"), "too_long"),
        (ContentFilterError("flagged"), "content_filter"),
        (NotFiniteError("NaN"), "not_finite"),
        (EngineFaultError("500 again"), "engine_fault"),
    ],
)
def test_a_refused_judgment_says_why(error: RequestError, reason: str) -> None:
    result = asyncio.run(compute_judgment(Refusing(error), AnswerChecker(), CONFIG, LEASE))
    assert (result.invalid_reason, result.judgment) == (reason, None)


def test_every_kind_of_refusal_has_its_reason() -> None:
    def kinds(kind: type[RequestError]) -> set[type[RequestError]]:
        return {kind}.union(*(kinds(below) for below in kind.__subclasses__()))

    assert {reason_of(kind("no")) for kind in kinds(RequestError)} <= set(InvalidReason)
    assert len({kind.cause for kind in kinds(RequestError)}) == 5
