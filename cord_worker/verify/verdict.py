"""The result of checking one answer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a generated answer equals the reference.

    Attributes:
        correct: None where it could not be decided.
        method: "exact" (equal after normalisation), "math" (mathematically equal), "choice" (the same decision),
            "numeric" (within the tolerance), "unequal" (found unequal);
            with `correct` None "timeout", "crashed" (the checking process died) or "unsupported".
        extracted: the final answer found in the generated text, None where none was found.
        detail: why, where that is not plain from the method.
    """

    correct: bool | None
    method: str
    extracted: str | None = None
    detail: str | None = None
