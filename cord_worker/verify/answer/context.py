"""What a comparison knows beside the two answers, and what it finds."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

_MAX_DEPTH = 5

_UNORDERED = re.compile(
    r"\b(?:find|determine|list|give|state|compute|enter|solve for|what are)\b[^.?]{0,60}\b(?:all|every|each|any|both)\b"
    r"|\b(?:all|both)\b[^.?]{0,40}\b(?:solutions?|roots?|values?|zeros|zeroes|integers|numbers|pairs|triples|primes|factors|divisors|x)\b"
    r"|\b(?:solutions|roots|zeros|factors|divisors) of\b|\bin any order\b"
    r"|\bwhat are the (?:solutions|roots|zeros|values)\b"
    r"|\bset of\b|所有|全部|모든|جميع|todas?\b|todos\b|toutes\b|tous\b|\balle\b",
    re.IGNORECASE,
)
_ORDERED = re.compile(
    r"\b(?:in (?:increasing|decreasing|ascending|descending|alphabetical|chronological|numerical|the given|that|this"
    r"|the same) order"
    r"|from (?:the )?(?:least|smallest|lowest|shortest|lightest|youngest|greatest"
    r"|largest|highest|biggest|oldest|earliest|latest|most|left) to"
    r"|order(?:ed)? (?:from|by|of|them|the)|in order\b|in what order|which order"
    r"|arrange|rank(?:ing)?\b|sort|respectively|sequence|terms?\b"
    r"|permutation|ordered (?:pair|triple|quadruple|tuple|list)|coordinates|\(x, ?y\)|step by step|first \w+ and then)",
    re.IGNORECASE,
)
_ANY_ORDER = re.compile(r"\bin any order\b|\border does not matter\b|\bregardless of (?:the )?order\b", re.IGNORECASE)


def order_counts(question: str | None) -> bool | None:
    """Whether the order of a listed answer counts by what the question says; None where it says nothing.

    "Arrange", "from least to greatest" and the like say that it does; "find all" and "in any order" that it does not.
    """
    if not question:
        return None
    text = question[-6000:]
    if _ANY_ORDER.search(text):
        return False
    if _ORDERED.search(text):
        # "Find all ordered pairs": the pairs have no order, and each of them is a tuple, which has one.
        return not re.search(r"\ball ordered (?:pairs|triples|quadruples|tuples)\b", text, re.IGNORECASE)
    return False if _UNORDERED.search(text) else None


class Outcome(NamedTuple):
    """Whether two answers are the same (None: undecided), and why."""

    equal: bool | None
    why: str


@dataclass(frozen=True, slots=True)
class Context:
    """Attributes:
    ordered: whether the order of a list counts; None where nothing says so.
    question: the question, where it is known.
    compare: compares two parts of the answers, as whole answers are compared.
    """

    compare: Callable[[str, str, Context], Outcome]
    ordered: bool | None = None
    question: str | None = None
    depth: int = 0

    def same(self, reference: str, given: str) -> bool | None:
        """Whether two parts are the same; None where that cannot be decided."""
        if self.depth >= _MAX_DEPTH:
            return None
        return self.compare(reference, given, replace(self, depth=self.depth + 1)).equal

    @property
    def asks_percent(self) -> bool | None:
        """Whether the question asks for a percentage; None where there is no question."""
        return None if self.question is None else re.search(r"percent|%|百分", self.question, re.IGNORECASE) is not None


def as_outcome(equal: bool | None, same: str, different: str, unclear: str = "cannot be decided") -> Outcome:
    """An outcome with the reason that belongs to it."""
    return Outcome(equal, same if equal else different if equal is False else unclear)
