"""The page of tables and views: every column with its type and comment, as a migrated database has them."""

from __future__ import annotations

import sqlalchemy as sa

from cord_worker.store.schema.tables import Base
from cord_worker.store.schema.version import head_revision
from docs.site.reference import markdown

_COLUMNS = sa.text(
    """
    SELECT c.relname AS relation, c.relkind = 'v' AS is_view, obj_description(c.oid, 'pg_class') AS said,
           a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type, a.attnotnull AS required,
           col_description(c.oid, a.attnum) AS meaning
    FROM pg_class c
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'v') AND c.relname <> 'alembic_version'
    ORDER BY c.relname, a.attnum
    """
)
"""Every column of every table and view of the schema that the connection uses."""


def page(connection: sa.Connection) -> str:
    """The page."""
    found: dict[str, list[sa.Row[tuple[object, ...]]]] = {}
    for row in connection.execute(_COLUMNS):
        found.setdefault(row.relation, []).append(row)
    order = [table.name for table in Base.metadata.sorted_tables]
    tables = sorted((name for name in found if not found[name][0].is_view), key=order.index)
    views = sorted(name for name in found if found[name][0].is_view)
    introduction = (
        f"Every table and view of the schema {head_revision()}, with every column. The comments are in the database "
        r"too: `\d+ TABLE` in psql shows them, and `cordctl db psql` opens psql. [Queries](../queries.md) has ready "
        "queries, and [architecture](../architecture.md) the states of a problem, candidate and trajectory."
    )
    parts = [markdown.head("Tables and views", introduction)]
    for title, names in (("Tables", tables), ("Views", views)):
        parts.append(f"## {title}\n")
        parts += [_section(name, found[name]) for name in names]
    return "\n".join(parts)


def _section(name: str, columns: list[sa.Row[tuple[object, ...]]]) -> str:
    rows = [
        (
            markdown.code(column.name),
            column.type + ("" if column.required or column.is_view else ", or NULL"),
            markdown.cell(column.meaning or ""),
        )
        for column in columns
    ]
    said = markdown.paragraph(markdown.cell(columns[0].said or ""))
    return "\n".join([f"### {markdown.code(name)}\n", said + "\n", markdown.table(("column", "type", "meaning"), rows)])
