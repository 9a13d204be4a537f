"""Parses numbers as people write them: separators, decimal commas, mixed numbers, scales such as million, words.

A number remembers how it was written, because that decides whether it may be a rounded one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction

from cord_worker.verify.answer import numerals

ROUNDED_PLACES = 6
"""Fewest decimals with which a decimal may stand for a fraction or an irrational number."""
_MAX_DIGITS = 5000


@dataclass(frozen=True, slots=True)
class Number:
    """A rational number.

    Attributes:
        value: exact, as written.
        places: number of decimals that were written; 0 without a decimal point.
        figures: significant figures that were written.
        scientific: written with a power of ten.
        sure: False if another reading of the text is likelier, such as 1.234 for `1.234`, here read as 1234.
    """

    value: Fraction
    places: int = 0
    figures: int = 0
    scientific: bool = False
    sure: bool = True


_PLAIN = re.compile(r"(?P<whole>\d*)(?:\.(?P<decimals>\d*))?(?:[eE](?P<exponent>[-+]?\d{1,4}))?")
_ENGLISH = re.compile(r"(?!0,)\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_INDIAN = re.compile(r"\d{1,2}(?:,\d{2})+,\d{3}(?:\.\d+)?")
_SPACED = re.compile(r"\d{1,3}(?:[ '_]\d{3})+(?:[.,]\d+)?")
_EUROPEAN = re.compile(r"\d{1,3}(?:\.\d{3})+,\d+|\d{1,3}(?:\.\d{3}){2,}")
_DECIMAL_COMMA = re.compile(r"\d+,\d+")
_ONE_DOT = re.compile(r"[1-9]\d{0,2}\.\d{3}")
_REPEATING = re.compile(
    r"(?P<whole>\d*)\.(?P<fixed>\d*)(?:\\(?:overline|bar|dot)\s*(?:\{(?P<over>\d+)\}|(?P<one>\d))|\((?P<round>\d+)\))"
)
_ENDLESS = re.compile(r"(?P<whole>\d*)\.(?P<digits>\d{3,})\s?(?:\.\.\.|\\ldots)")
_FRACTION = re.compile(
    r"\\frac ?(?:\{ ?(-?\d+) ?\}|(\d)) ?(?:\{ ?(-?\d+) ?\}|(\d))|(\d+) ?/ ?(-?\d+)(?:(?<=1)st|(?<=2)nd|(?<=3)rd|th)?"
)
_MIXED = re.compile(r"(\d+) ?(\\frac.*)|(\d+)(?: and | | ?- ?)(\d+ ?/ ?\d+)")
_POWER_OF_TEN = re.compile(
    r"(.+?) ?(?:\\times|\\cdot|\*|[xX]) ?10 ?\^ ?(?:\{ ?([-+]?\d{1,4}) ?\}|\(?([-+]?\d{1,4})\)?)"
)
_ORDINAL = re.compile(r"(\d+)(?:st|nd|rd|th)")
_ORDINAL_WORDS = {
    word: at
    for at, word in enumerate(
        "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth".split(), 1
    )
}
_TWICE = re.compile(r"(.+?)\s*\((.+)\)")
_SCALES = {
    10**2: "hundred hundreds hundert",
    10**3: "thousand thousands k K tausend mille mil тысяч тысяча тысячи ribu nghìn ngàn bin हजार हज़ार 千 천 ألف آلاف",
    10**4: "万 萬 만",
    10**5: "lakh lakhs लाख",
    10**6: "million millions mn mln M Mio Million Millionen millones millón milhões milhão milioni milione млн миллион "
    "миллиона миллионов juta triệu milyon miljoen 百万 百萬 백만 مليون ملايين",
    10**7: "crore crores करोड़ 千万 千萬 천만",
    10**8: "亿 億 억",
    10
    ** 9: "billion billions bn B Mrd milliard milliards Milliarden Milliarde миллиард миллиардов миллиарда млрд milyar "
    "十亿 مليار مليارات",
    10**12: "trillion trillions trn 兆 조 تريليون",
    12: "dozen dozens Dutzend douzaine docena docenas дюжина",
    144: "gross",
    20: "score",
}
_SCALE = {word: scale for scale, words in _SCALES.items() for word in words.split()}
_SHORT_SCALES = frozenset("k K M B".split())
_SCALE_WORDS = "|".join(sorted(map(re.escape, _SCALE), key=len, reverse=True))
_SCALED = re.compile(rf"(?P<number>.*?[\w)}}])(?P<space> ?-?)(?P<scale>{_SCALE_WORDS})(?: of)?")
_AFTER = re.compile(
    r"(?P<number>.+?) (?P<word>squared|cubed|factorial|below zero|below freezing|doubled|tripled|and a half"
    r"|and a quarter|and a third|and three quarters)"
)
_SIGNED = re.compile(r"(?:(?P<minus>-|minus |negative )|(?P<plus>\+|plus |positive )) ?(?P<rest>.+)", re.IGNORECASE)
_TENTHS = re.compile(r"(?P<number>\d+)[ -](?P<part>[a-zA-Z]+)")
_ABOUT = re.compile(r"(?:\\approx|\\simeq|\\sim|~|about|approximately|approx\.?|around|roughly) ?(?=\S)")


def without_about(text: str) -> str:
    """The text without a leading "approximately"."""
    match = _ABOUT.match(text)
    return text[match.end() :].strip() if match else text


def number(text: str) -> Number | None:
    """The number that a whole cleaned text writes, in its usual reading; None if it is not a number."""
    text = text.strip()
    if not text or len(text) > _MAX_DIGITS:
        return None
    if signed := _SIGNED.fullmatch(text):
        found = number(signed["rest"]) if not signed["rest"].startswith(("-", "+")) else None
        return found and (replace(found, value=-found.value) if signed["minus"] else found)
    if text[0].isdigit() or text[0] in ".\\(":
        found = _digits(text)
        if found is not None:
            return found
    return _in_words(text)


def ordinal(text: str) -> int | None:
    """The place that `2nd`, `the 2nd` or `second` names; None if the text is not an ordinal."""
    text = text.casefold().removeprefix("the ")
    match = _ORDINAL.fullmatch(text)
    return int(match[1]) if match and len(match[1]) < 10 else _ORDINAL_WORDS.get(text)


def other_reading(text: str) -> Number | None:
    """The number that the text means if the comma is the decimal sign: `3,14`, `1.234` (as 1234), `1,234`.

    None if the text has no such reading. `sure` is False if it is the less likely one.
    """
    text = text.strip()
    if text[:1] in "+-" and text[1:2].isdigit():
        found = other_reading(text[1:])
        return found and (replace(found, value=-found.value) if text[0] == "-" else found)
    if len(text) > _MAX_DIGITS:
        return None
    if _DECIMAL_COMMA.fullmatch(text):
        found = _plain(text.replace(",", "."))
        return found and replace(found, sure=not _ENGLISH.fullmatch(text))
    if _ONE_DOT.fullmatch(text):
        return Number(Fraction(text.replace(".", "")), sure=False)
    return None


def _digits(text: str) -> Number | None:
    found = _plain(text)
    if found is not None:
        return found
    if _ENGLISH.fullmatch(text) or _INDIAN.fullmatch(text):
        return _plain(text.replace(",", ""))
    if _SPACED.fullmatch(text):
        return _plain(re.sub("[ '_]", "", text).replace(",", "."))
    if _EUROPEAN.fullmatch(text):
        return _plain(text.replace(".", "").replace(",", "."))
    if match := _POWER_OF_TEN.fullmatch(text):
        before = number(match[1])
        if before is None:
            return None
        return replace(before, value=before.value * Fraction(10) ** int(match[2] or match[3]), scientific=True)
    if match := _ORDINAL.fullmatch(text):
        return Number(Fraction(match[1]))
    return _repeating(text) or _fraction(text)


def _plain(text: str) -> Number | None:
    match = _PLAIN.fullmatch(text)
    if match is None or not (match["whole"] or match["decimals"]):
        return None
    decimals = match["decimals"] or ""
    exponent = int(match["exponent"] or 0)
    digits = (match["whole"] or "0") + decimals
    value = Fraction(int(digits), 10 ** len(decimals)) * Fraction(10) ** exponent
    return Number(value, len(decimals), len(digits.lstrip("0")), match["exponent"] is not None)


def _repeating(text: str) -> Number | None:
    if match := _REPEATING.fullmatch(text):
        fixed, period = match["fixed"], match["over"] or match["one"] or match["round"]
        start = Fraction(int((match["whole"] or "0") + fixed), 10 ** len(fixed))
        # 0.1(6) is read as a repeating decimal, although it may be a product.
        return Number(start + Fraction(int(period), (10 ** len(period) - 1) * 10 ** len(fixed)))
    if match := _ENDLESS.fullmatch(text):
        digits = match["digits"]
        for length in range(1, len(digits) // 2 + 1):
            for skipped in range(0, len(digits) - 2 * length + 1):
                period = digits[skipped : skipped + length]
                tail = digits[skipped:]
                if len(tail) < 3 or tail != (period * len(tail))[: len(tail)]:
                    continue
                start = Fraction(int((match["whole"] or "0") + digits[:skipped]), 10**skipped)
                return Number(start + Fraction(int(period), (10**length - 1) * 10**skipped))
            if length > 6:
                break
    return None


def _fraction(text: str) -> Number | None:
    if match := _FRACTION.fullmatch(text):
        upper, lower = match[1] or match[2] or match[5], match[3] or match[4] or match[6]
        return Number(Fraction(int(upper), int(lower))) if int(lower) else None
    if match := _MIXED.fullmatch(text):
        part = _fraction((match[2] or match[4]).strip())
        if part is not None and 0 < part.value < 1:
            return Number(int(match[1] or match[3]) + part.value)
    return None


def _in_words(text: str) -> Number | None:
    if (match := _TWICE.fullmatch(text)) and (first := number(match[1])) is not None:
        # "twelve (12)"
        second = number(match[2])
        return first if second is not None and first.value == second.value else None
    if match := _AFTER.fullmatch(text):
        return _with_operation(match["number"], match["word"])
    if not re.search(r"\d", text) and (value := numerals.in_words(text)) is not None:
        return Number(value)
    if (match := _TENTHS.fullmatch(text)) and (below := numerals.denominator_of(match["part"])) is not None:
        return Number(Fraction(int(match["number"]), below))
    if (match := _SCALED.fullmatch(text)) and (found := _with_scale(match)) is not None:
        return found
    return None


def _with_scale(match: re.Match[str]) -> Number | None:
    scale, before = match["scale"], match["number"]
    if scale in _SHORT_SCALES and match["space"]:
        return None
    if scale.isascii() and not match["space"] and not before[-1].isdigit():
        return None
    found = Number(Fraction(1, 2)) if before in ("half a", "a half") else Number(Fraction(1)) if before == "a" else None
    found = found or number(before)
    if found is None or not before.isascii():
        return None
    return replace(found, value=found.value * _SCALE[scale], places=0)


def _with_operation(before: str, word: str) -> Number | None:
    found = number(before)
    if found is None:
        return None
    value = found.value
    if word in ("squared", "cubed"):
        return Number(value ** (2 if word == "squared" else 3)) if abs(value) < 10**9 else None
    if word == "factorial":
        whole = value.denominator == 1 and 0 <= value <= 200
        return Number(Fraction(math.factorial(int(value)))) if whole else None
    if word.startswith("below"):
        return Number(-value) if word == "below zero" else None
    if word in ("doubled", "tripled"):
        return Number(value * (2 if word == "doubled" else 3))
    part = {"a half": (1, 2), "a quarter": (1, 4), "a third": (1, 3), "three quarters": (3, 4)}[word[4:]]
    return Number(value + Fraction(*part)) if value.denominator == 1 else None


def may_be_rounded(written: Number, exact: Fraction) -> bool:
    """True if `written` is `exact`, a non-terminating decimal, rounded or cut to at least six places."""
    if _terminates(exact):
        return False
    return is_rounding(written, lambda step: rounded_or_cut(written.value, exact, step))


def rounded_or_cut(written: Fraction, exact: Fraction, step: Fraction) -> bool:
    """True if `written` is `exact`, rounded or cut to a multiple of `step`."""
    return 2 * abs(written - exact) <= step or (written * exact >= 0 and 0 <= abs(exact) - abs(written) < step)


def is_rounding(written: Number, is_within: Callable[[Fraction], bool]) -> bool:
    """True if `written` has enough digits to be a rounded value, and `is_within` holds for the value of its last
    place."""
    enough = written.places >= ROUNDED_PLACES and written.figures >= ROUNDED_PLACES - 2
    if not enough and not (written.scientific and written.figures > ROUNDED_PLACES):
        return False
    step = Fraction(1, 10**written.places)
    if written.scientific and written.value:
        step = Fraction(10) ** (_magnitude(written.value) - written.figures + 1)
    return bool(is_within(step))


def _magnitude(value: Fraction) -> int:
    """The power of ten of the first digit."""
    # By logarithms, because Python refuses to write integers of more than 4,300 digits.
    power = math.floor(math.log10(abs(value.numerator)) - math.log10(value.denominator))
    while abs(value) < Fraction(10) ** power:
        power -= 1
    while abs(value) >= Fraction(10) ** (power + 1):
        power += 1
    return power


def _terminates(value: Fraction) -> bool:
    """True if the decimals of `value` end."""
    below = value.denominator
    for factor in (2, 5):
        while below % factor == 0:
            below //= factor
    return below == 1
