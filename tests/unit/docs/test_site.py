"""The documentation as a site: every link of its sources stays inside, and a broken link of a built page is found."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docs.site import staging
from docs.site.build import navigation
from docs.site.built_links import broken
from docs.site.index import parts


@pytest.fixture
def staged(tmp_path: Path) -> Path:
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    for name in (staging.DIAGRAMS, staging.WORKERS):
        (scripts / name).write_text("")
    folder = tmp_path / "staged"
    staging.stage(folder, scripts=scripts)
    return folder


def test_every_link_of_the_sources_leads_to_a_file_among_them(staged: Path) -> None:
    pages = list(staged.rglob("*.md"))
    assert len(pages) > 60
    lost = []
    for page in pages:
        text = re.sub(r"^```.*?^```|^ {4}.*$|`[^`\n]+`", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
        for link in re.findall(r"\]\(([^)\s#]+)(?:#[^)\s]*)?\)", text):
            target = (page.parent / link).resolve()
            if "://" not in link and not (target.is_file() and target.is_relative_to(staged.resolve())):
                lost.append((page.name, link))
    assert lost == []


def test_the_pages_outside_of_docs_are_among_the_sources(staged: Path) -> None:
    assert (staged / "index.md").is_file()
    assert (staged / "repository" / "README.md").is_file()
    assert (staged / "repository" / "deploy" / "sft" / "README.md").is_file()


def test_only_pages_with_diagrams_load_what_draws_them(staged: Path) -> None:
    loading = {page.name for page in staged.rglob("*.md") if staging.DIAGRAMS in page.read_text(encoding="utf-8")}
    assert loading == {"architecture.md"}


def test_a_link_to_nothing_stops_the_staging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "README.md").write_text("# Index\n\n[a](gone.md)\n")
    monkeypatch.setattr(staging, "ROOT", tmp_path)
    with pytest.raises(staging.BrokenLink, match=r"docs/README.md: gone.md"):
        staging.stage(tmp_path / "staged", scripts=tmp_path)


def test_the_navigation_has_every_page_of_the_index() -> None:
    pages = [page.path for part in parts() for page in part.pages]
    assert re.findall(r' = "([^"]+\.md)"', navigation()) == ["index.md", *pages]
    assert [part.title for part in parts()] == [
        *("Tutorials", "Examples", "How-to guides", "Reference", "Explanation", "Decision records")
    ]


def test_broken_links_of_a_built_site_are_found(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "index.html").write_text(
        '<h2 id="here">x</h2><a href="#here">1</a><a href="#gone">2</a><a href="sub/page.html#top">3</a>'
        '<a href="sub/other.html">4</a><a href="https://example.org/">5</a><script src="https://example.org/x.js"></script>'
    )
    (tmp_path / "sub" / "page.html").write_text('<p id="top"></p><a href="../">up</a><img src="none.png">')
    assert broken(tmp_path) == [
        "index.html: loads https://example.org/x.js",
        "index.html: #gone leads to no heading",
        "index.html: sub/other.html leads to no file",
        "sub/page.html: none.png leads to no file",
    ]
