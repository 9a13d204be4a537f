"""Sets of real numbers: intervals, unions and the solutions of inequalities in one variable.

A set is a tree of ("interval", low, low closed, high, high closed), ("or", sets), ("and", sets) and ("not", set).
Two sets are compared exactly: at every end point of either, and between neighbouring end points.
"""

from __future__ import annotations

import re
from typing import Any

from cord_worker.verify.answer import expression, numbers, structures
from cord_worker.verify.answer.expression import Node, number
from cord_worker.verify.answer.value import compare_constants, constant, same_value

RealSet = tuple[Any, ...]

_INFINITY: Node = ("const", "inf")
_MINUS_INFINITY: Node = ("neg", _INFINITY)
REALS: RealSet = ("interval", _MINUS_INFINITY, False, _INFINITY, False)
_INTERVAL = re.compile(r"([\[(\]])(.+)([\])\[])", re.DOTALL)
_NAMED = {
    r"\mathbb{R}": REALS,
    r"\mathbf{R}": REALS,
    "all real numbers": REALS,
    "all reals": REALS,
    "all real values": REALS,
    "the set of all real numbers": REALS,
    "the set of real numbers": REALS,
    "the real numbers": REALS,
    "real numbers": REALS,
    "any real number": REALS,
    "every real number": REALS,
}
_POSITIVE: RealSet = ("interval", number(0), False, _INFINITY, False)
_NEGATIVE: RealSet = ("interval", _MINUS_INFINITY, False, number(0), False)
for _plus in (
    r"\mathbb{R}^+",
    r"\mathbb{R}^{+}",
    r"\mathbb{R}_+",
    r"\mathbb{R}_{+}",
    r"\mathbb{R}_{>0}",
    "all positive real numbers",
    "all positive reals",
    "positive real numbers",
    "the positive real numbers",
):
    _NAMED[_plus] = _POSITIVE
for _minus in (
    r"\mathbb{R}^-",
    r"\mathbb{R}^{-}",
    r"\mathbb{R}_{<0}",
    "all negative real numbers",
    "negative real numbers",
):
    _NAMED[_minus] = _NEGATIVE
_NOT_NEGATIVE: RealSet = ("interval", number(0), True, _INFINITY, False)
for _sign in ("non-negative", "nonnegative"):
    for _form in ("all {} real numbers", "all {} reals", "{} reals", "{} real numbers"):
        _NAMED[_form.format(_sign)] = _NOT_NEGATIVE
_NAMED[r"\mathbb{R}_{\ge 0}"] = _NAMED[r"\mathbb{R}_{\ge0}"] = _NOT_NEGATIVE
_EXCEPT = re.compile(
    r"(?:all|any) real(?: number)?s?(?: x)?,?(?: except(?: for)?| other than| but| not equal to)(?: x ?=)? (.+)"
)
_BUILDER = re.compile(r"\\\{ ?([a-zA-Z])(?: ?\\in ?\\mathbb ?\{R\})? ?(?:\||:) ?(.+)\\\}")
_MEMBER = re.compile(r"[a-zA-Z](?:_\w)? ?(?:\\in(?![a-z])| in ) ?(.+)")
_CALL = re.compile(r"[a-zA-Z] ?\( ?[a-zA-Z] ?\)")
_OPS = re.compile(r"<=|>=|!=|\\le(?![a-z])|\\ge(?![a-z])|\\ne(?![a-z])|<|>|=")
_PLAIN_OP = {"<=": "<=", ">=": ">=", "!=": "!=", "\\le": "<=", "\\ge": ">=", "\\ne": "!=", "<": "<", ">": ">", "=": "="}
_MIRRORED = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "!=": "!=", "=": "="}
_WORDS = (
    (
        re.compile(r" (?:is )?(?:less|smaller|fewer|lower) than or equal to | is at most | (?:is )?no more than "),
        r" \\le ",
    ),
    (
        re.compile(r" (?:is )?(?:greater|larger|more|bigger) than or equal to | is at least | (?:is )?no less than "),
        r" \\ge ",
    ),
    (re.compile(r" (?:is )?(?:less|smaller|fewer|lower) than "), " < "),
    (re.compile(r" (?:is )?(?:greater|larger|more|bigger) than "), " > "),
    (re.compile(r" (?:is )?not equal to | cannot be | can't be "), r" \\ne "),
)


def with_signs(text: str) -> str:
    """A text with words of comparison replaced by signs: `x is greater than 2`."""
    if " than " in text or " equal to " in text or " at " in text or " be " in text:
        for words, sign in _WORDS:
            text = words.sub(sign, text)
    return text


def relation(text: str) -> tuple[list[str], list[str]] | None:
    """The sides and the signs of a chain such as `0 \\le x < 1`; None if there is no sign outside brackets."""
    sides: list[str] = []
    signs: list[str] = []
    depth = start = 0
    for match in re.finditer(r"\\[{}]|[()\[\]{}]|" + _OPS.pattern, text):
        sign = match[0]
        if sign in _PLAIN_OP:
            if depth == 0:
                sides.append(text[start : match.start()].strip())
                signs.append(_PLAIN_OP[sign])
                start = match.end()
        else:
            depth += 1 if sign[-1] in "([{" else -1
    sides.append(text[start:].strip())
    return (sides, signs) if signs and all(sides) else None


def read(text: str) -> tuple[RealSet, str | None] | None:
    """The set that the text writes, and the name of its variable, if it has one; None if it is not a set of numbers."""
    text = with_signs(text.strip())
    if len(text) > 600:
        return None
    found = _NAMED.get(text) or _NAMED.get(text.casefold())
    if found is not None:
        return found, None
    if match := _BUILDER.fullmatch(text):
        inner = read(match[2])
        return (inner[0], None) if inner else None
    if match := _MEMBER.fullmatch(text):
        inner = read(match[1])
        return (inner[0], text[0]) if inner else None
    if match := _EXCEPT.fullmatch(text):
        points = _points(match[1])
        return None if points is None else (("and", (REALS, ("not", points))), None)
    for sign, kind in ((r"\cup", "or"), (r"\cap", "and"), (r"\setminus", "minus")):
        pieces = _split_at(text, sign)
        if len(pieces) > 1:
            return _combine(pieces, kind)
    if re.search(r"[\])] U [\[(]", text):
        return _combine(re.split(r"(?<=[\])]) U (?=[\[(])", text), "or")
    interval = _interval(text)
    if interval is not None:
        return interval, None
    return _solutions(text)


def _split_at(text: str, sign: str) -> list[str]:
    """The pieces between the occurrences of a command. Brackets are ignored, because those of an interval need not
    match."""
    pieces, start = [], 0
    for match in re.finditer(r"\\[a-zA-Z]+", text):
        if match[0] == sign:
            pieces.append(text[start : match.start()].strip())
            start = match.end()
    pieces.append(text[start:].strip())
    return pieces


def _combine(pieces: list[str], kind: str) -> tuple[RealSet, str | None] | None:
    sets: list[RealSet] = []
    name: str | None = None
    for piece in pieces:
        found = read(piece)
        if found is None:
            points = _points(piece)
            if points is None:
                return None
            found = points, None
        sets.append(found[0])
        name = name or found[1]
    if kind == "minus":
        return ("and", (sets[0], *(("not", other) for other in sets[1:]))), name
    return (kind, tuple(sets)), name


def _points(text: str) -> RealSet | None:
    inner = structures.split_brackets(text)
    items = inner.items if inner is not None and inner.kind == "set" else structures.split(text).items
    found: list[RealSet] = []
    for item in items:
        value = _value(re.sub(r"^[a-zA-Z] ?= ?", "", item))
        if value is None:
            return None
        found.extend(("interval", point, True, point, True) for point in expression.plus_minus(value))
    return ("or", tuple(found))


def _value(text: str) -> Node | None:
    plain = numbers.number(text)
    if plain is not None:
        return number(plain.value)
    if text.strip() in (r"+\infty", "infinity", "inf"):
        return _INFINITY
    return expression.parse(text)


def _interval(text: str) -> RealSet | None:
    match = _INTERVAL.fullmatch(text)
    if match is None:
        return None
    items = structures.split(match[2], inside=True).items
    if len(items) != 2:
        return None
    low, high = _value(items[0]), _value(items[1])
    if low is None or high is None or expression.holds(low, "pm", "mp") or expression.holds(high, "pm", "mp"):
        return None
    return ("interval", low, match[1] == "[", high, match[3] == "]")


def _solutions(text: str) -> tuple[RealSet, str | None] | None:
    """The solutions of an inequality, or of several of them with "and" or "or"."""
    parts = structures.split(text)
    if len(parts.items) > 1:
        found = [_solutions(item) for item in parts.items]
        if any(one is None for one in found):
            return None
        known = [one for one in found if one is not None]
        name = known[0][1]
        if any(other != name for _, other in known):
            return None
        if parts.joined == "or":
            return ("or", tuple(one for one, _ in known)), name
        return ("and", tuple(one for one, _ in known)), name
    chain = relation(text)
    if chain is None or chain[1] == ["="]:
        return None
    sides, signs = chain
    # `0 < f(x) < 1` is about the value of f.
    trees = [("sym", "y") if _CALL.fullmatch(side) else _value(side) for side in sides]
    known_trees = [tree for tree in trees if tree is not None]
    if len(known_trees) != len(trees):
        return None
    names = frozenset[str]().union(*(expression.symbols(tree) for tree in known_trees))
    if len(names) != 1:
        return None
    (name,) = names
    solved = []
    for left, sign, right in zip(known_trees, signs, known_trees[1:], strict=False):
        one = _solve(left, sign, right, name)
        if one is None:
            return None
        solved.append(one)
    return (solved[0] if len(solved) == 1 else ("and", tuple(solved))), name


def _solve(left: Node, sign: str, right: Node, name: str) -> RealSet | None:
    if name in expression.symbols(right) and name not in expression.symbols(left):
        left, right, sign = right, left, _MIRRORED[sign]
    if left == ("sym", name) and name not in expression.symbols(right):
        return _ray(right, sign)
    if left[0] == "fn" and left[1] == "abs" and name not in expression.symbols(right):
        inner = left[2][0]
        within, without = _solve(inner, sign, right, name), _solve(inner, _MIRRORED[sign], ("neg", right), name)
        if within is None or without is None:
            return None
        return ("and" if sign in ("<", "<=", "!=") else "or", (within, without))
    return _polynomial(("add", (left, ("neg", right))), sign, name)


def _ray(end: Node, sign: str) -> RealSet:
    if sign in ("<", "<="):
        return ("interval", _MINUS_INFINITY, False, end, sign == "<=")
    if sign in (">", ">="):
        return ("interval", end, sign == ">=", _INFINITY, False)
    point: RealSet = ("interval", end, True, end, True)
    return point if sign == "=" else ("not", point)


def _polynomial(difference: Node, sign: str, name: str) -> RealSet | None:
    """The solutions of `difference` compared with 0, if it is linear or quadratic in `name`."""

    def at(value: int) -> Node:
        return expression.substitute(difference, name, number(value))

    variable: Node = ("sym", name)
    zero, one, other = at(0), at(1), at(-1)
    slope: Node = ("div", ("add", (one, ("neg", other))), number(2))
    if same_value(difference, ("add", (zero, ("mul", (slope, variable))))):
        direction = compare_constants(slope, number(0))
        if not direction:
            return None
        return _ray(("neg", ("div", zero, slope)), sign if direction > 0 else _MIRRORED[sign])
    square: Node = ("div", ("add", (one, other, ("mul", (number(-2), zero)))), number(2))
    whole: Node = ("add", (zero, ("mul", (slope, variable)), ("mul", (square, variable, variable))))
    if not same_value(difference, whole):
        return None
    direction = compare_constants(square, number(0))
    discriminant: Node = ("add", (("mul", (slope, slope)), ("mul", (number(-4), square, zero))))
    size = compare_constants(discriminant, number(0))
    if not direction or size is None or size <= 0:
        return None
    root: Node = ("fn", "root", (discriminant, number(2)))
    ends: list[Node] = [
        ("div", ("add", (("neg", slope), signed)), ("mul", (number(2), square))) for signed in (("neg", root), root)
    ]
    low, high = ends if direction > 0 else ends[::-1]
    if direction < 0:
        sign = _MIRRORED[sign]
    if sign in ("<", "<="):
        return ("interval", low, sign == "<=", high, sign == "<=")
    if sign in (">", ">="):
        return ("or", (_ray(low, "<" if sign == ">" else "<="), _ray(high, sign)))
    return None


def same_set(left: RealSet, right: RealSet) -> bool | None:
    """True if both sets hold the same numbers; None if that cannot be decided."""
    if left == right:
        return True
    ends = _ends(left) + _ends(right)
    if any(expression.symbols(end) for end in ends):
        return _same_shape(left, right)
    ordered: list[Node] = []
    keyed = []
    for end in ends:
        if end in (_INFINITY, _MINUS_INFINITY):
            continue
        value = constant(end)
        if value is None:
            return None
        keyed.append((value, end))
    for _, end in sorted(keyed, key=lambda pair: pair[0]):
        if not ordered or compare_constants(ordered[-1], end) != 0:
            ordered.append(end)
    places = {
        end: 2 * at + 1
        for end in {end for _, end in keyed}
        for at, known in enumerate(ordered)
        if compare_constants(end, known) == 0
    }
    if len(places) < len({end for _, end in keyed}):
        return None
    places |= {_MINUS_INFINITY: -1, _INFINITY: 2 * len(ordered) + 1}
    return all(_holds(left, at, places) == _holds(right, at, places) for at in range(2 * len(ordered) + 1))


def _ends(found: RealSet) -> list[Node]:
    if found[0] == "interval":
        return [found[1], found[3]]
    if found[0] == "not":
        return _ends(found[1])
    return [end for one in found[1] for end in _ends(one)]


def _holds(found: RealSet, at: int, places: dict[Node, int]) -> bool:
    """True if a set holds the place `at`: odd places are end points, even ones lie between them."""
    kind = found[0]
    if kind == "interval":
        low, high = places[found[1]], places[found[3]]
        return (low < at or (low == at and found[2])) and (at < high or (at == high and found[4]))
    if kind == "not":
        return not _holds(found[1], at, places)
    return (any if kind == "or" else all)(_holds(one, at, places) for one in found[1])


def _same_shape(left: RealSet, right: RealSet) -> bool | None:
    """Compares sets whose ends have names: True for the same intervals in the same order, otherwise None."""
    if left[0] != right[0]:
        return None
    if left[0] == "interval":
        if (left[2], left[4]) != (right[2], right[4]):
            return False
        same = [same_value(left[1], right[1]), same_value(left[3], right[3])]
        return False if False in same else None if None in same else True
    if left[0] == "not":
        return _same_shape(left[1], right[1])
    if len(left[1]) != len(right[1]):
        return None
    found = [_same_shape(one, other) for one, other in zip(left[1], right[1], strict=True)]
    return True if all(found) else None
