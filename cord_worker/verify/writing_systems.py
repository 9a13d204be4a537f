"""Converts digits, punctuation and letters of all writing systems to one form.

Both sides of a comparison go through it, so that `１２`, `١٢` and `12` are one answer, and later code needs only ASCII
digits and signs. Numerals written as words (三, 셋, ثلاثة) stay words.
"""

from __future__ import annotations

import re
import unicodedata

_SIGNS = {
    "\u3000": " ",
    "、": ", ",
    "،": ", ",
    "؛": ";",
    "٫": ".",
    "٬": ",",
    "٪": "%",
    "｡": "。",
}
_NOT_CONVERTED = "！？"
"""These marks end a sentence even without a following space; ASCII `!` and `?` do so only with one."""
_WIDE = {chr(code): chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F) if chr(code) not in _NOT_CONVERTED}
_TRANSLATION = str.maketrans({**_SIGNS, **_WIDE})
_FOREIGN_DIGIT = re.compile(r"[^\D0-9]")
_INVISIBLE = re.compile("[\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\u061c\u0640\u064b-\u0652\u0670]")
"""Invisible direction and joiner characters; Arabic tatweel and vowel signs."""


def one_form(text: str) -> str:
    """`text` in Unicode's composed form with ASCII digits and half-width signs, without invisible characters."""
    if text.isascii():
        return text
    text = _INVISIBLE.sub("", unicodedata.normalize("NFC", text)).translate(_TRANSLATION)
    return _FOREIGN_DIGIT.sub(lambda match: str(unicodedata.decimal(match[0])), text)
