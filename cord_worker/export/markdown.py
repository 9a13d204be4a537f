"""Writes hostile text as Markdown, so that names and texts of models, datasets and configurations stay plain text."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

from cord_worker.display_text import shown

_SPECIAL = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|~&$:@^=\"'/])")
_ALWAYS_PLAIN = re.compile(r"[A-Za-z0-9 ,%]*")
_LEAST_FENCE = 3


def plain(text: str) -> str:
    """The text on one line, with every character escaped that Markdown or HTML could read as markup."""
    line = shown(text)
    return line if _ALWAYS_PLAIN.fullmatch(line) else _SPECIAL.sub(r"\\\1", line)


def code(text: str) -> str:
    """The text as inline code, for tables too. No text can end the code early."""
    line = shown(text).replace("|", "\\|") or " "
    fence = "`" * (_longest_run(line) + 1)
    padding = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{padding}{line}{padding}{fence}"


def code_block(text: str, language: str = "") -> list[str]:
    """The lines of a block of code. No text can end the block early. Invisible characters are written as escapes."""
    fence = "`" * max(_LEAST_FENCE, _longest_run(text) + 1)
    return [f"{fence}{language}", *(shown(line) for line in text.split("\n")), fence]


def json_block(document: Any) -> list[str]:
    """The lines of a block with this JSON. Invisible characters are written as JSON's own escapes, so it stays JSON."""
    text = json.dumps(document, indent=2, ensure_ascii=False)
    return code_block("".join(one if one == "\n" or _is_visible(one) else _json_escape(one) for one in text), "json")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table. `head` and `rows` hold Markdown, which is not escaped."""
    return [
        f"| {' | '.join(head)} |",
        f"|{'---|' * len(head)}",
        *(f"| {' | '.join(cells)} |" for cells in rows),
    ]


def _longest_run(text: str) -> int:
    return max((len(run) for run in re.findall("`+", text)), default=0)


def _is_visible(character: str) -> bool:
    return character.isprintable() or unicodedata.category(character) == "Zs"


def _json_escape(character: str) -> str:
    return json.dumps(character)[1:-1] if ord(character) > 0x7F else f"\\u{ord(character):04x}"
