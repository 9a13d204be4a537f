"""Numbers as reports write them (separators, percent, currencies, scales, accounting negatives), and whether two agree
within the tolerance: for the method `numeric`.

The method `math` has its own module, `answer.quantities`. `¥` is the yuan here and the yen (JPY) there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from fractions import Fraction

from cord_worker.verify.answer.units import factor_between, unit
from cord_worker.verify.normalise import number, tidy
from cord_worker.verify.plain_units import split_unit
from cord_worker.verify.rule import Rule

_SCALES = {
    10**2: ("hundred",),
    10**3: ("thousand", "k", "千", "천", "ألف", "آلاف"),
    10**4: ("万", "萬", "만"),
    10**6: ("million", "millions", "mn", "百万", "百萬", "백만", "مليون", "ملايين"),
    10**7: ("千万", "千萬", "천만"),
    10**8: ("亿", "億", "억"),
    10**9: ("billion", "billions", "bn", "十亿", "مليار", "مليارات"),
    10**12: ("trillion", "trillions", "兆", "조", "تريليون"),
}
_SCALE = {word: scale for scale, words in _SCALES.items() for word in words}
_CURRENCIES = {
    "$": "dollar",
    "us$": "dollar",
    "usd": "dollar",
    "€": "euro",
    "eur": "euro",
    "£": "pound",
    "gbp": "pound",
}
_CURRENCIES |= {"¥": "yuan", "rmb": "yuan", "元": "yuan", "₩": "won", "원": "won"}
_DIGITS = (
    r"\d{1,3}(?:,\d{3})+(?:\.\d+)?"  # 1,234.5
    r"|\d{1,2}(?:,\d{2})+,\d{3}(?:\.\d+)?"  # 12,34,567
    r"|\d{1,3}(?:\.\d{3})+,\d+"  # 1.234,5
    r"|\d{1,3}(?: \d{3})+(?:[.,]\d+)?(?!\d)"  # 1 234,5
    r"|\d+,\d{1,2}(?![\d,])"  # 12,5
    r"|\d+(?:\.\d+)?|\.\d+"
)
_QUANTITY = re.compile(
    rf"(?P<open>\(\s*)?(?P<sign>(?<![\w.)])[-+]\s?)?(?P<currency>US\$|[$€£¥₩]|\b(?:USD|EUR|GBP|RMB)\b)?\s?(?P<minus>-)?"
    rf"(?P<digits>{_DIGITS})(?:[eE](?P<exponent>[-+]?\d{{1,3}}))?(?P<close>\s*%?\s*\))?"
    r"(?P<percent>\s*%)?"
    rf"(?:\s*(?P<scale>{'|'.join(sorted(map(re.escape, _SCALE), key=len, reverse=True))})(?![a-z\u0600-\u06ff]))?",
    re.IGNORECASE,
)
_PERCENT = re.compile(r"\bper ?cent\b|\bpercentage points?\b", re.IGNORECASE)
_MAX_DIGITS = 200


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number; `percent` if it was written with a percent sign (the value is then not divided by 100 yet)."""

    value: Fraction
    percent: bool = False
    unit: str | None = None


def quantity(text: str) -> Quantity | None:
    """The quantity in `text`: the first number after its last equals sign, or in the whole text if no digit follows
    that sign. None if there is none.

    `(1,234)` is -1,234, as in balance sheets.
    """
    text = _PERCENT.sub("%", tidy(text))
    _, _, after = text.rpartition("=")
    if any(character.isdigit() for character in after):
        text = after.strip()
    plain, name = split_unit(text)
    value = number(plain)
    if value is not None:
        return Quantity(value, unit=_unit_name(name))
    match = _QUANTITY.search(text)
    if match is None or len(match["digits"]) > _MAX_DIGITS:
        return None
    value = _value(match["digits"]) * Fraction(10) ** int(match["exponent"] or 0) * _SCALE.get(_low(match["scale"]), 1)
    if "-" in ((match["sign"] or "") + (match["minus"] or "")) or (match["open"] and match["close"]):
        value = -value
    percent = match["percent"] is not None or "%" in (match["close"] or "")
    return Quantity(value, percent, _CURRENCIES.get(_low(match["currency"])) or _unit(text[match.end() :]))


def within(expected: Quantity, given: Quantity, rule: Rule) -> bool:
    """True if `given` lies within the tolerance. A unit or percent sign on one side only is ignored; if one side is a
    percentage, the other may also be its hundredth. Of two units one must be convertible into the other."""
    if expected.unit and given.unit:
        factor = _factor(given.unit, expected.unit)
        if factor is None:
            return False
        given = replace(given, value=given.value * factor)
    if _close(expected.value, given.value, rule):
        return True
    if expected.percent and not given.percent:
        return _close(expected.value, given.value * 100, rule)
    return given.percent and not expected.percent and _close(expected.value, given.value / 100, rule)


def _factor(given: str, expected: str) -> Fraction | None:
    """How many of the unit `expected` make one of `given`; None if they do not measure the same."""
    left, right = unit(given), unit(expected)
    if left is None or right is None:
        return Fraction(1) if given.casefold() == expected.casefold() else None
    return factor_between(left, right)


def _close(expected: Fraction, given: Fraction, rule: Rule) -> bool:
    # Exactly as written: 0.001, not the nearest float.
    relative, absolute = Fraction(str(rule.relative)), Fraction(str(rule.absolute))
    return abs(expected - given) <= max(absolute, relative * abs(expected))


def _value(digits: str) -> Fraction:
    digits = digits.replace(" ", "")
    if re.fullmatch(r"\d+,\d{1,2}|\d{1,3}(?:\.\d{3})+,\d+", digits):
        digits = digits.replace(".", "").replace(",", ".")
    return Fraction(digits.replace(",", ""))


def _unit(rest: str) -> str | None:
    """The unit, if `rest` is only a unit."""
    rest = rest.strip()
    return _unit_name(split_unit(f"1 {rest}")[1]) if rest else None


def _unit_name(name: str | None) -> str | None:
    return None if name is None else _CURRENCIES.get(name, name)


def _low(text: str | None) -> str:
    return (text or "").lower()
