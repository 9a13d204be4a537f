"""Equations: the value that an equation gives to a bare name, and whether two equations are equivalent."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from cord_worker.verify.answer import expression, realsets
from cord_worker.verify.answer.expression import Node
from cord_worker.verify.answer.value import TooLarge, compare_constants, constant, same_value

_LETTER = r"(?:[A-Za-z]|\\(?!frac|sqrt|pi(?![a-z])|sin|cos|tan|cot|sec|csc|log|ln|sum|int|angle|overline)[a-zA-Z]+ ?)"
_SUBSCRIPT = r"(?:'{0,3}(?: ?_ ?(?:\{[^{}]{1,20}\}|\w))?'{0,3})"
_CALL = r"(?: ?\([^()=]{1,40}(?:\([^()]{0,20}\)[^()]{0,20})?\))"
_THING = rf"\|?[A-Z]{{1,4}}'?{_SUBSCRIPT}\|?"
"""The name of a length, an area or a volume: `AB`, `S_{ABC}`, `V_1`. A ratio of such names is also a name."""
_NAME = re.compile(
    rf"{_LETTER}{_SUBSCRIPT}{_CALL}?"
    rf"|[a-zA-Z]\^ ?\{{?(?:-1|\(?\d\)?|'+)\}}? ?\([^()]{{1,20}}\)"  # the inverse or a derivative of a function
    r"|P ?\([^()]{1,60}(?:\([^()]{0,20}\))?[^()]{0,20}\)"
    r"|(?:m ?)?\\(?:angle|triangle|overline|overrightarrow|vec|hat|bar|mathbf|mathcal) ?\{?[A-Za-z]{1,4}\}?'?(?:_\w)?"
    r"|\|?[A-Z]{2,4}\|?|\[[A-Z]{3,6}\]|\\frac ?\{d[a-z]?\w?\} ?\{d[a-z]\}|d[a-z] ?/ ?d[a-z]"
    r"|\|(?![xynm]\|)\\?[a-z]+\|"
    rf"|{_THING}(?: ?[:/] ?{_THING}){{1,2}}|\\frac ?\{{ ?{_THING} ?\}} ?\{{ ?{_THING} ?\}}"
)
_WORDS = re.compile(r"(?:[A-Za-z]+(?:'s)?[ ,]?){1,8}")
_TUPLE_OF_NAMES = re.compile(rf"\( ?{_LETTER}{_SUBSCRIPT}(?: ?, ?{_LETTER}{_SUBSCRIPT})+ ?\)")
_NEXT_NAME = re.compile(rf"[,;] ?(?:and |or )?{_LETTER}{_SUBSCRIPT}{_CALL}? ?$")
_CONDITION = re.compile(
    r"(?:[,;]? ?\(? ?(?:where |for |with |and |when |if |such that )?(?:all |any |every |each |some )?"
    r"(?:integers? |real |natural |positive )*"
    r"(?P<names>[a-zA-Z](?:_\w)?(?: ?, ?[a-zA-Z](?:_\w)?)*) ?(?:\\in(?![a-z])|is an? |are |is any |any |an? )"
    r"(?P<rest>[^=<>]{1,60}?)\)?"
    r"|[,;]? (?:where|for|with) (?:all |any |every |each |some )?(?:(?:real|positive|natural|whole|non-negative) )*"
    r"(?:integers?|numbers?|constants?) (?P<names2>[a-zA-Z])"
    r"|[,;]? ?\(? ?(?:where |for |with )(?P<names3>[a-zA-Z]) ?(?P<rest3>(?:\\ge|\\le|\\ne|>|<|=).{1,40}?)\)?)$"
)
_CONGRUENCE = re.compile(
    r"(?:(?P<name>[a-zA-Z]) ?(?:\\equiv|=) ?)?(?P<residue>[^=\\(]{1,40}?),? ?\(? ?(?:\\(?:pmod|bmod|mod)|mod(?:ulo)?) ?"
    r"\{? ?(?P<modulus>\d{1,50}) ?\}? ?\)?"
)


@dataclass(frozen=True, slots=True)
class Equation:
    """`left = right`, with the middle parts of a chain."""

    left: str
    right: str
    between: tuple[str, ...] = ()

    @property
    def name(self) -> str | None:
        """The left side if it is a bare name such as `x`, `a_n`, `f(x)`, `\\angle ABC`, "the area", `(x,y)`."""
        return name_of(self.left)


def name_of(text: str) -> str | None:
    """`text` without spaces if it is a bare name (words: in lower case); otherwise None."""
    text = text.strip()
    if _NAME.fullmatch(text) or _TUPLE_OF_NAMES.fullmatch(text):
        return text.replace(" ", "")
    if _WORDS.fullmatch(text) and (" " in text or len(text) > 3) and text.casefold() not in expression.FUNCTIONS:
        return text.strip().casefold()
    return None


def equation(text: str) -> Equation | None:
    """An equation or a chain; None if the text has another relation sign, or no equals sign outside brackets."""
    if "=" not in text or re.search(r"[<>!]=|\\(?:le|ge|ne)(?![a-z])|[<>]", text):
        return None
    chain = realsets.relation(text)
    if chain is None:
        return None
    sides, _ = chain
    if any(_NEXT_NAME.search(side) for side in sides[1:-1]):
        return None  # `x = 1, y = 2`
    return Equation(sides[0], sides[-1], tuple(sides[1:-1]))


def same_names(left: str, right: str) -> bool:
    """True if two bare names may mean the same: `y` and `f(x)` may, `x` and `y` may not, words always may."""
    if left == right:
        return True
    if any(len(name) > 4 and re.fullmatch("[a-z ,']+", name) for name in (left, right)):
        return True
    calls = [re.fullmatch(r"([a-zA-Z])\([a-z]\)", name) for name in (left, right)]
    if calls[0] and calls[1] and calls[0][1] == calls[1][1]:
        return True  # The caller compares the right sides, which hold the argument.
    dependent = [name == "y" or re.fullmatch(r"[a-zA-Z]\([a-z]\)", name) is not None for name in (left, right)]
    return all(dependent) and "y" in (left, right)


def without_condition(text: str) -> tuple[str, str | None]:
    """Splits `x = k\\pi, k \\in \\mathbb{Z}` into its statement and the condition; None without a condition."""
    if len(text) > 400 or not re.search(r"\\in|\b(?:where|for|with|is|are|integer)\b|,", text):
        return text, None
    for match in re.finditer(r"[,;(]| (?:where|for|with)\b", text):
        if (found := _CONDITION.match(text, match.start())) and match.start() > 0:
            names = found["names"] or found["names2"] or found["names3"] or ""
            before = text[: match.start()].strip(" ,;")
            if all(
                re.search(rf"(?<![a-zA-Z\\]){re.escape(name.strip())}(?![a-zA-Z])", before) for name in names.split(",")
            ):
                condition = (found["rest"] or found["rest3"] or "integer").strip(" ()")
                return before, re.sub(r"(?:an? )?(?:arbitrary )?integers?|\\mathbb ?\{Z\}", "Z", condition)
    return text, None


@dataclass(frozen=True, slots=True)
class Congruence:
    """`name` is congruent to `residue` modulo `modulus`; `name` is None if the text has none."""

    name: str | None
    residue: int
    modulus: int


def congruence(text: str) -> Congruence | None:
    """The congruence that a text such as `x \\equiv 3 \\pmod 5` or `3 mod 5` writes; None if it writes none."""
    if "mod" not in text:
        return None
    match = _CONGRUENCE.fullmatch(text)
    if match is None:
        return None
    residue = re.fullmatch(r"-?\d{1,50}", match["residue"].strip())
    modulus = int(match["modulus"])
    if (
        residue is None
        or modulus == 0
        or ("=" not in text and "equiv" not in text and "(" not in text and "pmod" not in text)
    ):
        return None
    return Congruence(match["name"], int(residue[0]) % modulus, modulus)


def difference(left: str, right: str) -> Node | None:
    """`left - right` as a tree; None if a side is not understood or holds a ±."""
    first, second = expression.parse(left), expression.parse(right)
    if first is None or second is None or expression.holds(first, "pm", "mp") or expression.holds(second, "pm", "mp"):
        return None
    return ("add", (first, ("neg", second)))


def same_equation(reference: Equation, given: Equation) -> bool | None:
    """True if one equation is the other times a number that is not 0, or is the other solved for a name; None if
    undecided."""
    if reference.between or given.between:
        return None
    left, right = difference(reference.left, reference.right), difference(given.left, given.right)
    if left is None or right is None:
        return None
    return proportional(left, right) or _solved_alike(reference, given, left, right)


def proportional(left: Node, right: Node, *, positive: bool = False) -> bool | None:
    """True if `left` is `right` times a constant that is not 0 (with `positive`: above 0); None if undecided."""
    names = sorted(expression.symbols(left) | expression.symbols(right))
    if not names or expression.symbols(left) != expression.symbols(right):
        return False
    for attempt in range(3):
        values = {name: Fraction(2 * at + 3 + 7 * attempt, at + 2) for at, name in enumerate(names)}
        first, second = left, right
        for name, value in values.items():
            first = expression.substitute(first, name, expression.number(value))
            second = expression.substitute(second, name, expression.number(value))
        try:
            a, b = constant(first), constant(second)
        except (TooLarge, OverflowError):
            return None
        if a is None or b is None or abs(a) < 1e-20 or abs(b) < 1e-20:
            continue
        ratio: Node = ("div", first, second)
        if positive and compare_constants(ratio, expression.number(0)) != 1:
            return False
        return same_value(left, ("mul", (ratio, right)))
    return None


def _solved_alike(reference: Equation, given: Equation, left: Node, right: Node) -> bool | None:
    """True for `y = 2/x` and `xy = 2`: the second holds where the first does, and has only one solution for y."""
    for solved, tree in ((reference, right), (given, left)):
        name = solved.name
        value = expression.parse(solved.right)
        if name is None or value is None or name not in expression.symbols(tree) or name in expression.symbols(value):
            continue
        if same_value(expression.substitute(tree, name, value), expression.number(0)) is not True:
            continue
        at_zero, at_one = (expression.substitute(tree, name, expression.number(point)) for point in (0, 1))
        line: Node = ("add", (at_zero, ("mul", (("sym", name), ("add", (at_one, ("neg", at_zero)))))))
        return True if same_value(tree, line) else None
    return False
