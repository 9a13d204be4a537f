"""Whether two final answers are the same: the reference decides the type, and the comparison stays inside it."""

from __future__ import annotations

from dataclasses import dataclass

from cord_worker.verify.rule import Rule

_BY_MATH = Rule()


@dataclass(frozen=True, slots=True)
class Comparison:
    """What comparing two answers found.

    Attributes:
        equal: None where it cannot be decided.
        type: what the reference is, such as "number" or "interval"; see `docs/answers.md`.
        method: how they were found equal: "exact", "math", "choice" or "numeric"; "unequal" or "undecided" else.
        why: one short sentence, for people.
    """

    equal: bool | None
    type: str
    method: str
    why: str


def same_answer(reference: str, given: str, rule: Rule = _BY_MATH, *, question: str | None = None) -> Comparison:
    """Compares the answer `given` with `reference`; both are bare answers, taken out of their texts already.

    `question` says whether the order of a list counts, where `rule.ordered` leaves it open.
    """
    # Imported here until `comparison` is built on this module.
    from cord_worker.verify.comparison import same_value
    from cord_worker.verify.normalise import exact_key, tidy

    if exact_key(reference) == exact_key(given):
        return Comparison(True, "text", "exact", "the same text")
    if same_value(tidy(reference), tidy(given)):
        return Comparison(True, "expression", "math", "the same value")
    return Comparison(False, "text", "unequal", "another value")
