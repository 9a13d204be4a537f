"""Opens the database for a command: retries for seconds, not minutes, and requires the right schema."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from alembic.runtime.migration import MigrationContext

from cord_worker import endpoints
from cord_worker.config import Settings
from cord_worker.errors import ConfigError
from cord_worker.local.services import LocalServices
from cord_worker.store.database import Database
from cord_worker.store.schema.version import check_schema

_RETRY_SECONDS = 5.0


@contextmanager
def database_url_for(settings: Settings) -> Iterator[str]:
    """URL of the database. An embedded one that does not run is started for the length of the `with`, so that results
    of a run can be read without `cordctl up`.

    Raises ConfigError if none is known, LocalServiceError if it cannot be started.
    """
    try:
        url = endpoints.database_url(settings)
    except ConfigError:
        if not settings.state_dir.is_dir():
            raise
        local = LocalServices(settings.state_dir)
        if not local.postgres.has_data():
            raise
    else:
        yield url
        return
    try:
        yield local.ensure_started().database_url
    finally:
        local.release()


@contextmanager
def open_database(settings: Settings, *, url: str | None = None) -> Iterator[Database]:
    """The database of these settings (or at `url`), with the schema that this code needs.

    Raises ConfigError if none is known, StoreError if it is unreachable, SchemaMismatch.
    """
    if url is None:
        with database_url_for(settings) as known, open_database(settings, url=known) as database:
            yield database
        return
    with any_database(url) as database:
        check_schema(database)
        yield database


def current_revision(url: str) -> str | None:
    """Revision of the database at `url`; None if it holds no schema. Raises StoreError if it is unreachable."""
    with any_database(url) as database:
        return database.run(lambda connection: MigrationContext.configure(connection).get_current_revision())


@contextmanager
def any_database(url: str) -> Iterator[Database]:
    """The database at `url`, whatever schema it has."""
    database = Database(url, pool_size=2, application_name="cordctl", retry_seconds=_RETRY_SECONDS)
    try:
        yield database
    finally:
        database.close()
