"""Opens the database for a command: retries for seconds, not minutes, and requires the right schema."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cord_worker import endpoints
from cord_worker.config import Settings
from cord_worker.errors import LocalServiceError
from cord_worker.local.services import LocalServices
from cord_worker.store.database import Database
from cord_worker.store.schema import version
from cord_worker.store.schema.version import check_schema, head_revision

_RETRY_SECONDS = 5.0


@contextmanager
def database_url_for(settings: Settings) -> Iterator[str]:
    """URL of the database. An embedded database that does not run is started, so that results can be read without
    `cordctl up`. During the `with`, another command that ends does not stop it.

    Raises ConfigError if there is no database, LocalServiceError if an embedded one cannot be started.
    """
    local = _embedded(settings)
    if local is None:
        yield endpoints.database_url(settings)
        return
    try:
        yield local.ensure_started().database_url
    finally:
        local.release()


def _embedded(settings: Settings) -> LocalServices | None:
    """The embedded servers, if the database is one of them and this user may start and stop it; else None."""
    if settings.database_url is not None or not settings.state_dir.is_dir():
        return None
    try:
        local = LocalServices(settings.state_dir)
    except LocalServiceError:
        # The folder is another user's: its servers can be used while they run. Raises ConfigError if they do not.
        endpoints.database_url(settings)
        return None
    return local if local.postgres.has_data() else None


@contextmanager
def open_database(settings: Settings, *, url: str | None = None) -> Iterator[Database]:
    """The database of these settings (or at `url`), with the schema that this code needs.

    Raises ConfigError if there is no database, StoreError if it is unreachable, SchemaMismatch.
    """
    if url is None:
        with database_url_for(settings) as found, open_database(settings, url=found) as database:
            yield database
        return
    with any_database(url) as database:
        check_schema(database)
        yield database


def current_revision(url: str) -> str | None:
    """Revision of the database at `url`; None if it holds no schema. Raises StoreError if it is unreachable."""
    with any_database(url) as database:
        return database.run(version.current_revision)


def ensure_schema(url: str) -> None:
    """Migrates the database at `url` to the newest schema, if it has another one."""
    if current_revision(url) != head_revision():
        from cord_worker.store.schema.migration import upgrade

        upgrade(url)


@contextmanager
def any_database(url: str) -> Iterator[Database]:
    """The database at `url`, whatever schema it has."""
    database = Database(url, pool_size=2, application_name="cordctl", retry_seconds=_RETRY_SECONDS)
    try:
        yield database
    finally:
        database.close()
