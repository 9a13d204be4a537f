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
