"""Migrates the schema with Alembic.

It is a separate module, because importing Alembic takes as long as importing the rest of the store.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import closing
from functools import partial

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.util import CommandError

from cord_worker.display_text import counted
from cord_worker.errors import SchemaMismatch, StoreError
from cord_worker.store.database import Database
from cord_worker.store.schema.rollups import fill_rollups
from cord_worker.store.schema.version import current_revision, migrations_folder, revisions
from cord_worker.store.unreachable import state_of

logger = logging.getLogger(__name__)


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
    migrates nevertheless: the workers notice it with their next heartbeat, return their leases and end.

    If the migration adds the tables of rollups, it then fills them, in batches that block no worker.
    """
    before = _revision_at(url)
    _migrate(command.upgrade, url, revision, while_workers_run=while_workers_run)
    if before is not None and before < _FIRST_WITH_ROLLUPS <= (_revision_at(url) or ""):
        _fill_rollups(url)


def downgrade(url: str, revision: str, *, while_workers_run: bool = False) -> None:
    """Migrates back to `revision` (`base` drops everything); see `upgrade`."""
    _migrate(command.downgrade, url, revision, while_workers_run=while_workers_run)


_FIRST_WITH_ROLLUPS = "0022"
"""The revision that adds the tables of rollups."""
_ROLLUPS_AT_ONCE = 200


def _revision_at(url: str) -> str | None:
    with closing(Database(url, pool_size=1)) as database:
        return database.run(current_revision, retry_seconds=0.0)


def _fill_rollups(url: str) -> None:
    """Writes the rollups of problems that ended before rollups existed. Some problems are left out, and an interruption
    leaves out more: the leading coordinator writes their rollups later."""
    with closing(Database(url, pool_size=1, by_keys=True)) as database:
        after = 0
        while ids := database.run(partial(fill_rollups, after=after, most=_ROLLUPS_AT_ONCE)):
            after = ids[-1]


_MOST_TRIES = 10
_DEADLOCK = "40P01"


def _migrate(migrate: Callable[[Config, str], None], url: str, revision: str, *, while_workers_run: bool) -> None:
    """Migrates in one transaction. If the migration and a running worker wait for each other's locks, PostgreSQL ends
    one of the transactions. If that is the migration, it starts again."""
    for tries_left in reversed(range(_MOST_TRIES)):
        try:
            if not revision:
                raise CommandError("it is empty")
            migrate(_migration_config(url, while_workers_run), revision)
            return
        except CommandError as error:
            raise StoreError(
                f"no migration to {revision!r} ({error}). There are: head, base, {', '.join(revisions())}"
            ) from error
        except StoreError as error:
            cause = error.__cause__
            if not tries_left or not isinstance(cause, sa.exc.DBAPIError) or state_of(cause) != _DEADLOCK:
                raise
            logger.warning("the migration and a running worker waited for each other: it starts again")


def _migration_config(url: str, while_workers_run: bool) -> Config:
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
            f"{counted(len(up), 'process', 'processes')} up, which know only the present schema ({named}). Stop them "
            "first (cordctl down, cordctl drain or SIGTERM; nothing is lost), or migrate while they run (cordctl db "
            "upgrade --while-workers-run): they return their work and end with exit code 78."
        )
