"""Text for display: untrusted text without control characters, numbers with their nouns, money."""

from __future__ import annotations

import math
import unicodedata


def shown(text: str, most: int | None = None) -> str:
    """`text` on one line, with control, direction and other invisible characters written as escapes.

    Longer text is cut after `most` characters, and its length is added.
    """
    if most is not None and len(text) > most:
        return f"{shown(text[:most])}… ({len(text)} characters)"
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() or unicodedata.category(character) == "Zs" else repr(character)[1:-1]
        for character in text
    )


def shown_lines(text: str) -> str:
    """Like `shown`, but keeps line ends; a tab becomes four spaces."""
    return "\n".join(shown(line.replace("\t", "    ")) for line in text.split("\n"))


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """`1 problem`, `2 trajectories`; `plural` is for a noun whose plural is not regular."""
    return f"{number:,} {noun if number == 1 else plural or plural_of(noun)}"


def plural_of(noun: str) -> str:
    """The regular plural: `problems`, `trajectories`."""
    ends_in_ies = noun.endswith("y") and noun[-2:-1] not in set("aeiou")
    return f"{noun[:-1]}ies" if ends_in_ies else f"{noun}s"


def money(value: float, currency: str | None = None) -> str:
    """An amount with two digits after the point, or two significant ones if it is small; with its currency."""
    digits = 2 if value == 0 or value >= 0.1 else min(12, 1 - math.floor(math.log10(value)))
    amount = f"{value:,.{digits}f}"
    return amount if currency is None else f"{amount} {shown(currency)}"
