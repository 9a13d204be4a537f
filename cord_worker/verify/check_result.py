"""The result of checking one answer."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

_MOST_READINGS = 20
_LONGEST = 2_000
"""Characters of each text that are stored."""
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
"""What PostgreSQL keeps in no text."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """Whether a generated answer equals the reference.

    Attributes:
        correct: None where it could not be decided.
        method: "exact" (equal after normalisation), "math" (mathematically equal), "choice" (the same decision),
            "numeric" (within the tolerance), "unequal" (found unequal);
            with `correct` None "undecided" (no final answer, or several that contradict each other), "timeout",
            "crashed" (the checking process died) or "unsupported".
        extracted: the final answer found in the generated text, None where none was found.
        detail: why, where that is not plain from the method.
        type: what the reference is, such as "number" or "interval"; None where nothing was compared.
        readings: every final answer that was found in the generated text, the one that counts first.
    """

    correct: bool | None
    method: str
    extracted: str | None = None
    detail: str | None = None
    type: str | None = None
    readings: tuple[str, ...] = ()

    @property
    def may_be_judged(self) -> bool:
        """Whether an LLM judge could decide what the comparison did not: not where the reference is unusable, or the
        check itself failed."""
        return self.correct is None and self.method in ("undecided", "timeout", "crashed")

    def to_json(self) -> dict[str, Any]:
        """All but `correct`, which has a column of its own: how it was decided. Long texts are cut."""
        return {
            "method": self.method,
            "extracted": _storable(self.extracted),
            "detail": _storable(self.detail),
            "type": self.type,
            "readings": [_storable(reading) for reading in [*dict.fromkeys(self.readings)][:_MOST_READINGS]],
        }


def _storable(text: str | None) -> str | None:
    return None if text is None else _UNSTORABLE.sub("\ufffd", text[:_LONGEST])
