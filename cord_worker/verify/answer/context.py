"""`Context`: what a comparison knows besides the two answers; `Outcome`: its result."""

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
    """True if, by the question, the order of a listed answer counts; None if the question does not say.

    "Arrange", "from least to greatest" and the like mean that it counts; "find all" and "in any order" mean that it
    does not.
    """
    if not question:
        return None
    text = question[-6000:]
    if _ANY_ORDER.search(text):
        return False
    if _ORDERED.search(text):
        # "Find all ordered pairs": the list of pairs has no order, but each pair is a tuple, which has one.
        return not re.search(r"\ball ordered (?:pairs|triples|quadruples|tuples)\b", text, re.IGNORECASE)
    return False if _UNORDERED.search(text) else None


class Outcome(NamedTuple):
    """Whether two answers are the same (None: undecided), and the reason."""

    equal: bool | None
    why: str


@dataclass(frozen=True, slots=True)
class Context:
    """What the comparison of two answers knows besides them.

    Attributes:
        compare: compares two parts of the answers in the same way as whole answers.
        ordered: whether the order of a list counts; None if nothing says so.
        question: the question, if it is known.
        depth: how often the texts were taken as parts of larger answers; at most `_MAX_DEPTH`.
    """

    compare: Callable[[str, str, Context], Outcome]
    ordered: bool | None = None
    question: str | None = None
    depth: int = 0

    def same(self, reference: str, given: str) -> bool | None:
        """True if two parts are the same; None if that cannot be decided."""
        if self.depth >= _MAX_DEPTH:
            return None
        return self.compare(reference, given, replace(self, depth=self.depth + 1)).equal

    @property
    def asks_percent(self) -> bool | None:
        """True if the question asks for a percentage; None if there is no question."""
        return None if self.question is None else re.search(r"percent|%|百分", self.question, re.IGNORECASE) is not None


def as_outcome(equal: bool | None, same: str, different: str, unclear: str = "cannot be decided") -> Outcome:
    """The outcome for `equal`, with the matching reason."""
    return Outcome(equal, same if equal else different if equal is False else unclear)
