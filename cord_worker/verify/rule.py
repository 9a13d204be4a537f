"""The rule of a comparison: the method of [verify], its tolerance, and whether the order of a list counts."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the processes that check answers do not load pydantic
    from cord_worker.config import VerifyConfig


DEFAULT_RELATIVE = 0.001
"""Default tolerance of `numeric` in `cordctl check`, as a share of the reference."""


class Method(StrEnum):
    """How a final answer is compared with its reference."""

    MATH = "math"
    """Equal as text after normalisation, the same multiple-choice letter, or mathematically equal."""
    EXACT = "exact"
    """Equal as text after normalisation."""
    CHOICE = "choice"
    """The same letter A-J, or the same of yes, no and maybe."""
    NUMERIC = "numeric"
    """A number within the tolerance of the reference."""
    MATH_VERIFY = "math_verify"
    """Equal according to the package math-verify, which alone extracts and compares."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A method, with its options.

    Attributes:
        relative, absolute: the tolerance of `numeric`, as a share of the reference and as a number; the larger applies.
        ordered: whether the order of a list counts; None leaves that to the reference's type and to the question.
    """

    method: Method = Method.MATH
    relative: float = 0.0
    absolute: float = 0.0
    ordered: bool | None = None


def rule_of(verify: VerifyConfig, method: str) -> Rule:
    """The rule of a run's [verify] for answers that are compared by `method` (the run's own, or a row's).

    Raises ValueError for `judge` and `none`, which compare nothing.
    """
    tolerance = verify.tolerance
    return Rule(Method(method), relative=tolerance.relative, absolute=tolerance.absolute, ordered=verify.ordered)
