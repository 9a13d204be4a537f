"""Compares the values of two trees: exactly if they are rational, otherwise numerically with high precision.

Constants are compared to hundreds of digits. Expressions with names (such as x) are compared at several points. Their
coordinates are fixed, so that a comparison always has the same result. A value too large to compute is undecided.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from typing import Any

from cord_worker.verify.answer.expression import Node, children, holds, symbols

MAX_BITS = 200_000
"""Bits of the longest rational number that is computed."""
_MAX_TERMS = 2000
_MAX_NESTED_TERMS = 20
"""The same for a series that holds another one."""
_MAX_DEPTH = 2
"""Maximum `_nesting_depth` of a tree whose value is computed."""
_MAX_FACTORIAL = 3000
_RANGES = ((0.3, 2.7), (0.3, 2.7), (0.02, 0.98), (3, 12), (20, 60), (-2.7, -0.3), (-0.98, -0.02), (-12, -3), (-60, -20))
"""For each point, the range of its coordinates."""


class TooLarge(ArithmeticError):
    """A value has too many digits to be computed."""


class NoValue(ArithmeticError):
    """An expression has no value at this point, or none that this module can compute."""


def same_value(left: Node, right: Node) -> bool | None:
    """True if the values are equal; None if undecided. Trees with ± are always undecided: resolve it first
    (`plus_minus`)."""
    if left == right:
        return True
    if holds(left, "pm", "mp") or holds(right, "pm", "mp"):
        return None
    if max(_nesting_depth(left), _nesting_depth(right)) > _MAX_DEPTH:
        return None
    left_infinity, right_infinity = infinity(left), infinity(right)
    if left_infinity or right_infinity:
        return left_infinity == right_infinity
    try:
        if not symbols(left) and not symbols(right):
            wanted, found = rational(left), rational(right)
            if wanted is not None and found is not None:
                return wanted == found
        if _holds_bare_logarithm(left) or _holds_bare_logarithm(right):
            # \log can be natural or decimal.
            natural, decimal = _agree(left, right, "e"), _agree(left, right, "10")
            return natural if natural == decimal else None
        return _agree(left, right, "e")
    except (TooLarge, OverflowError, MemoryError, RecursionError):
        return None


def infinity(tree: Node) -> int:
    """1 or -1 for plus or minus infinity, otherwise 0."""
    if tree == ("const", "inf"):
        return 1
    return -infinity(tree[1]) if tree[0] == "neg" else 0


def constant(tree: Node, digits: int = 60) -> Any:
    """The real value of a tree without names as an mpmath number; None if there is none, or if the tree is nested too
    deeply.

    Raises:
        TooLarge: it has too many digits.
    """
    if _nesting_depth(tree) > _MAX_DEPTH:
        return None
    try:
        value = _Evaluation(digits, {}, "e").value(tree)
    except (NoValue, ZeroDivisionError, ValueError):
        return None
    return _real(value, _context(digits))


def compare_constants(left: Node, right: Node) -> int | None:
    """-1, 0 or 1 if `left` is less than, equal to or greater than `right`; None if one has no real value or is too
    large."""
    first, second = infinity(left), infinity(right)
    if first or second:
        return (first > second) - (first < second)
    same = same_value(left, right)
    if same is None:
        return None
    if same:
        return 0
    try:
        a, b = constant(left, 100), constant(right, 100)
    except (TooLarge, OverflowError):
        return None
    if a is None or b is None or a == b:
        return None
    return -1 if a < b else 1


def rational(tree: Node) -> Fraction | None:
    """The exact value of a tree; None if it is irrational, has names or is not known to be rational.

    Raises:
        TooLarge: it has too many digits.
    """
    if _nesting_depth(tree) > _MAX_DEPTH:
        return None
    try:
        return _rational(tree, {})
    except (ZeroDivisionError, NoValue):
        return None


def _rational(tree: Node, names: dict[str, Fraction]) -> Fraction | None:
    kind = tree[0]
    if kind == "num":
        value: Fraction = tree[1]
        return value
    if kind == "sym":
        return names.get(tree[1])
    if kind in ("const", "pm", "mp", "diff"):
        return None
    if kind == "big":
        return _rational_series(tree, names)
    parts = []
    for child in children(tree):
        part = _rational(child, names)
        if part is None:
            return None
        parts.append(part)
    return _limited_in_size(_rational_operation(tree, parts))


def _rational_operation(tree: Node, parts: list[Fraction]) -> Fraction | None:
    kind = tree[0]
    if kind == "neg":
        return -parts[0]
    if kind == "add":
        return sum(parts, Fraction(0))
    if kind == "mul":
        result = Fraction(1)
        for part in parts:
            result = result * part
            _limited_in_size(result)
        return result
    if kind == "div":
        return parts[0] / parts[1]
    if kind == "pow":
        return _power(parts[0], parts[1])
    if kind == "fact":
        return _factorial(parts[0])
    name = tree[1]
    if name == "root":
        if parts[1].denominator != 1 or not 1 <= parts[1] <= 64:
            return None
        return _exact_root(parts[0], int(parts[1]))
    if name in _RATIONAL_FUNCTIONS:
        return _RATIONAL_FUNCTIONS[name](parts)
    return None


def _rational_series(tree: Node, names: dict[str, Fraction]) -> Fraction | None:
    _, kind, variable, low, high, body = tree
    first, last = _rational(low, names), _rational(high, names)
    if kind == "int" or first is None or last is None or first.denominator != 1 or last.denominator != 1:
        return None
    if last - first > _most_terms(body):
        raise TooLarge
    result = Fraction(0 if kind == "sum" else 1)
    for index in range(int(first), int(last) + 1):
        part = _rational(body, {**names, variable: Fraction(index)})
        if part is None:
            return None
        result = result + part if kind == "sum" else result * part
        _limited_in_size(result)
    return result


def _nesting_depth(tree: Node) -> int:
    """Nesting depth of series, integrals and derivatives; each level needs many values of the next."""
    below: int = max(map(_nesting_depth, children(tree)), default=0)
    return below + 1 if tree[0] in ("big", "diff") else below


def _most_terms(body: Node) -> int:
    """Maximum number of terms of a series; lower if it holds another one, because the lengths multiply."""
    return _MAX_NESTED_TERMS if holds(body, "big", "diff") else _MAX_TERMS


def _limited_in_size(value: Fraction | None) -> Fraction | None:
    """`value`. Raises TooLarge if its numerator and denominator together have too many digits."""
    if value is not None and value.numerator.bit_length() + value.denominator.bit_length() > 2 * MAX_BITS:
        raise TooLarge
    return value


def _power(base: Fraction, exponent: Fraction) -> Fraction | None:
    if exponent.denominator != 1:
        if exponent.denominator > 64:
            return None
        root = _exact_root(base, exponent.denominator)
        return None if root is None else _power(root, Fraction(exponent.numerator))
    if base in (0, 1):
        if base == 0 and exponent <= 0:
            raise NoValue
        return base
    if base == -1:
        return base if exponent.numerator % 2 else -base
    if abs(exponent) * max(base.numerator.bit_length(), base.denominator.bit_length()) > MAX_BITS:
        raise TooLarge
    return Fraction(base ** int(exponent))


def _exact_root(value: Fraction, index: int) -> Fraction | None:
    if value < 0:
        root = None if index % 2 == 0 else _exact_root(-value, index)
        return None if root is None else -root
    upper, lower = _whole_root(value.numerator, index), _whole_root(value.denominator, index)
    return None if upper is None or lower is None else Fraction(upper, lower)


def _whole_root(value: int, index: int) -> int | None:
    if index == 1 or value < 2:
        return value
    if index == 2:
        root = math.isqrt(value)
    else:
        if value.bit_length() > 20_000:
            return None
        low, high = 1, 1 << (value.bit_length() // index + 1)
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if middle**index <= value else (low, middle - 1)
        root = low
    return root if root**index == value else None


def _factorial(value: Fraction) -> Fraction | None:
    if value.denominator != 1 or value < 0:
        return None
    if value > _MAX_FACTORIAL:
        raise TooLarge
    return Fraction(math.factorial(int(value)))


def _double_factorial(parts: list[Fraction]) -> Fraction | None:
    if parts[0].denominator != 1 or not 0 <= parts[0] <= _MAX_FACTORIAL:
        return None
    return Fraction(math.prod(range(int(parts[0]), 0, -2)))


def _for_integers(function: Callable[..., int]) -> Callable[[list[Fraction]], Fraction | None]:
    def apply(parts: list[Fraction]) -> Fraction | None:
        if any(part.denominator != 1 for part in parts):
            return None
        return Fraction(function(*map(int, parts)))

    return apply


def _binomial(upper: int, lower: int) -> int:
    if upper > _MAX_FACTORIAL or upper < 0:
        raise TooLarge
    return math.comb(upper, lower) if lower >= 0 else 0


_RATIONAL_FUNCTIONS: dict[str, Callable[[list[Fraction]], Fraction | None]] = {
    "abs": lambda parts: abs(parts[0]),
    "floor": lambda parts: Fraction(math.floor(parts[0])),
    "ceil": lambda parts: Fraction(math.ceil(parts[0])),
    "sgn": lambda parts: Fraction((parts[0] > 0) - (parts[0] < 0)),
    "max": lambda parts: max(parts),
    "min": lambda parts: min(parts),
    "mod": lambda parts: parts[0] % parts[1],
    "gcd": _for_integers(math.gcd),
    "lcm": _for_integers(math.lcm),
    "binom": _for_integers(_binomial),
    "double factorial": _double_factorial,
}


def _holds_bare_logarithm(tree: Node) -> bool:
    if tree[0] == "fn" and tree[1] == "log" and len(tree[2]) == 1:
        return True
    return any(map(_holds_bare_logarithm, children(tree)))


def _agree(left: Node, right: Node, base: str) -> bool | None:
    """False if the values of the trees differ at a point; True if they are equal at two points or more, and no other
    point has a value of only one tree; otherwise None. Trees without names are compared once. `base` is the base of
    bare logarithms, "e" or "10"."""
    names = sorted(symbols(left) | symbols(right))
    complex_meant = _holds_i(left) or _holds_i(right)
    if not names:
        outcome, _ = _at_point(left, right, {}, base, (50, 300), real_only=False)
        return outcome
    whole = _needs_whole_numbers(left) or _needs_whole_numbers(right)
    agreed = mismatched = 0
    stepped = _has_steps(left) or _has_steps(right)
    # Floors jump only at integers, so three further points have integers as coordinates.
    for index in range(len(_RANGES) + (3 if stepped else 0)):
        point = {name: _coordinate(name, index, whole=whole) for name in names}
        outcome, mismatch = _at_point(left, right, point, base, (40, 120), real_only=not complex_meant)
        if outcome is False:
            return False
        agreed += outcome is True
        # Among integers a point at which only one tree has a value does not count: a factorial has none below zero.
        mismatched += mismatch and not whole
    if agreed == 0 and not complex_meant:
        # Perhaps no point has real values of both trees; then complex values can still be equal.
        for index in range(4):
            point = {name: _coordinate(name, index, whole=whole) for name in names}
            outcome, _ = _at_point(left, right, point, base, (40, 120), real_only=False)
            if outcome is False:
                return False
            agreed += outcome is True
    return True if agreed >= 2 and not mismatched else None


def _coordinate(name: str, index: int, *, whole: bool) -> Fraction:
    """A coordinate that looks random and is always the same."""
    drawn = hashlib.sha256(f"{name}:{index}".encode()).digest()
    share = int.from_bytes(drawn[:4]) / 2**32
    if whole or index >= len(_RANGES):
        return Fraction((-1 if index > len(_RANGES) else 1) * (1 + index % 5 + int(share * 12)))
    low, high = _RANGES[index]
    # In the two widest ranges about half of the names get the opposite sign.
    if abs(low) > 1 and index % 2 == 0 and drawn[4] % 2:
        low, high = -high, -low
    return Fraction(round((low + (high - low) * share) * 10**6), 10**6)


def _needs_whole_numbers(tree: Node) -> bool:
    """True if the tree holds (-1)^n, n! or a sum to n, which need integers."""
    kind = tree[0]
    if kind in ("num", "sym", "const"):
        return False
    if kind == "pow" and symbols(tree[2]) and not symbols(tree[1]):
        inner = tree[1]
        if inner[0] == "neg" or (inner[0] == "num" and inner[1] < 0):
            return True
    if kind == "fact" or (kind == "fn" and tree[1] in ("binom", "gcd", "lcm", "double factorial", "mod")):
        return bool(symbols(tree))
    if kind == "big":
        return bool(symbols(tree[3]) | symbols(tree[4])) and tree[1] != "int"
    return any(map(_needs_whole_numbers, children(tree)))


def _has_steps(tree: Node) -> bool:
    """True if the tree holds floors and the like, which jump only at integers."""
    if tree[0] == "fn" and tree[1] in ("floor", "ceil", "sgn", "mod"):
        return True
    return any(map(_has_steps, children(tree)))


def _holds_i(tree: Node) -> bool:
    return tree == ("const", "i") or any(map(_holds_i, children(tree)))


def _at_point(
    left: Node, right: Node, point: dict[str, Fraction], base: str, digits: tuple[int, int], *, real_only: bool
) -> tuple[bool | None, bool]:
    """Whether the trees agree at a point, and whether only one of them has a (real) value there.

    A difference that shrinks as the precision grows does not count.
    """
    previous: Any = None
    absorbed = False
    # The share of the digits that must agree. Derivatives and integrals are computed to fewer digits than asked for.
    share = 0.6 if any(holds(tree, "big", "diff") for tree in (left, right)) else 0.92
    for places in (*digits, 2 * digits[1]):
        found, lost = _evaluate_both((left, right), point, base, places, real_only=real_only)
        absorbed |= lost
        a, b = found
        if a is None or b is None:
            return None, (a is None) != (b is None)
        context = _context(places)
        size, difference = max(abs(a), abs(b)), abs(a - b)
        if context.isnan(difference) or context.isinf(size):
            return None, False
        relative = difference / size if size else context.zero
        if previous is None:
            if relative > context.mpf(10) ** -12 and size > context.mpf(10) ** (-places // 2):
                return False, False
            previous = difference
            continue
        shrunk = difference <= previous * context.mpf(10) ** (-(places - digits[0]) // 2)
        if difference == 0 or relative <= context.mpf(10) ** -int(places * share) or (previous and shrunk):
            return (None if absorbed else True), False
        if previous:
            return False, False
        # No difference at low precision, but one at high precision: a third precision tells noise from a difference.
        previous = difference
    return False, False


def _evaluate_both(
    trees: tuple[Node, Node], point: dict[str, Fraction], base: str, places: int, *, real_only: bool
) -> tuple[list[Any], bool]:
    """The values of both trees, and whether a term was too small to change a sum. A value is None if the tree has none,
    or with `real_only` no real one."""
    found: list[Any] = []
    absorbed = False
    for tree in trees:
        evaluation = _Evaluation(places, point, base)
        try:
            value = evaluation.value(tree)
        except (NoValue, ZeroDivisionError, ValueError):
            value = None
        if value is not None and real_only:
            value = _real(value, _context(places))
        absorbed |= evaluation.absorbed
        found.append(value)
    return found, absorbed


def _real(value: Any, context: Any) -> Any:
    if isinstance(value, context.mpc):
        if abs(value.imag) > context.mpf(10) ** (-context.dps // 2) * max(1, abs(value.real)):
            return None
        return value.real
    return value


@lru_cache(maxsize=16)
def _context(digits: int) -> Any:
    # Imported here: only irrational values and names need it.
    import mpmath

    context = mpmath.MPContext()
    context.dps = digits
    return context


class _Evaluation:
    """Computes trees at a point; `absorbed` is set if a term was too small to change a sum at this precision.

    `base` is the base of bare logarithms, "e" or "10".
    """

    def __init__(self, digits: int, point: dict[str, Fraction], base: str) -> None:
        self.context = _context(digits)
        self.point: dict[str, Any] = {name: self.fraction(value) for name, value in point.items()}
        self.base = base
        self.absorbed = False

    def fraction(self, value: Fraction) -> Any:
        if value.numerator.bit_length() + value.denominator.bit_length() > MAX_BITS:
            raise TooLarge
        return self.context.mpf(value.numerator) / value.denominator

    def value(self, tree: Node) -> Any:
        kind = tree[0]
        if kind == "num":
            return self.fraction(tree[1])
        if kind == "sym":
            return self.point[tree[1]]
        if kind == "const":
            return self.constant(tree[1])
        if kind == "pow":
            return self.power(self.value(tree[1]), self.value(tree[2]), tree[2])
        if kind == "big":
            return self.series(tree)
        if kind == "diff":
            return self.derivative(tree)
        parts = [self.value(child) for child in children(tree)]
        if kind == "neg":
            return -parts[0]
        if kind == "add":
            return self.sum(parts)
        if kind == "mul":
            result = parts[0]
            for part in parts[1:]:
                result = result * part
            return result
        if kind == "div":
            return parts[0] / parts[1]
        if kind == "fact":
            return self.factorial(parts[0])
        return self.function(tree[1], parts)

    def constant(self, name: str) -> Any:
        if name == "pi":
            return +self.context.pi
        if name == "e":
            return +self.context.e
        if name == "i":
            return self.context.mpc(0, 1)
        raise NoValue

    def sum(self, parts: list[Any]) -> Any:
        result = parts[0]
        for part in parts[1:]:
            if part and result and abs(self.magnitude(result) - self.magnitude(part)) > self.context.prec + 20:
                self.absorbed = True
            result = result + part
        return result

    def magnitude(self, value: Any) -> int:
        return int(self.context.mag(value))

    def power(self, base: Any, exponent: Any, exponent_tree: Node) -> Any:
        if base == 0:
            if self.is_positive(exponent):
                return self.context.zero
            raise NoValue
        size = self.magnitude(base)
        if exponent and self.magnitude(exponent) + max(abs(size), 1).bit_length() > 24:
            raise TooLarge
        if self.is_real(base) and base < 0 and self.is_real(exponent) and not self.context.isint(exponent):
            share = None if symbols(exponent_tree) else rational(exponent_tree)
            if share is not None and share.denominator % 2:
                # An odd root of a negative number is real: the cube root of -8 is -2.
                root = abs(base) ** exponent
                return -root if share.numerator % 2 else root
        return base**exponent

    def is_real(self, value: Any) -> bool:
        return not isinstance(value, self.context.mpc)

    def is_positive(self, value: Any) -> bool:
        return bool((value if self.is_real(value) else value.real) > 0)

    def factorial(self, value: Any) -> Any:
        if not self.is_real(value) or abs(value) > _MAX_FACTORIAL:
            raise TooLarge
        return self.context.factorial(value)

    def function(self, name: str, parts: list[Any]) -> Any:
        context = self.context
        if name == "degree":
            return context.pi / 180
        first = parts[0]
        if name == "root":
            return self.root(first, parts[1])
        if name == "log":
            below = parts[1] if len(parts) > 1 else (context.e if self.base == "e" else context.mpf(10))
            if first == 0 or below in (0, 1):
                raise NoValue
            return context.log(first) if below == context.e else context.log(first) / context.log(below)
        if name.startswith("call "):
            # An unknown function such as f gets values that no other expression has by chance.
            seed = hashlib.sha256(name.encode()).digest()[0] + 3
            return sum((context.sin(part * (seed + at)) + part**2 / 7 for at, part in enumerate(parts)), context.zero)
        if name in ("max", "min"):
            return (max if name == "max" else min)(parts)
        if name == "binom":
            return context.binomial(*parts)
        if name == "mod":
            return first - parts[1] * context.floor(first / parts[1])
        if name not in _FUNCTIONS or len(parts) != 1:
            raise NoValue
        if first and self.magnitude(first) > 10_000:
            raise TooLarge
        return getattr(context, _FUNCTIONS[name])(first)

    def root(self, value: Any, index: Any) -> Any:
        if index == 2:
            return self.context.sqrt(value)
        if self.is_real(value) and value < 0 and self.context.isint(index) and int(index) % 2:
            return -((-value) ** (1 / index))
        return value ** (1 / index)

    def series(self, tree: Node) -> Any:
        _, kind, variable, low, high, body = tree
        first, last = self.value(low), self.value(high)
        if kind == "int":
            return self.context.quad(lambda x: self.value_with(body, variable, x), [first, last])
        if not (self.context.isint(first) and self.context.isint(last)):
            raise NoValue
        if last - first > _most_terms(body):
            raise TooLarge
        terms = [self.value_with(body, variable, self.context.mpf(index)) for index in range(int(first), int(last) + 1)]
        if kind == "sum":
            return self.context.fsum(terms)
        return self.context.fprod(terms)

    def value_with(self, body: Node, variable: str, value: Any) -> Any:
        """The value of `body`, with `variable` set to `value`."""
        outer = self.point
        self.point = {**outer, variable: value}
        try:
            return self.value(body)
        finally:
            self.point = outer

    def derivative(self, tree: Node) -> Any:
        _, variable, body = tree
        return self.context.diff(lambda x: self.value_with(body, variable, x), self.point[variable])


_FUNCTIONS = {
    "sin": "sin", "cos": "cos", "tan": "tan", "cot": "cot", "sec": "sec", "csc": "csc", "arcsin": "asin",
    "arccos": "acos", "arctan": "atan", "arccot": "acot", "arcsec": "asec", "arccsc": "acsc", "sinh": "sinh",
    "cosh": "cosh", "tanh": "tanh", "coth": "coth", "sech": "sech", "csch": "csch", "arcsinh": "asinh",
    "arccosh": "acosh", "arctanh": "atanh", "abs": "fabs", "floor": "floor", "ceil": "ceil", "sgn": "sign",
    "erf": "erf", "Re": "re", "Im": "im", "arg": "arg",
}  # fmt: skip
