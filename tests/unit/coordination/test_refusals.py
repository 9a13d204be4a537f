"""What a model refuses makes a candidate invalid, for the reason that it was refused for."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from cord_worker.config import RunConfig
from cord_worker.coordination.judgments import judgment_of
from cord_worker.engines.instant import InstantEngine
from cord_worker.engines.protocol import StepReward, Turn
from cord_worker.errors import NotFiniteError, RequestError
from cord_worker.store.judgments import LeasedJudgment
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
    ("error", "reason"), [(RequestError("too many tokens"), "too_long"), (NotFiniteError("NaN"), "not_finite")]
)
def test_a_refused_judgment_says_why(error: RequestError, reason: str) -> None:
    result = asyncio.run(judgment_of(Refusing(error), AnswerChecker(), CONFIG, LEASE))
    assert (result.invalid_reason, result.judgment) == (reason, None)
