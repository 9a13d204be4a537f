"""Text for display: untrusted text without control characters, and numbers with their nouns."""

from __future__ import annotations

import unicodedata


def shown(text: str, most: int | None = None) -> str:
    """`text` on one line, with control, direction and other invisible characters written as escapes.

    Text of more than `most` characters is cut there, and its number of characters is added.
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
    """`1 problem`, `2 problems`; `plural` is for a noun whose plural is not made by adding an s."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
