"""Brings two notations of one answer to the same text, without any mathematics."""

from __future__ import annotations

import re
from fractions import Fraction

_SPACING = re.compile(
    r"\\[!,;:> ]|\\(?:left|right|displaystyle|quad|qquad)(?![a-zA-Z])|(?<!~)~(?!~)|[\u00a0\u2009\u202f]"
)
_SYMBOLS = {
    "\u2212": "-",
    "\u2013": "-",
    "×": r"\times ",
    "·": r"\cdot ",
    "÷": r"\div ",
    "π": r"\pi ",
    "∞": r"\infty ",
    "≤": r"\le ",
    "≥": r"\ge ",
    "≠": r"\ne ",
    "±": r"\pm ",
    "∪": r"\cup ",
    "∩": r"\cap ",
    "∈": r"\in ",
    "°": r"^\circ ",
    "²": "^2",
    "³": "^3",
}
_SYMBOL = re.compile("|".join(map(re.escape, _SYMBOLS)))
_TEXT = re.compile(r"\\(?:text|mbox|textbf|textit|textrm|mathrm|mathbf|operatorname)\s*\{([^{}]*)\}")
_ROOT = re.compile(r"(?<![\\a-zA-Z])sqrt\(([^()]*)\)|√\(([^()]*)\)|√(\d+|[a-z])")
_THOUSANDS = re.compile(r"[-+]?\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_CHOICE = re.compile(r"(?:(?:option|choice)\s+)?(?:\(\s?)?([A-Za-z])(?:\s?\)|[.:])?", re.IGNORECASE)
_LABELLED_CHOICE = re.compile(
    r"(?:(?:option|choice)\s+)?(?:\(([A-J])\)|([A-J])[).:])\s+(?!.*\b[A-J]\))\S.*", re.IGNORECASE | re.DOTALL
)
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,3})?")
_RATIO = re.compile(r"([-+]?)(?:\\frac\{(-?\d+)\}\{(-?\d+)\}|(\d+)/(\d+))")
_MIXED = re.compile(r"([-+]?)(\d+)(?: ?\\frac\{(\d+)\}\{(\d+)\}| (\d+)/(\d+))")
_MAX_DIGITS = 1000
_WRAPPERS = (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"), ("**", "**"), ("`", "`"), ('"', '"'))


def tidy(text: str) -> str:
    """`text` without wrappers, spacing commands and typographic variants; case and order are kept."""
    text = _SYMBOL.sub(lambda match: _SYMBOLS[match[0]], text.strip())
    text = re.sub(r",\\!\s*", ",", text)
    text = _ROOT.sub(lambda match: rf"\sqrt{{{match[1] or match[2] or match[3]}}}", text)
    text = _SPACING.sub(" ", text)
    text = _TEXT.sub(r" \1 ", _unwrap(text))
    text = re.sub(r"\\[dt]frac", r"\\frac", text)
    text = re.sub(r"\\frac\s*(\d)(?=\s*[\d{])", r"\\frac{\1}", text)
    text = re.sub(r"(\\frac\s*\{[^{}]*\})\s*(\d)", r"\1{\2}", text)
    text = re.sub(r"\\sqrt\s*(\d)", r"\\sqrt{\1}", text)
    if len(re.findall(r"(?<!\\)\$", text)) % 2 == 0:
        # Delimiters of mathematics come in pairs; a single one is a currency sign.
        text = re.sub(r"(?<!\\)\$", "", text)
    text = text.replace(r"\%", "%").replace(r"\$", "$")
    text = re.sub(r"\^\s*\{\s*\\circ\s*\}", r"^\\circ", text)
    text = re.sub(r"(?<!\\)\bpi\b", r"\\pi", text).replace("**", "^")
    text = re.sub(r"\s+", " ", _unwrap(text)).strip()
    text = re.sub(r"^\{([^{}]*,[^{}]*)\}$", r"\\{\1\\}", text)
    while text.endswith(".") and not text.endswith("..."):
        text = text[:-1].rstrip()
    return text


def _unwrap(text: str) -> str:
    changed = True
    while changed:
        text = text.strip()
        changed = False
        for start, end in _WRAPPERS:
            inner = text[len(start) : len(text) - len(end)]
            if text.startswith(start) and text.endswith(end) and len(text) > len(start + end) and end not in inner:
                text, changed = inner, True
    return text


def exact_key(text: str) -> str:
    """A key that is equal for texts with the same content in different notation."""
    text = tidy(text)
    parts = [_part_key(part) for part in split_list(text)]
    # "or" is not "and".
    return (" or " if len(parts) > 1 and re.search(r"[ ,]or ", text) else ", ").join(parts)


def _part_key(part: str) -> str:
    part = plain_number(part)
    if not re.search(r"[\d\\^_=+*/<>|{}]", part):
        # Case does not matter in words; in mathematics it does, and so in single letters and pairs of capitals.
        part = part if len(part) == 1 or (len(part) == 2 and part.isupper()) else part.casefold()
    return re.sub(r" (?![0-9A-Za-z])|(?<![0-9A-Za-z]) ", "", part)


def plain_number(text: str) -> str:
    """`text` without thousands separators if it is one number."""
    return text.replace(",", "") if _THOUSANDS.fullmatch(text) else text


def split_list(text: str) -> list[str]:
    """The elements of a tidied comma list, in order; a number such as 58,500 is one element."""
    if _THOUSANDS.fullmatch(text):
        return [text]
    parts, depth, start, at = [], 0, 0, 0
    while at < len(text):
        char = text[at]
        joint = re.compile(r",? (?:and|or) ").match(text, at) if depth == 0 and char in ", " else None
        if char == "\\" and text[at + 1 : at + 2] not in "{}":
            at += 1
        elif char in "([{":
            depth += 1
        elif char in ")]}":
            depth -= 1
        elif depth == 0 and (char in ",;" or joint):
            parts.append(text[start:at].strip())
            at = start = joint.end() if joint else at + 1
            continue
        at += 1
    parts.append(text[start:].strip())
    return [part for part in parts if part]


def choice(text: str) -> str | None:
    """The letter of a multiple-choice answer such as `B`, `(B)`, `B.` or `(B) 45`; None if it has another form."""
    text = tidy(text)
    match = _CHOICE.fullmatch(text) or _LABELLED_CHOICE.fullmatch(text)
    return next(group for group in match.groups() if group).upper() if match else None


def number(text: str) -> Fraction | None:
    """The exact value of an integer, decimal, fraction or mixed number; otherwise None."""
    text = plain_number(text)
    if len(text) > _MAX_DIGITS:
        return None
    if _NUMBER.fullmatch(text):
        return Fraction(text)
    if match := _RATIO.fullmatch(text):
        whole, upper, lower = "0", match[2] or match[4], match[3] or match[5]
    elif match := _MIXED.fullmatch(text):
        whole, upper, lower = match[2], match[3] or match[5], match[4] or match[6]
    else:
        return None
    if int(lower) == 0:
        return None
    value = int(whole) + Fraction(int(upper), int(lower))
    return -value if match[1] == "-" else value
