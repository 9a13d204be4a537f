"""Mixins that reject the methods of `Engine` for which a model has no head."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NoReturn

from cord_worker.engines.protocol import StepReward, Turn
from cord_worker.errors import EngineLoadError, NotFiniteError, RequestError

PROCESS_REWARD_MODEL = "Qwen2ForProcessRewardModel"
"""The architecture of Qwen2.5-Math-PRM, whose head has two layers and two labels. transformers runs the code that comes
with the weights; vLLM has its own implementation."""


class LanguageHead:
    """A model that generates and scores, and has no reward head."""

    async def available(self) -> None:
        """Returns at once, because a model that is hosted here is either ready or dead."""

    async def reward(self, turn: Turn, steps: Sequence[str], separator: str | None) -> StepReward:
        """Raises RequestError."""
        del turn, steps, separator
        raise RequestError('this model has no reward head; name one with head = "reward" in [reward]')


class RewardHead:
    """A model that judges steps and has no language head."""

    async def available(self) -> None:
        """Returns at once; see `LanguageHead`."""

    async def propose(self, *_: object) -> NoReturn:
        """Raises RequestError."""
        raise _no_language_head()

    async def complete(self, *_: object) -> NoReturn:
        """Raises RequestError."""
        raise _no_language_head()

    async def answer(self, *_: object, opening: str = "") -> NoReturn:
        """Raises RequestError."""
        del opening
        raise _no_language_head()

    async def reply(self, *_: object) -> NoReturn:
        """Raises RequestError."""
        raise _no_language_head()

    async def score(self, *_: object, full_stop: bool = False) -> NoReturn:  # noqa: ARG002
        """Raises RequestError."""
        raise _no_language_head()


def probability(logits: Sequence[float]) -> float:
    """The judgment in [0, 1] that the one or two `logits` of a head stand for. Raises NotFiniteError.

    Of one logit it is the sigmoid; of two, the second value of their softmax.
    """
    if not all(math.isfinite(value) for value in logits):
        raise NotFiniteError(f"the reward head gave {tuple(logits)} (number format too narrow?); try another dtype")
    margin = logits[0] if len(logits) == 1 else logits[1] - logits[0]
    return 1 / (1 + math.exp(-margin)) if margin >= 0 else math.exp(margin) / (1 + math.exp(margin))


def require_steps(steps: Sequence[str]) -> None:
    """Raises RequestError if the trajectory is empty."""
    if not steps:
        raise RequestError("there is no step yet; propose one first")


def require_labels(labels: int, path: str) -> None:
    """Raises EngineLoadError unless the reward model has one or two `labels`."""
    if labels not in (1, 2):
        raise EngineLoadError(f"reward model {path!r} has {labels} labels; name one that has one or two")


def _no_language_head() -> RequestError:
    return RequestError("this model has a reward head: it judges steps and neither writes nor scores")
