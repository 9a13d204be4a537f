"""The pages of the documentation, and the pieces of code in them."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", "CONTRIBUTING.md", "deploy/sft/README.md"]
PAGES += sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md"))
"""Pages from the root of the repository."""
_FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"(?:^(?: {4}|\t).*\n(?:[ \t]*\n(?= {4}|\t))*)+", re.MULTILINE)
_SPAN = re.compile(r"(?<!`)`([^`]+)`(?!`)")


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def fenced(text: str) -> Iterator[tuple[str, str]]:
    """Language and content of each fenced block."""
    yield from _FENCED.findall(text)


def blocks(text: str) -> Iterator[str]:
    """Every block of code without its indentation: the fenced ones, then the indented ones."""
    yield from (content for _, content in fenced(text))
    yield from (textwrap.dedent(found[0].expandtabs(4)) for found in _INDENTED.finditer(_FENCED.sub("", text)))


def spans(text: str) -> Iterator[str]:
    """Every span of code within sentences and tables, on one line."""
    outside = _INDENTED.sub("\n", _FENCED.sub("", text))
    yield from (" ".join(span.split()) for span in _SPAN.findall(outside))
