"""Pages, headings, pictures, modules and columns that README.md, docs/ and the other pages point to exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cord_worker.store.schema.tables import Base

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"
PAGES = sorted(str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md"))
OF_THE_CODE = [
    "what-is-computed.md",
    "architecture.md",
    "glossary.md",
    "how-to-add.md",
    *(page for page in PAGES if page.startswith("decisions/")),
]
"""Pages that name modules and columns."""
ELSEWHERE = [
    name
    for folder in (".", ".github", "deploy", "cord_worker/demo", "migrations")
    for path in sorted((ROOT / folder).glob("*.md" if folder == "." else "**/*.md"))
    for name in [str(path.relative_to(ROOT))]
]
"""Pages outside docs/, from the root of the repository."""
MOST_LINES_OF_README = 130
PLACEHOLDERS = re.compile(r"NAME|NNNN|\*")


def text_of(page: str) -> str:
    return (DOCS / page).read_text(encoding="utf-8")


def anchors_of(path: Path) -> set[str]:
    """The headings of a page, as GitHub names them in links: the second one of a name ends with -1."""
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#{1,6} (.+)$", text, re.MULTILINE)
    names = [re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings]
    return {f"{name}-{names[:n].count(name)}" if name in names[:n] else name for n, name in enumerate(names)}


def broken_links(path: Path) -> list[str]:
    """The links and pictures of a page, within the repository, that lead nowhere."""
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        target, _, anchor = link.partition("#")
        found = (path.parent / target).resolve() if target else path
        if not found.exists() or (anchor and anchor not in anchors_of(found)):
            broken.append(link)
    return broken


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_existing_pages_and_headings(page: str) -> None:
    assert broken_links(DOCS / page) == []


@pytest.mark.parametrize("page", ELSEWHERE)
def test_links_of_pages_outside_docs_lead_to_existing_pages_and_headings(page: str) -> None:
    assert broken_links(ROOT / page) == []


def test_a_link_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# One\n\n```sh\n# No heading\n```\n\n## One\n")
    (tmp_path / "page.md").write_text(
        "[a](other.md) [b](other.md#one) [c](other.md#one-1) [d](https://example.org/x) [e](#two)\n"
        "[f](gone.md) [g](other.md#no-heading) [h](other.md#one-2) ![i](gone.png)\n"
    )
    broken = broken_links(tmp_path / "page.md")
    assert broken == ["#two", "gone.md", "other.md#no-heading", "other.md#one-2", "gone.png"]


def test_the_readme_can_be_read_to_its_end() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= MOST_LINES_OF_README


def test_pages_and_headings_that_the_code_cites_exist() -> None:
    sources = [*(ROOT / "cord_worker").rglob("*.py"), *(ROOT / "migrations").rglob("*.py")]
    cited = {
        (source.name, page, anchor)
        for source in sources
        for page, anchor in re.findall(r"\bdocs/([\w./-]+\.md)(?:#([\w-]+))?", source.read_text(encoding="utf-8"))
    }
    assert cited
    missing = [
        (source, page, anchor)
        for source, page, anchor in sorted(cited)
        if not (DOCS / page).is_file() or (anchor and anchor not in anchors_of(DOCS / page))
    ]
    assert not missing


@pytest.mark.parametrize("page", OF_THE_CODE)
def test_named_files_exist(page: str) -> None:
    named = re.findall(r"`([\w./-]+\.(?:py|txt|part)|[\w.-]+/[\w./-]+|pyproject\.toml)`", text_of(page))
    written = [name for name in named if not PLACEHOLDERS.search(name)]
    assert not [name for name in written if not any((base / name).exists() for base in (ROOT / "cord_worker", ROOT))]


@pytest.mark.parametrize("page", OF_THE_CODE)
def test_named_columns_exist(page: str) -> None:
    tables = {table.name: set(table.columns.keys()) for table in Base.metadata.sorted_tables}
    named = re.findall(rf"`({'|'.join(tables)})\.(\w+)`", text_of(page))
    assert not [f"{table}.{column}" for table, column in named if column not in tables[table]]


def test_a_row_of_the_glossary_has_a_term_a_meaning_a_place_and_words_that_are_not_used() -> None:
    rows = [line for line in text_of("glossary.md").splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert len(cells) > 60
    assert {len(row) for row in cells} == {4}
    terms = [row[0] for row in cells if row[0] != "term"]
    assert all(row[0] and row[1] for row in cells)
    assert sorted(set(terms)) == sorted(terms)


def test_every_page_is_in_the_index_once() -> None:
    listed = re.findall(r"\]\((?!\.\./)([^)#\s]+\.md)(?:#[\w-]+)?\)", text_of("README.md"))
    assert sorted(listed) == [page for page in PAGES if page != "README.md"]


def without_links(text: str) -> str:
    return re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", text)


def test_the_list_for_language_models_has_every_page_with_its_title_and_what_the_index_says_of_it() -> None:
    index = re.findall(r"^\| \[[^\]]+\]\(([^)]+\.md)\) \| (.+) \|$", text_of("README.md"), re.MULTILINE)
    expected = [
        f"- [{text_of(page).splitlines()[0].removeprefix('# ').replace('`', '')}]({page}): {without_links(said)}"
        for page, said in index
    ]
    listed = [line for line in text_of("llms.txt").splitlines() if line.startswith("- ") and "](../" not in line]
    assert listed == expected
    assert len(listed) == len(PAGES) - 1
    assert broken_links(DOCS / "llms.txt") == []
