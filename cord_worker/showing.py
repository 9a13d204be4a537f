"""Shows untrusted text safely on one line."""

from __future__ import annotations

import unicodedata


def shown(text: str, most: int | None = None) -> str:
    """`text` on one line, with control, direction and other invisible characters written as escapes. If it has more
    than `most` characters, only the first of them, and their number."""
    if most is not None and len(text) > most:
        return f"{shown(text[:most])}… ({len(text)} characters)"
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() or unicodedata.category(character) == "Zs" else repr(character)[1:-1]
        for character in text
    )


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """`1 problem`, `2 problems`; `plural` is for nouns whose plural is not made with an s."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
