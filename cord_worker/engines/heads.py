"""What a model cannot do for want of a head: the other half of the protocol, refused in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from cord_worker.engines.protocol import StepReward, Turn
from cord_worker.errors import RequestError


class LanguageHead:
    """A model that writes and scores, and has no reward head."""

    async def reward(self, turn: Turn, steps: Sequence[str], separator: str | None) -> StepReward:
        """Raises RequestError."""
        del turn, steps, separator
        raise RequestError('this model has no reward head; name one with head = "reward" in [reward]')


class RewardHead:
    """A model that judges steps, and has no language head."""

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


def _no_language_head() -> RequestError:
    return RequestError("this model has a reward head: it judges steps and neither writes nor scores")
