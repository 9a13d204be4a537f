"""Compares texts of digits that are not plain values: ratios, scores and ranges, numerals in other bases."""

from __future__ import annotations

import re
from fractions import Fraction

from cord_worker.verify.answer import dates, expression, quantities
from cord_worker.verify.answer.context import Context, Outcome, as_outcome
from cord_worker.verify.answer.numbers import number
from cord_worker.verify.answer.value import same_value

_BASE_WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen".split()
)
_BASE = (
    re.compile(r"(?P<digits>[0-9A-F][0-9A-Fa-f]{0,60}) ?_ ?\{? ?\(?(?P<base>\d{1,2}|[a-z]{3,8})\)? ?\}?"),
    re.compile(r"(?P<digits>[0-9A-F][0-9A-Fa-f]{0,60}),? ?\(?(?:in )?base[- ](?P<base>\d{1,2}|[a-z]{3,8})\)?"),
    re.compile(r"\((?P<digits>[0-9A-F][0-9A-Fa-f]{0,60})\) ?_ ?\{? ?(?P<base>\d{1,2}|[a-z]{3,8}) ?\}?"),
)
_PREFIX = re.compile(r"0(?P<kind>[xbo])(?P<digits>[0-9A-Fa-f]{1,60})")
_NAMED_BASES = {"binary": 2, "octal": 8, "decimal": 10, "hexadecimal": 16}
_RANGE = re.compile(
    r"(?:from |between )?(?P<first>\d+(?:[.,]\d+)*) ?(?P<joint>-|to|through|and|~|\\sim|--) ?"
    r"(?P<second>\d+(?:[.,]\d+)*)(?P<tail> [^\W\d].*| ?[^\W\d][^\W\d].*| ?%)?",
    re.IGNORECASE,
)
_RATIO = re.compile(r"[^:;]{1,40}(?: ?: ?[^:;]{1,40}){1,6}")
_TIME_LIKE = re.compile(r"\d{1,2}:\d{2}")


def based_numeral(text: str) -> tuple[str, int] | None:
    """Digits and base of `101_2`, `101_{two}`, `52 (base 8)`, `0x1F`; None if the text is not such a numeral."""
    for pattern in _BASE:
        if (match := pattern.fullmatch(text)) and _is_numeral(match["digits"], match["base"]):
            word = match["base"]
            base = int(word) if word.isdigit() else _NAMED_BASES.get(word, 0)
            if not base and word in _BASE_WORDS:
                base = _BASE_WORDS.index(word)
            if 2 <= base <= 36:
                return match["digits"].upper().lstrip("0") or "0", base
    if match := _PREFIX.fullmatch(text):
        return match["digits"].upper().lstrip("0") or "0", {"x": 16, "b": 2, "o": 8}[match["kind"]]
    return None


def _is_numeral(digits: str, base: str) -> bool:
    """True for `FF_{16}`; False for `B_2`, which is a name."""
    return any(char.isdigit() for char in digits) or (len(digits) > 1 and base in ("16", "sixteen"))


def _value_of(digits: str, base: int) -> int | None:
    try:
        return int(digits, base)
    except ValueError:
        return None


def based_family(reference: str, given: str, context: Context) -> Outcome | None:
    """Compares numerals in a named base: digits and base must be the same; digits alone are enough if the question
    names a base. None if the reference is not such a numeral."""
    wanted = based_numeral(reference)
    if wanted is None:
        return None
    found = based_numeral(given)
    if found is not None:
        if found == wanted:
            return Outcome(True, "the same digits in the same base")
        values = _value_of(*wanted), _value_of(*found)
        if values[0] is not None and values[0] == values[1]:
            return Outcome(None, "the same value in another base")
        return Outcome(False, "another numeral")
    digits = re.sub(r"[ ,]", "", given).upper()
    if re.fullmatch("[0-9A-F]+", digits):
        if (digits.lstrip("0") or "0") == wanted[0]:
            asked = context.question is not None and re.search(r"\bbase\b|binary|octal|hexadecimal", context.question)
            return Outcome(True if asked else None, "the same digits, without the base")
        value = _value_of(*wanted)
        return Outcome(None, "its value in base ten") if digits == str(value) else Outcome(False, "other digits")
    return Outcome(False, "no numeral")


def span(text: str) -> tuple[Fraction, Fraction, str, str] | None:
    """Both numbers of `10-15` or `3 to 4 weeks`, the sign or word between them, and the text after them; or None."""
    if len(text) > 80:
        return None
    match = _RANGE.fullmatch(text)
    if match is None or (match["joint"] == "and" and not text.casefold().startswith("between")):
        return None
    first, second = number(match["first"].rstrip(",.")), number(match["second"].rstrip(",."))
    if first is None or second is None:
        return None
    tail = (match["tail"] or "").strip()
    if tail and re.search(r"[-+=*/^\\(]", tail):
        return None
    return first.value, second.value, match["joint"], tail


def span_family(reference: str, given: str, context: Context) -> Outcome | None:
    """Compares scores and ranges: two numbers in this order. None if the reference is neither."""
    wanted = span(reference)
    if wanted is None:
        return None
    found = span(given)
    if found is None:
        pair = re.fullmatch(r"\[ ?([^,\[\]]+), ?([^,\[\]]+)\]|(\d+) ?: ?(\d+)", given)
        if pair:
            ends = [number((group or "").strip()) for group in pair.groups() if group]
            if len(ends) == 2 and all(ends) and [end.value for end in ends if end] == list(wanted[:2]):
                return Outcome(None, "the same two numbers in another notation")
        value = quantities.bare(given)
        unclear = value is not None and value.number is not None and value.number.value == wanted[0] - wanted[1]
        return Outcome(None, "a difference, or a range") if unclear else Outcome(False, "no two numbers")
    if found[:2] != wanted[:2]:
        return Outcome(False, "other numbers")
    if wanted[3] and found[3] and wanted[3].casefold() != found[3].casefold():
        same = context.same(f"1 {wanted[3]}", f"1 {found[3]}")
        return as_outcome(same, "the same range", "another unit")
    return Outcome(True, "the same two numbers")


def ratio(text: str) -> tuple[quantities.Quantity, ...] | None:
    """The members of a ratio such as `3:4` or `1 : \\sqrt{3} : 2`; None if the text is not a ratio."""
    if ":" not in text or not _RATIO.fullmatch(text):
        return None
    members = tuple(quantities.bare(part.strip()) for part in text.split(":"))
    found = tuple(member for member in members if member is not None)
    return found if len(found) == len(members) else None


def ratio_family(reference: str, given: str, _: Context) -> Outcome | None:
    """Compares ratios: they are the same if their members are proportional; `2:30` may also be a time."""
    wanted = ratio(reference)
    if wanted is None:
        return None
    given = re.sub(r"^(?:a |the )?ratio (?:of |is )?", "", given)
    if (pair := span(given)) and pair[2].casefold() == "to" and not pair[3]:
        given = f"{pair[0]}:{pair[1]}"
    given = re.sub(r" is to | to (?=\d)", ":", given)
    may_be_time = _TIME_LIKE.fullmatch(reference) is not None
    found = ratio(given)
    if found is not None and len(found) > 1:
        if [one.value for one in found] == [one.value for one in wanted]:
            return Outcome(True, "the same ratio")
        same = _proportional(wanted, found)
        return (
            Outcome(None, "a ratio, or a time")
            if same and may_be_time
            else as_outcome(same, "the same ratio", "another ratio")
        )
    if len(wanted) != 2:
        return Outcome(False, "no ratio of as many members")
    value = quantities.quantity(given) or quantities.bare(given)
    if value is None:
        other = dates.time(given)
        return Outcome(None if other and may_be_time else False, "no ratio")
    quotient = ("div", wanted[0].value, wanted[1].value)
    same = same_value(quotient, value.value)
    if may_be_time and (same or same is None or _as_time(reference, value)):
        return Outcome(None, "a ratio, or a time")
    return as_outcome(same, "the ratio as a fraction", "another ratio")


def _as_time(reference: str, value: quantities.Quantity) -> bool:
    """True if `value` is the ratio `reference` read as a time, in hours or in minutes."""
    hours, minutes = (Fraction(part) for part in reference.split(":"))
    return any(same_value(expression.number(one), value.value) for one in (hours + minutes / 60, hours * 60 + minutes))


def _proportional(left: tuple[quantities.Quantity, ...], right: tuple[quantities.Quantity, ...]) -> bool | None:
    if len(left) != len(right):
        return False
    results = [
        same_value(("mul", (one.value, right[0].value)), ("mul", (other.value, left[0].value)))
        for one, other in zip(left[1:], right[1:], strict=True)
    ]
    return False if False in results else None if None in results else True
