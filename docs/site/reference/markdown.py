"""Pieces of Markdown that the pages of the reference share."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterable, Sequence

WIDTH = 120


def head(title: str, introduction: str) -> str:
    """The title, a note that nobody should edit the page, and what the page holds."""
    note = "<!-- Written by `make reference` from the code. Change the code, not this page. -->"
    return f"# {title}\n\n{note}\n\n{paragraph(introduction)}\n"


def paragraph(text: str) -> str:
    """The text in lines of at most `WIDTH` characters."""
    return textwrap.fill(" ".join(text.split()), WIDTH, break_long_words=False, break_on_hyphens=False)


def code(text: object) -> str:
    """A span of code."""
    return f"`{text}`"


def cell(text: str) -> str:
    """Text for a cell of a table: on one line, with its bars and angle brackets escaped outside of code."""
    parts = re.split(r"(`[^`]*`)", " ".join(text.split()).replace("|", r"\|"))
    return "".join(
        part if part.startswith("`") else part.replace("<", "&lt;").replace("*", r"\*").replace("[", r"\[")
        for part in parts
    )


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; cells are Markdown already."""
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(lines) + "\n"


def docstring(text: str | None) -> str:
    """A docstring as Markdown: its paragraphs stay, lists of arguments and errors become lists."""
    blocks = []
    for block in inspect.cleandoc(text or "").split("\n\n"):
        first, *rest = block.splitlines()
        if first in ("Args:", "Raises:", "Returns:"):
            blocks.append(f"{first[:-1]}:\n\n" + "\n".join(_items(rest)))
        else:
            blocks.append(paragraph(block))
    return "\n\n".join(blocks)


def _items(lines: Sequence[str]) -> list[str]:
    """`name: meaning` entries, indented by four spaces, as items of a list; deeper lines continue an entry."""
    items: list[str] = []
    for line in lines:
        if re.match(r" {4}\S", line):
            items.append(line.strip())
        else:
            items[-1] += f" {line.strip()}"
    filled = []
    for item in items:
        names, _, meaning = item.partition(": ")
        named = ", ".join(code(name) for name in names.split(", "))
        filled.append(textwrap.fill(f"- {named}: {meaning}", WIDTH, subsequent_indent="  ", break_on_hyphens=False))
    return filled
