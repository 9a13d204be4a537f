"""The schema's version: migrates it, and refuses to work with another one."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError

import cord_worker
from cord_worker.errors import SchemaMismatch, StoreError, TablesMissing
from cord_worker.store.database import Database


def migrations_folder() -> Path:
    """Folder of the migrations: inside the installed package, or beside it in a checkout."""
    package = Path(cord_worker.__file__).resolve().parent
    installed = package / "migrations"
    return installed if installed.is_dir() else package.parent / "migrations"


def alembic_config(url: str | None) -> Config:
    """Alembic's configuration for the database at `url`; needs no alembic.ini."""
    config = Config()
    config.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    if url is not None:
        config.attributes["url"] = url
    return config


def upgrade(url: str, revision: str = "head", *, while_workers_run: bool = False) -> None:
    """Migrates to `revision`; safe to call from several processes at once.

    Raises SchemaMismatch if workers are up, because they know only the present schema. With `while_workers_run` it
    migrates nevertheless: they notice it within a heartbeat, return their leases and end.
    """
    _migrate(command.upgrade, url, revision, while_workers_run=while_workers_run)


def downgrade(url: str, revision: str, *, while_workers_run: bool = False) -> None:
    """Migrates back to `revision` (`base` drops everything); see `upgrade`."""
    _migrate(command.downgrade, url, revision, while_workers_run=while_workers_run)


def _migrate(carry_out: Callable[[Config, str], None], url: str, revision: str, *, while_workers_run: bool) -> None:
    try:
        if not revision:
            raise CommandError("it is empty")
        carry_out(_with_workers(url, while_workers_run), revision)
    except CommandError as error:
        known = [script.revision for script in ScriptDirectory.from_config(alembic_config(None)).walk_revisions()]
        raise StoreError(
            f"no migration to {revision!r} ({error}). There are: head, base, {', '.join(sorted(known))}"
        ) from error


def _with_workers(url: str, while_workers_run: bool) -> Config:
    config = alembic_config(url)
    config.attributes["while_workers_run"] = while_workers_run
    return config


_UP = sa.text(
    """
    SELECT hostname || ':' || pid FROM workers
    WHERE stopped_at IS NULL AND heartbeat_at > now() - make_interval(secs => :timeout) ORDER BY started_at
    """
)
_MOST_NAMED = 5


def check_no_workers(connection: sa.Connection, timeout_seconds: float) -> None:
    """Raises SchemaMismatch if workers are up; it names them and says what to do before a migration."""
    if not sa.inspect(connection).has_table("workers"):
        return
    up = list(connection.execute(_UP, {"timeout": timeout_seconds}).scalars())
    if up:
        named = ", ".join(up[:_MOST_NAMED]) + (", …" if len(up) > _MOST_NAMED else "")
        raise SchemaMismatch(
            f"{len(up)} workers and coordinators are up ({named}) and know only the present schema. Stop them first "
            "(cordctl down, cordctl drain or SIGTERM; nothing is lost), or migrate beside them (cordctl db upgrade "
            "--while-workers-run): they return their work and end with exit code 78."
        )


@cache
def head_revision() -> str:
    """Newest revision that this code knows."""
    head = ScriptDirectory.from_config(alembic_config(None)).get_current_head()
    if head is None:
        raise SchemaMismatch("no migrations found: this installation of cord-worker is incomplete")
    return head


def check_schema(database: Database, *, retry_seconds: float | None = None) -> None:
    """Raises SchemaMismatch if the database's revision is not this code's; TablesMissing if it has none."""

    def current(connection: sa.Connection) -> str | None:
        return MigrationContext.configure(connection).get_current_revision()

    found, wanted = database.run(current, retry_seconds=retry_seconds), head_revision()
    if found == wanted:
        return
    known = {script.revision for script in ScriptDirectory.from_config(alembic_config(None)).walk_revisions()}
    if found is None:
        raise TablesMissing("the database is empty: it has no tables of cord-worker yet. Run: cordctl db upgrade")
    if found in known:
        raise SchemaMismatch(f"the database schema is at {found}, this code needs {wanted}. Run: cordctl db upgrade")
    raise SchemaMismatch(
        f"the database schema is at {found}, which this code (schema {wanted}) does not know: it was migrated by a "
        "newer version. Install that version of cord-worker here."
    )
