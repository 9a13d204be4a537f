"""The schema's version: which one this code needs, and which one a database has."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import sqlalchemy as sa

import cord_worker
from cord_worker.errors import SchemaMismatch, TablesMissing
from cord_worker.store.database import Database

_HAS_REVISION = sa.text("SELECT to_regclass('alembic_version') IS NOT NULL")
_REVISION = sa.text("SELECT version_num FROM alembic_version")


def migrations_folder() -> Path:
    """Folder of the migrations: inside the installed package, or beside it in a checkout."""
    package = Path(cord_worker.__file__).resolve().parent
    installed = package / "migrations"
    return installed if installed.is_dir() else package.parent / "migrations"


@cache
def revisions() -> tuple[str, ...]:
    """Every revision that this code knows, oldest first: the beginnings of the migrations' file names."""
    return tuple(sorted(file.name.partition("_")[0] for file in (migrations_folder() / "versions").glob("[0-9]*_*.py")))


def head_revision() -> str:
    """Newest revision that this code knows. Raises SchemaMismatch if there are no migrations."""
    if not revisions():
        raise SchemaMismatch("no migrations found: this installation of cord-worker is incomplete")
    return revisions()[-1]


def current_revision(connection: sa.Connection) -> str | None:
    """Revision of the database; None if it holds no schema."""
    return _existing_revision(connection) if connection.execute(_HAS_REVISION).scalar_one() else None


def _existing_revision(connection: sa.Connection) -> str | None:
    """Revision of a database whose tables must exist; None if `alembic_version` is empty."""
    return connection.execute(_REVISION).scalars().first()


def check_schema(database: Database, *, retry_seconds: float | None = None) -> None:
    """Raises SchemaMismatch if the database's revision is not this code's; TablesMissing if it has none.

    If `database.waits_for_tables`, waits up to `retry_seconds` for a migration or a restored dump to make the tables.
    """
    read = _existing_revision if database.waits_for_tables else current_revision
    found, wanted = database.run(read, retry_seconds=retry_seconds), head_revision()
    if found == wanted:
        return
    if found is None:
        raise TablesMissing("the database is empty: it has no tables of cord-worker yet. Run: cordctl db upgrade")
    if found in revisions():
        raise SchemaMismatch(f"the database schema is at {found}, this code needs {wanted}. Run: cordctl db upgrade")
    raise SchemaMismatch(
        f"the database schema is at {found}, which this code (schema {wanted}) does not know: it was migrated by a "
        "newer version. Install that version of cord-worker here."
    )
