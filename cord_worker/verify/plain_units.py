"""Splits a quantity into its value and the name of its unit, for `plain_quantities`."""

from __future__ import annotations

import re

_QUANTITY = re.compile(
    r"(?P<value>.*[\d})])\s*(?P<unit>\^\\circ(?: ?[CF])?"
    r"|(?<![\\a-zA-Z])[a-zA-Z]+\.?(?: [a-zA-Z]+\.?){0,2}(?: ?\^ ?\{?[23]\}?)?"
    r"|[\u3400-\u9fff]{1,4}|[\uac00-\ud7af]{1,5}|[\u0621-\u064a]+(?: [\u0621-\u064a]+)?)"
)
"""The last line of the pattern is for Chinese, Korean and Arabic counters and units."""
_SHORT_NAMES = "cm mm m km kg g mg ft in yd mi lb oz ml l s h hr hrs min mph kmh am pm sq cu cc"
_SHORT_UNITS = frozenset(_SHORT_NAMES.split())
_OTHER_WORDS = (
    "or and to not is are minus plus times percent thousand million billion trillion hundred dozen half about than "
    "more less mod if where for when with but only base pairs"
)
_NOT_UNITS = frozenset(_OTHER_WORDS.split())
_NOT_FOREIGN_UNITS = re.compile(
    "[百千万萬亿億兆多余餘或和是不非错錯倍半以左约約打]|[백천만억조]|이상|이하|미만|초과|또는|아니|정도"
    "|(?:^| )(?:أو|و|ليس|ليست|مئة|مائة|ألف|آلاف|مليون|ملايين|مليار|نصف|أكثر|أقل|تقريبا|في|على)(?: |$)"
)
"""Words after a number that change its meaning; a number followed by one of them is not a quantity."""


def split_unit(text: str) -> tuple[str, str | None]:
    """`10 dollars` as ("10", "dollars"), `5 cm^2` as ("5", "cm^2"), `$3` as ("3", "dollar"); None if there is no
    unit."""
    if re.match(r"\$ ?[\d.]", text):
        return text[1:].strip(), "dollar"
    match = _QUANTITY.fullmatch(text)
    if not match:
        return text, None
    unit = match["unit"]
    if unit.startswith("^"):
        return match["value"].strip(), "degree" + unit[6:].strip()
    if not unit.isascii():
        return (text, None) if _NOT_FOREIGN_UNITS.search(unit) else (match["value"].strip(), unit)
    words = re.findall(r"[a-zA-Z]+", unit)
    known = all(word.lower() not in _NOT_UNITS and (len(word) >= 3 or word.lower() in _SHORT_UNITS) for word in words)
    return (match["value"].strip(), unit) if known else (text, None)
