"""Texts of several lines, shown safely."""

from __future__ import annotations

from cord_worker.showing import shown


def shown_lines(text: str) -> str:
    """Like `shown`, but line ends stay: for messages of several lines."""
    return "\n".join(shown(line.replace("\t", "    ")) for line in text.split("\n"))
