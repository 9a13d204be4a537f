"""The schema's version: migrating it, and refusing to work with another one."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from cord_worker.errors import SchemaMismatch
from cord_worker.store.database import Database


def migrations_folder() -> Path:
    """Folder of the migrations: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "migrations"
    return installed if installed.is_dir() else package.parent / "migrations"


def alembic_config(url: str | None) -> Config:
    """Alembic's configuration for the database at `url`, without needing alembic.ini."""
    config = Config()
    config.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    if url is not None:
        config.attributes["url"] = url
    return config


def upgrade(url: str, revision: str = "head") -> None:
    """Migrates to `revision`; safe to call from several processes at once."""
    command.upgrade(alembic_config(url), revision)


def downgrade(url: str, revision: str) -> None:
    """Migrates back to `revision` (`base` drops everything)."""
    command.downgrade(alembic_config(url), revision)


def head_revision() -> str:
    """Newest revision that this code knows."""
    head = ScriptDirectory.from_config(alembic_config(None)).get_current_head()
    if head is None:
        raise SchemaMismatch("no migrations found: this installation of cord-worker is incomplete")
    return head


def check_schema(database: Database) -> None:
    """Raises SchemaMismatch where the database's revision is not this code's."""

    def current(connection: sa.Connection) -> str | None:
        return MigrationContext.configure(connection).get_current_revision()

    found, wanted = database.run(current), head_revision()
    if found == wanted:
        return
    known = {script.revision for script in ScriptDirectory.from_config(alembic_config(None)).walk_revisions()}
    if found is None or found in known:
        raise SchemaMismatch(
            f"the database schema is at {found or 'nothing'}, this code needs {wanted}. Run: cordctl db upgrade"
        )
    raise SchemaMismatch(
        f"the database schema is at {found}, which this code (schema {wanted}) does not know: it was migrated by a "
        "newer version. Install that version of cord-worker here."
    )
