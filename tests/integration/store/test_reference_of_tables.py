"""docs/reference/tables.md is what a migrated database says of itself, and the SQL of the pages runs on one."""

from __future__ import annotations

import re

import pytest
import sqlalchemy as sa

from cord_worker.store.database import Database
from cord_worker.store.schema.tables import Base
from docs.site.index import DOCS
from docs.site.reference import FROM_DATABASE
from tests.support.doc_snippets import PAGES, blocks, fenced, spans, text_of

PLACEHOLDERS = {"'RUN'": "'run'"}


@pytest.mark.parametrize("name", FROM_DATABASE)
def test_the_page_is_what_the_database_says(name: str, database: Database) -> None:
    written = (DOCS / "reference" / name).read_text(encoding="utf-8")
    assert written == database.run(FROM_DATABASE[name]), "run: make reference"


def test_every_column_of_every_table_and_view_is_on_the_page(database: Database) -> None:
    text = (DOCS / "reference" / "tables.md").read_text(encoding="utf-8")
    found = re.split(r"^### `(\w+)`$", text, flags=re.MULTILINE)
    written = {
        name: re.findall(r"^\| `(\w+)` \| .+ \| .+ \|$", section, re.MULTILINE)
        for name, section in zip(found[1::2], found[2::2], strict=True)
    }

    def there(connection: sa.Connection) -> dict[str, list[str]]:
        inspector = sa.inspect(connection)
        names = {*inspector.get_table_names(), *inspector.get_view_names()} - {"alembic_version"}
        return {name: [column["name"] for column in inspector.get_columns(name)] for name in names}

    assert written == database.run(there)
    assert {name: set(columns) for name, columns in written.items() if name in Base.metadata.tables} == {
        table.name: set(table.columns.keys()) for table in Base.metadata.sorted_tables
    }


def statements(page: str) -> list[str]:
    """The SQL of a page: blocks that begin with SELECT or WITH, and spans that do."""
    text = text_of(page)
    begins = re.compile(r"\s*(SELECT|WITH)\b")
    languages = {content: language for language, content in fenced(text)}
    found = [
        part
        for block in blocks(text)
        if languages.get(block, "sql") in ("sql", "")
        for part in block.split(";")
        if begins.match(part)
    ]
    found += [span.rstrip(";") for span in spans(text) if begins.match(span) and " FROM " in span]
    return [statement for statement in found if "…" not in statement]  # those are shortened


@pytest.mark.parametrize("page", [page for page in PAGES if statements(page)])
def test_the_statements_of_a_page_run_on_the_newest_schema(page: str, database: Database) -> None:
    for statement in statements(page):
        for placeholder, value in PLACEHOLDERS.items():
            statement = statement.replace(placeholder, value)
        database.run(lambda connection, sql=statement: connection.exec_driver_sql(f"EXPLAIN {sql}".replace("%", "%%")))


def test_enough_statements_are_found() -> None:
    assert sum(len(statements(page)) for page in PAGES) > 15
