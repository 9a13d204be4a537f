"""Invisible characters: a text that holds nothing else is empty, and they are stripped from its ends like spaces."""

from __future__ import annotations

import re
import unicodedata

_AT_ENDS = (
    "\u00ad\u034f\u061c\u180e\u200b\u200c\u200d\u200e\u200f\u2060\u2061\u2062\u2063\u2064\ufeff"
    "\u115f\u1160\u3164\uffa0\u2800"
)
"""Zero-width and filling characters and marks of direction; marks that pair with one inside the text are kept."""
_INSIDE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\u2800\u3164\ufeff\uffa0]"
    "|(?<![\U0001f3f4\U000e0020-\U000e007e])[\U000e0000-\U000e007f]"
)
"""Invisible characters within a text. Joiners are left out, because emoji, Persian and Indic scripts need them. So are
the tags of regional flags."""
_STRIPPED = _AT_ENDS + "".join(chr(code) for code in range(0x3001) if chr(code).isspace())
_BLANK = frozenset(_AT_ENDS)


def stripped(text: str) -> str:
    """`text` without outer white space and invisible characters; "" if it holds nothing visible."""
    plain = text.strip()
    if plain.isascii():
        return plain if plain.isprintable() or any(character.isprintable() for character in plain) else ""
    plain = plain.strip(_STRIPPED)
    if all(_is_invisible(character) for character in plain[:1_000]) and not any(map(str.isalnum, plain)):
        return ""
    return plain


def hides_at_ends(text: str) -> bool:
    """True if `stripped` removes more from `text` than blanks, tabs and line ends, such as a form feed."""
    if text.isprintable() and text.isascii():
        return False
    outer = text.strip(" \t\r\n")
    blank = text[: len(text) - len(text.lstrip(" \t\r\n"))]
    return outer != stripped(text) or "\r" in blank.replace("\r\n", "")


def hidden_inside(text: str) -> str | None:
    """The name of the first invisible character in `text`; None if there is none."""
    found = None if text.isascii() else _INSIDE.search(text)
    return None if found is None else f"U+{ord(found[0]):04X} {unicodedata.name(found[0], 'unnamed')}"


def _is_invisible(character: str) -> bool:
    if character.isspace() or character in _BLANK:
        return True
    return (
        unicodedata.category(character) in ("Cf", "Cc", "Zs", "Zl", "Zp")
        or "\ufe00" <= character <= "\ufe0f"
        or "\U000e0100" <= character <= "\U000e01ef"
    )
