"""The index of the documentation, docs/README.md, as data: navigation of the site, and the list for language models.

Each heading of the second level is a part, and each row of its table a page with what it holds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
_ROW = re.compile(r"^\| \[[^\]]+\]\(([^)]+\.md)\) \| (.+) \|$", re.MULTILINE)
_LINK, _SHOWN = re.compile(r"\[([^\]]+)\]\([^)]*\)"), r"\1"
"""A link, and what stays of it where there are no links."""


@dataclass(frozen=True, slots=True)
class Page:
    """A page: its path in docs/, its title, and what the index says of it."""

    path: str
    title: str
    said: str


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the documentation, such as the tutorials."""

    title: str
    pages: tuple[Page, ...]


def title_of(path: Path) -> str:
    """The first heading of a page, as plain text."""
    return path.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ").replace("`", "")


def parts() -> list[Part]:
    """The parts in the order of the index; every one has pages."""
    _, *sections = (DOCS / "README.md").read_text(encoding="utf-8").split("\n## ")
    found = []
    for section in sections:
        title, _, text = section.partition("\n")
        pages = tuple(Page(path, title_of(DOCS / path), said) for path, said in _ROW.findall(text))
        found.append(Part(title, pages))
    return found


def list_for_language_models() -> str:
    """The text of docs/llms.txt: its own first lines, then every page of the index."""
    begin, _, _ = (DOCS / "llms.txt").read_text(encoding="utf-8").partition("\n## ")
    blocks = [begin.rstrip("\n")]
    for part in parts():
        lines = [f"- [{page.title}]({page.path}): {_LINK.sub(_SHOWN, page.said)}" for page in part.pages]
        blocks.append(f"## {part.title}\n\n" + "\n".join(lines))
    return "\n\n".join(blocks) + "\n"
