"""Decides whether two references have different values. It does not use the checker, which is measured with it.

Numbers are compared exactly. Other formulas are evaluated, with fixed numbers in place of letters, and the results are
compared. If a reference cannot be evaluated, its spelling decides, without spaces and purely visual commands. Common
units are ignored, and so is a base (as in `12_7`) that only one reference has. An angle in degrees equals the same
angle in radians.
"""

from __future__ import annotations

import ast
import cmath
import math
import operator
import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from cord_worker.bench.answer_styles import as_number

_VISUAL = re.compile(
    r"\\(?:left|right|displaystyle|!|,|;|:|quad|qquad|\s)|\\[(\[\])]|\$|~|\s|\\(?:text|mbox|mathrm|textbf)\s*(?=\{)"
)
_UNIT = re.compile(
    r"(?:\^\{?\\circ\}?|\\?%|\\?(?:text|mbox)\{\s*(?:degrees?|inches|inch|cents?|dollars?|cm|units?|feet|meters?)\s*\}"
    r"(?:\^\{?\d\}?)?)$"
)
_WITH_VARIABLE = re.compile(r"^[a-zA-Z]\s*(?:=|\\in)\s*(.+)$", re.DOTALL)
_BRACKETED = re.compile(r"^\\?[{(\[](.*)\\?[})\]]$", re.DOTALL)
_TOLERANCE = 1e-9


def values_differ(left: str, right: str) -> bool:
    """True if the references have different values, so that neither may be accepted for the other."""
    one, other = _without_unit_and_name(left), _without_unit_and_name(right)
    if (
        spelling(one) == spelling(other)
        or _without_base(one) == spelling(other)
        or spelling(one) == _without_base(other)
    ):
        return False
    if _is_degrees(left) is not _is_degrees(right) and r"\pi" in left + right:
        if _is_degrees(left):
            one = f"{one}\\pi/180"
        else:
            other = f"{other}\\pi/180"
    first, second = as_number(one), as_number(other)
    if first is not None and second is not None:
        return first != second
    values = values_of(one), values_of(other)
    if values[0] is None or values[1] is None:
        return True
    if len(values[0]) != len(values[1]):
        return True
    both = zip(_in_fixed_order(values[0]), _in_fixed_order(values[1]), strict=True)
    return not all(abs(a - b) <= _TOLERANCE * max(1.0, abs(a), abs(b)) for a, b in both)


def _is_degrees(reference: str) -> bool:
    return re.search(r"\\circ|degrees?", reference) is not None


def _without_base(reference: str) -> str:
    return re.sub(r"(?<=\d)_\d+$", "", spelling(reference))


def spelling(reference: str) -> str:
    """The reference without spaces and purely visual commands."""
    text = re.sub(r"\\[dt]frac", r"\\frac", reference)
    text = re.sub(r"\\frac\s*(\d)\s*(\d)", r"\\frac{\1}{\2}", text)
    text = re.sub(r"_\{(\w+)\}", r"_\1", _VISUAL.sub("", text))
    match = re.fullmatch(r"\{?\(?([A-Za-z ]+)\)?\}?", text)
    return match[1] if match else text


def _without_unit_and_name(reference: str) -> str:
    """The reference without its unit, a leading dollar sign, or a leading `x =`."""
    text = reference.strip().rstrip(".")
    text = re.sub(r"^\\?\$", "", text)
    text = _UNIT.sub("", text).strip()
    match = _WITH_VARIABLE.fullmatch(text)
    return match[1] if match and "=" not in match[1] else text


def values_of(reference: str) -> list[complex] | None:
    """The values of the reference's parts, with fixed numbers in place of letters; None if it cannot be evaluated."""
    inside = _BRACKETED.fullmatch(spelling(reference))
    text = inside[1] if inside and "," in inside[1] else spelling(reference)
    values: list[complex] = []
    for part in _parts(text):
        for sign in (1, -1) if r"\pm" in part else (1,):
            value = evaluate(part.replace(r"\pm", "+" if sign > 0 else "-"))
            if value is None:
                return None
            values.append(value)
    return values


def _parts(text: str) -> list[str]:
    parts, depth, start = [], 0, 0
    for at, character in enumerate(text):
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth == 0:
            parts.append(text[start:at])
            start = at + 1
    return [*parts, text[start:]]


def _in_fixed_order(values: list[complex]) -> list[complex]:
    return sorted(values, key=lambda value: (round(value.real, 9), round(value.imag, 9)))


_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
_FUNCTIONS: dict[str, Callable[[complex], complex]] = {
    "sqrt": cmath.sqrt,
    "sin": cmath.sin,
    "cos": cmath.cos,
    "tan": cmath.tan,
    "cot": lambda value: 1 / cmath.tan(value),
    "ln": cmath.log,
    "log": cmath.log,
}
_CONSTANTS = {"pi": math.pi, "e": math.e, "i": 1j}
_LARGEST_POWER = 200


def evaluate(text: str) -> complex | None:
    """The value of a formula, with fixed numbers in place of letters; None if it cannot be evaluated."""
    readable = text
    for _ in range(12):
        before = readable
        readable = re.sub(r"\\frac\{([^{}]*)\}\{([^{}]*)\}", r"((\1)/(\2))", readable)
        readable = re.sub(r"\\sqrt\{([^{}]*)\}", r"[sqrt](\1)", readable)
        readable = re.sub(r"\^\{([^{}]*)\}", r"^(\1)", readable)
        if readable == before:
            break
    readable = re.sub(r"\\sqrt(\d)", r"[sqrt](\1)", readable)
    readable = re.sub(r"\\(sin|cos|tan|cot|ln|log)(?:\{?([A-Za-z0-9])\}?|(?=\())", _as_call, readable)
    readable = readable.replace(r"\pi", "[pi]").replace(r"\cdot", "*").replace(r"\times", "*").replace("^", "**")
    tokens = re.findall(r"\[\w+\]|\d+\.?\d*|\.\d+|[A-Za-z]|\*\*|[-+*/()]|.", readable)
    joined = ""
    before = ""
    for token in tokens:
        if not re.fullmatch(r"\[\w+\]|\d+\.?\d*|\.\d+|[A-Za-z]|\*\*|[-+*/()]", token):
            return None
        begins = token[0] not in "*+-/)"
        ends = bool(before) and before[-1] not in "*+-/(" and before.strip("[]") not in _FUNCTIONS
        joined += ("*" if begins and ends else "") + token.strip("[]")
        before = token
    try:
        value = _value(ast.parse(joined, mode="eval").body)
    except (SyntaxError, ValueError, ArithmeticError, TypeError, KeyError, RecursionError):
        return None
    return value if cmath.isfinite(value) else None


def _as_call(match: re.Match[str]) -> str:
    return f"[{match[1]}]" + (f"({match[2]})" if match[2] else "")


def _value(node: ast.expr) -> complex:
    match node:
        case ast.Constant(value=int() | float() as number):
            return complex(number)
        case ast.Name(id=name):
            # An arbitrary fixed number for each letter.
            return complex(_CONSTANTS.get(name, 0.318 + ord(name[0]) / 97.13))
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _value(operand)
        case ast.Call(func=ast.Name(id=name), args=[argument]):
            return _FUNCTIONS[name](_value(argument))
        case ast.BinOp(left=left, op=op, right=right):
            base, exponent = _value(left), _value(right)
            if isinstance(op, ast.Pow) and abs(exponent) > _LARGEST_POWER:
                raise ValueError("too large a power")
            return complex(_BINARY[type(op)](base, exponent))
        case _:
            raise ValueError("unknown kind of formula")


def value_key(reference: str) -> str:
    """A key of the reference: its number if it is a plain number, else its spelling."""
    value = as_number(_without_unit_and_name(reference))
    return spelling(_without_unit_and_name(reference)) if value is None else str(Fraction(value))
