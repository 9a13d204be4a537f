"""Copies the documentation into a folder in which every link stays inside: what the site generator reads.

The pages are those of docs/. What they link to elsewhere in the repository is copied to the folder `repository`, pages
with their own links. The index, docs/README.md, becomes index.md.
"""

from __future__ import annotations

import os
import posixpath
import re
import shutil
from pathlib import Path

from docs.site.index import ROOT

OTHERS = "repository"
"""Folder of the site for what does not lie in docs/."""
SCRIPTS = "scripts"
"""Folder of the site for JavaScript."""
DIAGRAMS, WORKERS = "mermaid.min.js", "iframe-worker.js"
"""What draws diagrams; what lets the search run in pages from the file system."""
_LINK = re.compile(r"(\]\()([^)\s]+)(\))")
_CODE = re.compile(r"(^```.*?^```$|^(?: {4}|\t)[^\n]*$|`[^`\n]+`)", re.MULTILINE | re.DOTALL)
_DIAGRAM = "```mermaid"


class BrokenLink(Exception):
    """A link of a page leads to nothing in the repository."""


def stage(folder: Path, *, scripts: Path) -> None:
    """Writes the site's sources into `folder`, which must be empty or missing. `scripts` holds the JavaScript that the
    pages load from the site itself: `DIAGRAMS` and `WORKERS`. Raises BrokenLink."""
    folder.mkdir(parents=True, exist_ok=True)
    pages = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md"))
    done: set[str] = set()
    while pages:
        source = pages.pop()
        if source in done:
            continue
        done.add(source)
        target = folder / place_of(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        if not source.endswith(".md"):
            shutil.copyfile(ROOT / source, target)
            continue
        text, linked = _with_links_inside((ROOT / source).read_text(encoding="utf-8"), source)
        if _DIAGRAM in text:
            script = posixpath.relpath(f"{SCRIPTS}/{DIAGRAMS}", posixpath.dirname(place_of(source)) or ".")
            text += f'\n<script src="{script}"></script>\n'
        target.write_text(text, encoding="utf-8")
        pages += linked
    (folder / SCRIPTS).mkdir()
    for name in (DIAGRAMS, WORKERS):
        shutil.copyfile(scripts / name, folder / SCRIPTS / name)


def place_of(source: str) -> str:
    """Where a file of the repository stands in the site."""
    inside = source.removeprefix("docs/") if source.startswith("docs/") else f"{OTHERS}/{source}"
    return "index.md" if inside == "README.md" else inside


def _with_links_inside(text: str, source: str) -> tuple[str, list[str]]:
    """The page with links to the places of the site; and the files of the repository that it links to."""
    linked: list[str] = []

    def replaced(match: re.Match[str]) -> str:
        link = match[2]
        path, mark, anchor = link.partition("#")
        if "://" in link or link.startswith("mailto:") or not path:
            return match[0]
        target = os.path.normpath(os.path.join(os.path.dirname(source), path))  # noqa: PTH118, PTH120 - both may climb
        if (ROOT / target).is_dir():
            readme = posixpath.join(target, "README.md")
            target = readme if (ROOT / readme).is_file() else "docs/README.md"
        if target.startswith("..") or not (ROOT / target).is_file():
            raise BrokenLink(f"{source}: {link} leads to nothing")
        linked.append(target)
        inside = posixpath.relpath(place_of(target), posixpath.dirname(place_of(source)) or ".")
        return f"{match[1]}{inside}{mark}{anchor}{match[3]}"

    pieces = _CODE.split(text)
    return "".join(piece if number % 2 else _LINK.sub(replaced, piece) for number, piece in enumerate(pieces)), linked
