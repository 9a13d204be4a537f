"""Pages, headings, modules and columns that docs/ points to exist."""

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
PLACEHOLDERS = re.compile(r"NAME|NNNN|\*")


def text_of(page: str) -> str:
    return (DOCS / page).read_text(encoding="utf-8")


def anchors_of(path: Path) -> set[str]:
    """The headings of a page, as GitHub names them in links."""
    headings = re.findall(r"^#{1,6} (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_existing_pages_and_headings(page: str) -> None:
    here = DOCS / page
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        if "://" in link:
            continue
        target, _, anchor = link.partition("#")
        path = (here.parent / target).resolve() if target else here
        if not path.exists() or (anchor and anchor not in anchors_of(path)):
            broken.append(link)
    assert not broken


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


def test_every_page_is_in_the_index() -> None:
    listed = set(re.findall(r"\]\((?!\.\./)([^)#\s]+\.md)\)", text_of("README.md")))
    assert listed == {page for page in PAGES if page != "README.md"}
