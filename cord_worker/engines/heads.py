"""What a model cannot do for want of a head: the other half of the protocol, refused in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NoReturn

from cord_worker.engines.protocol import StepReward, Turn
from cord_worker.errors import EngineLoadError, NotFiniteError, RequestError

PROCESS_REWARD_MODEL = "Qwen2ForProcessRewardModel"
"""Of Qwen2.5-Math-PRM: two labels by a head of two layers, in code that comes with the weights, and in vLLM."""


class LanguageHead:
    """A model that writes and scores, and has no reward head."""

    async def available(self) -> None:
        """At once: a model that is hosted here is there, or dead."""

    async def reward(self, turn: Turn, steps: Sequence[str], separator: str | None) -> StepReward:
        """Raises RequestError."""
        del turn, steps, separator
        raise RequestError('this model has no reward head; name one with head = "reward" in [reward]')


class RewardHead:
    """A model that judges steps, and has no language head."""

    async def available(self) -> None:
        """At once; see `LanguageHead`."""

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

    async def score(self, *_: object) -> NoReturn:
        """Raises RequestError."""
        raise _no_language_head()


def probability(logits: Sequence[float]) -> float:
    """What a head's `logits` say of the step, in [0, 1]: sigmoid of a single one, softmax's second class of two.

    Raises NotFiniteError.
    """
    if not all(math.isfinite(value) for value in logits):
        raise NotFiniteError(f"the reward head gave {tuple(logits)} (number format too narrow?); try another dtype")
    margin = logits[0] if len(logits) == 1 else logits[1] - logits[0]
    return 1 / (1 + math.exp(-margin)) if margin >= 0 else math.exp(margin) / (1 + math.exp(margin))


def require_labels(number: int, path: str) -> None:
    """Raises EngineLoadError where a classifier has other labels than can be read."""
    if number not in (1, 2):
        raise EngineLoadError(f"reward model {path!r} has {number} labels; one or two can be read")


def _no_language_head() -> RequestError:
    return RequestError("this model has a reward head: it judges steps and neither writes nor scores")
