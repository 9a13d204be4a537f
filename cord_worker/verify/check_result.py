"""The result of checking one answer."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

_MOST_READINGS = 20
"""Maximum number of readings that are stored."""
_MOST_CHARACTERS = 2_000
"""Maximum number of characters of each text that are stored."""
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
"""Characters that PostgreSQL cannot store in a text."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """Whether a generated answer equals the reference.

    Attributes:
        correct: True, False, or None if undecided.
        method: "exact" (equal after normalisation), "math" (mathematically equal), "choice" (the same choice),
            "numeric" (within the tolerance), "math_verify" (equal according to math-verify), "unequal" (found unequal);
            with `correct` None "undecided" (no final answer, or several that contradict each other), "timeout",
            "crashed" (the checking process died) or "unsupported".
        extracted: the final answer found in the generated text; None if none was found.
        detail: the reason, if the method does not make it plain.
        type: the type of the reference, such as "number" or "interval"; None if nothing was compared.
        readings: all final answers found in the generated text; the one that counts comes first.
    """

    correct: bool | None
    method: str
    extracted: str | None = None
    detail: str | None = None
    type: str | None = None
    readings: tuple[str, ...] = ()

    @property
    def may_be_judged(self) -> bool:
        """True if the check decided nothing but an LLM judge could. That includes checks that failed, but not unusable
        references."""
        return self.correct is None and self.method in ("undecided", "timeout", "crashed")

    def to_json(self) -> dict[str, Any]:
        """How the result was found: all fields except `correct`, which has its own column. Long texts are cut."""
        return {
            "method": self.method,
            "extracted": _storable(self.extracted),
            "detail": _storable(self.detail),
            "type": self.type,
            "readings": [_storable(reading) for reading in [*dict.fromkeys(self.readings)][:_MOST_READINGS]],
        }


def _storable(text: str | None) -> str | None:
    return None if text is None else _UNSTORABLE.sub("\ufffd", text[:_MOST_CHARACTERS])
