"""Values with a unit, a currency or a percent sign: parses and compares them."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from fractions import Fraction

from cord_worker.verify.answer import expression, numbers, units
from cord_worker.verify.answer.expression import Node
from cord_worker.verify.answer.numbers import Number
from cord_worker.verify.answer.units import Unit
from cord_worker.verify.answer.value import TooLarge, constant, rational, same_value

_NO_UNIT = Unit(())
_PERCENT = re.compile(
    r"(?P<value>.+?) ?(?:\\?%|per ?cent(?:age)?(?: points?)?\b|pct\b|prozent\b|por ciento\b|pour cent\b|процентов\b"
    r"|퍼센트|بالمئة|بالمائة|في المئة|パーセント)"
    r"(?P<rest>(?: [a-z][a-z ]*)?)",
    re.IGNORECASE,
)
_HAN_PERCENT = re.compile("百分之(.+)")
_SIGN = r"(?P<sign>[-+]|minus |negative )? ?"
_MONEY = re.compile(
    rf"{_SIGN}(?P<currency>{'|'.join(map(re.escape, units.SYMBOLS))}) ?(?P<inner>-)?(?=[\d.\\]|[\d(])(?P<rest>.+)"
)
_FEET = re.compile(
    r"(?P<feet>\d+) ?(?:'|ft\.?|feet|foot),? ?(?:(?P<inches>\d+(?:\.\d+)?|\d+ \d+/\d+) ?(?:\"|''|in\.?|inch(?:es)?))?"
)
_INCHES = re.compile(r"(?P<inches>\d+(?:\.\d+)?) ?(?:\"|'')")
_UNIT_START = re.compile(
    r"(?<=[^a-zA-Z\\])(?=[a-zA-ZÀ-ÖØ-öø-ž€£¥₩¢$])|(?<=[^\u0400-\u04ff\u0600-\u06ff\uac00-\ud7af\u3040-\u9fff])"
    r"(?=[\u0400-\u04ff\u0600-\u06ff\uac00-\ud7af\u3040-\u9fff])"
    r"|(?<= )(?=[\u0900-\u0dff\u0e00-\u0e7f])|(?=\^ ?\\circ)|(?<=[\d)}])(?= ?/ ?[a-z]{2})"
    r"|(?<=[\d)} ])(?=\\frac ?\{(?:m|km|cm|miles?)\})|(?<=[\d)} ])(?=\\Omega|\\mu)"
    r"|(?<=[一二两三四五六七八九十百千万])(?=[\u3040-\u9fff])"
)
_MAX_STARTS = 12
_TRIGONOMETRIC = re.compile("sin|cos|tan|cot|sec|csc")


@dataclass(frozen=True, slots=True)
class Quantity:
    """`value` times `unit`; `number` is the value as written, if that is a number. A percentage is not divided by 100
    yet."""

    value: Node
    number: Number | None = None
    unit: Unit = _NO_UNIT
    percent: bool = False

    @property
    def type(self) -> str:
        if self.percent:
            return "percentage"
        if self.unit.currency:
            return "money"
        if not self.unit.empty:
            return "quantity"
        if self.number is None:
            return "expression"
        return "number"


def bare(text: str) -> Quantity | None:
    """The number or expression that the text is; None if it is neither."""
    found = numbers.number(text)
    if found is not None:
        return Quantity(expression.number(found.value), found)
    tree = expression.parse(text)
    return None if tree is None else Quantity(tree)


def _amount(text: str) -> Quantity | None:
    """Like `bare`, for the text before a unit, where a comma does not make a list: `12,5 kg`."""
    found = bare(text)
    if found is not None:
        return found
    comma = numbers.other_reading(text)
    return Quantity(expression.number(comma.value), comma) if comma and comma.sure else None


def quantity(text: str) -> Quantity | None:
    """The value that the text is, with its unit, currency or percent sign; None if it has none of these."""
    if len(text) > expression.MAX_CHARACTERS:
        return None
    return _percentage(text) or _money(text) or _feet_and_inches(text) or _compound(text) or _with_unit(text)


def _percentage(text: str) -> Quantity | None:
    if match := _HAN_PERCENT.fullmatch(text):
        found = _amount(match[1])
        return found and replace(found, percent=True)
    match = _PERCENT.fullmatch(text)
    if match is None or any(word == "off" or units.changes_a_number(word) for word in match["rest"].split()):
        return None
    found = _amount(match["value"])
    return found and replace(found, percent=True)


def _money(text: str) -> Quantity | None:
    match = _MONEY.fullmatch(text)
    if match is None:
        return None
    unit = Unit(((units.currency_code(match["currency"]), 1),))
    rest = match["rest"]
    found = _amount(rest)
    if found is None:
        inner = _with_unit(rest)
        if inner is None:
            return None
        other = inner.unit
        if other.currency and other.currency != unit.currency:
            return None
        rate = tuple(part for part in other.parts if part[1] < 0)
        extra = [name for name, power in other.parts if power > 0 and name != unit.currency]
        if any(not name.startswith("noun ") for name in extra):
            return None
        found, unit = inner, Unit(tuple(sorted(unit.parts + rate)))
    found = replace(found, unit=unit)
    negative = (match["sign"] or "").strip() in ("-", "minus", "negative") or match["inner"]
    return _negative(found) if negative else found


def _negative(found: Quantity) -> Quantity:
    number = found.number and replace(found.number, value=-found.number.value)
    return replace(found, number=number, value=expression.number(number.value) if number else ("neg", found.value))


def _feet_and_inches(text: str) -> Quantity | None:
    if (match := _FEET.fullmatch(text)) and ("'" in text or match["inches"]):
        inches = numbers.number(match["inches"]) if match["inches"] else None
        value = Fraction(match["feet"]) * 12 + (inches.value if inches else 0)
        return Quantity(expression.number(value), None, Unit((("inch", 1),)))
    if match := _INCHES.fullmatch(text):
        return Quantity(expression.number(Fraction(match["inches"])), None, Unit((("inch", 1),)))
    return None


def _with_unit(text: str) -> Quantity | None:
    for count, start in enumerate(_UNIT_START.finditer(text)):
        at = start.start()
        if at == 0:
            continue
        if count > _MAX_STARTS:
            return None
        amount, written = text[:at].rstrip(" -"), text[at:].strip()
        cents = units.subunit(written)
        unit = Unit(((cents, 1),)) if cents else units.unit(written)
        if unit is None or (unit.parts and unit.parts[0][0] == "noun time" and not amount.isdigit()):
            continue
        attached = text[at - 1] not in " ^" and len(written) == 1 and written.isascii()
        value = Quantity(expression.number(1)) if amount in ("a", "an") else _amount(amount)
        if value is None or amount.endswith(("+", "*", "/", "^", "=")):
            continue
        if expression.symbols(value.value) and (unit.nouns or (len(written) == 1 and written.isascii())):
            continue
        if unit.parts == (("degree", 1),) and expression.holds(value.value, "fn") and _TRIGONOMETRIC.search(amount):
            continue
        if cents:
            value = Quantity(("div", value.value, expression.number(100)), None)
        return replace(value, unit=replace(unit, attached=attached))
    return None


def _compound(text: str) -> Quantity | None:
    """The sum in `2 hours and 30 minutes` or `5 lb 3 oz`; None if the parts are not quantities of one kind."""
    if not 4 < len(text) < 80 or not text[0].isdigit():
        return None
    pieces = [piece for piece in re.split(r"(?:,? and |, | )(?=\d)", text) if piece]
    if not 2 <= len(pieces) <= 4:
        return None
    total: Fraction | None = None
    unit = _NO_UNIT
    for piece in pieces:
        part = _with_unit(piece)
        if part is None or part.unit.empty or part.unit.nouns:
            return None
        if part.number is None:
            # A part in pence is already in hundredths of a pound.
            below = rational(part.value) if part.unit.currency else None
            if total is None or below is None or unit.parts not in (part.unit.parts, (("pound", 1),)):
                return None
            total, unit = total + below, part.unit
            continue
        if total is None:
            total, unit = part.number.value, part.unit
            continue
        factor = units.factor_between(part.unit, unit)
        if factor is None or factor >= 1:
            return None
        total += part.number.value * factor
    return None if total is None else Quantity(expression.number(total), None, unit)


def same_quantity(reference: Quantity, given: Quantity, *, asks_percent: bool | None = None) -> bool | None:
    """True if `given` equals `reference`. A unit on one side only is ignored; two units must be of the same kind."""
    if reference.percent or given.percent:
        return _same_percentage(reference, given, asks_percent)
    if reference.unit.empty or given.unit.empty:
        return _same_with_one_unit(reference, given)
    return _same_measure(reference, given)


def _same_with_one_unit(reference: Quantity, given: Quantity) -> bool | None:
    """Compares two quantities of which at most one has a unit."""
    same = same_amount(reference, given)
    with_unit, bare_side = (reference, given) if given.unit.empty else (given, reference)
    if with_unit.unit.empty:
        return same
    if with_unit.unit.attached:
        return None if same else False
    if same is False:
        if with_unit.unit.parts == (("degree", 1),) and expression.holds(bare_side.value, "const"):
            # The same angle in radians, if radians are meant.
            in_radians = same_value(("mul", (with_unit.value, ("fn", "degree", ()))), bare_side.value)
            return None if in_radians else in_radians
        if with_unit.unit.in_cents and same_value(("div", with_unit.value, expression.number(100)), bare_side.value):
            # "0.75" has the form of an amount in whole currency units.
            return (
                True if given is with_unit and reference.number is not None and reference.number.places == 2 else None
            )
    return same


def _same_measure(reference: Quantity, given: Quantity) -> bool | None:
    left, right = reference.unit, given.unit
    if left.parts == right.parts:
        return same_amount(reference, given)
    names = {name for name, _ in left.parts + right.parts}
    if names == {"degree", "radian"}:
        in_radians = [
            ("mul", (side.value, ("fn", "degree", ()))) if side.unit.parts[0][0] == "degree" else side.value
            for side in (reference, given)
        ]
        return same_value(in_radians[0], in_radians[1])
    if len(left.parts) == len(right.parts) == 1 and names <= {"celsius", "fahrenheit", "kelvin"}:
        return same_value(_kelvin(reference), _kelvin(given))
    if names <= {"celsius", "fahrenheit", "kelvin", "degree"} and "degree" in names:
        return same_amount(reference, given)
    if names == {"pound", "GBP"} or names == {"JPY", "CNY"}:
        return same_amount(reference, given)
    if left.in_cents != right.in_cents and left.currency and right.currency:
        return _dollars_and_cents(reference, given)
    short_left, short_right = left.without_rate(), right.without_rate()
    if (
        short_left.parts == short_right.parts
        and left.parts != right.parts
        and (short_left == left or short_right == right)
    ):
        # "$18" for "$18 an hour"
        return same_amount(reference, given)
    factor = units.factor_between(left, right)
    if factor is not None:
        value: Node = ("mul", (expression.number(factor), reference.value))
        number = reference.number and replace(reference.number, value=reference.number.value * factor, places=0)
        return same_amount(replace(reference, value=value, number=number), given)
    if left.nouns and right.nouns and len(left.parts) == len(right.parts) == 1:
        return _same_count(reference, given)
    return False if same_amount(reference, given) is not None else None


def _same_count(reference: Quantity, given: Quantity) -> bool | None:
    """Compares counted things. Red apples count as apples; red apples and green apples are undecided, and so are
    different nouns in other scripts."""
    same = same_amount(reference, given)
    words, other = (side.unit.nouns[0].split()[1:] for side in (reference, given))
    if set(words) <= set(other) or set(other) <= set(words):
        return same
    if words[-1] == other[-1] or not "".join(words + other).isascii():
        return None if same else same
    return False


def _dollars_and_cents(reference: Quantity, given: Quantity) -> bool | None:
    cents, other = (reference, given) if reference.unit.in_cents else (given, reference)
    if other.unit.currency not in units.WITH_CENTS:
        return False
    hundredth = Quantity(("div", cents.value, expression.number(100)))
    return same_amount(other, hundredth)


def _kelvin(side: Quantity) -> Node:
    name = side.unit.parts[0][0]
    if name == "kelvin":
        return side.value
    degrees = side.value
    if name == "fahrenheit":
        degrees = ("mul", (expression.number(Fraction(5, 9)), ("add", (degrees, expression.number(-32)))))
    return ("add", (degrees, expression.number(Fraction(27315, 100))))


def _same_percentage(reference: Quantity, given: Quantity, asks_percent: bool | None) -> bool | None:
    if reference.percent and given.percent:
        return same_amount(reference, given)
    if not reference.unit.empty or not given.unit.empty:
        return False
    percent, other = (reference, given) if reference.percent else (given, reference)
    hundredth = replace(percent, value=("div", percent.value, expression.number(100)), number=None)
    if percent.number:
        places = percent.number.places and percent.number.places + 2
        hundredth = replace(hundredth, number=replace(percent.number, value=percent.number.value / 100, places=places))
    as_share = same_amount(hundredth, other) if reference.percent else same_amount(other, hundredth)
    if as_share:
        return True
    as_written = same_amount(percent, other) if reference.percent else same_amount(other, percent)
    if not as_written or reference.percent or asks_percent:
        return as_written
    # "0.5%" is not 0.5, but 25 usually means "25%".
    if reference.number is None or abs(reference.number.value) == 1:
        return None
    return abs(reference.number.value) > 1


def same_amount(reference: Quantity, given: Quantity) -> bool | None:
    """True if the values are equal, ignoring the units; a decimal of six places may be a rounded value."""
    left, right = reference.number, given.number
    if left is not None and right is not None:
        if left.value == right.value:
            return True
        if right.places and numbers.may_be_rounded(right, left.value) and not left.places:
            return True
        return bool(left.places and not right.places and numbers.may_be_rounded(left, right.value))
    same = same_value(reference.value, given.value)
    if same is False:
        written, exact = (right, reference.value) if right is not None else (left, given.value)
        if written is not None and written.places and _is_rounded(written, exact):
            return True
    return same


def _is_rounded(written: Number, exact: Node) -> bool:
    if expression.symbols(exact):
        return False
    try:
        value = rational(exact)
        if value is not None:
            return numbers.may_be_rounded(written, value)
        real = constant(exact)
    except (TooLarge, OverflowError):
        return False
    if real is None:
        return False
    return numbers.is_rounding(written, lambda step: numbers.rounded_or_cut(written.value, _as_fraction(real), step))


def _as_fraction(real: object) -> Fraction:
    # Imported here: the real value was made by this library, so it is already loaded.
    from mpmath import nstr

    return Fraction(nstr(real, 50))
