"""The services of a measurement: a temporary database and separate keys at the broker, never those of a user's runs."""

from __future__ import annotations

import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis
import sqlalchemy as sa

from cord_worker.config import Settings
from cord_worker.errors import ConfigError, StoreError
from cord_worker.local.services import Endpoints, LocalServices
from cord_worker.service_url_checks import is_amqp
from cord_worker.store.database import Database
from cord_worker.store.schema.migration import upgrade
from cord_worker.store.unreachable import is_connecting, refusal_error, unreachable_error

_REMOVE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Workspace:
    """The services of a measurement, which `settings` names, and a `folder` for its files."""

    settings: Settings
    endpoints: Endpoints
    folder: Path
    database: Database
    embedded: bool


@contextmanager
def open_workspace(settings: Settings, *, external: bool) -> Iterator[Workspace]:
    """Opens a temporary folder with embedded services; with `external`, a separate database and separate keys on the
    servers of CORD_DATABASE_URL and CORD_BROKER_URL. Everything is removed after the block.

    Raises ConfigError if `external` lacks its variables, StoreError if no database can be created,
    LocalServiceError.
    """
    folder = Path(tempfile.mkdtemp(prefix="cord-b-"))
    try:
        opened = _external(settings) if external else _embedded(folder)
        with opened as (endpoints, prefix):
            upgrade(endpoints.database_url)
            database = Database(endpoints.database_url, pool_size=2, application_name="cordctl bench")
            own = settings.model_copy(
                update={
                    "database_url": endpoints.database_url,
                    "broker_url": endpoints.broker_url,
                    "state_dir": folder / "work",
                    "key_prefix": prefix,
                }
            )
            try:
                yield Workspace(own, endpoints, folder, database, embedded=not external)
            finally:
                database.close()
    finally:
        _remove(folder)


def _remove(folder: Path) -> None:
    """Removes the folder, again if a server or watchdog that is just ending writes there."""
    deadline = time.monotonic() + _REMOVE_SECONDS
    while folder.exists():
        shutil.rmtree(folder, ignore_errors=True)
        if time.monotonic() > deadline:
            return
        time.sleep(0.1)


@contextmanager
def _embedded(folder: Path) -> Iterator[tuple[Endpoints, str]]:
    services = LocalServices(folder / "state")
    try:
        yield services.ensure_started(), "cord:"
    finally:
        services.release()
        if folder not in services.postgres.home.parents:
            shutil.rmtree(services.postgres.home, ignore_errors=True)


@contextmanager
def _external(settings: Settings) -> Iterator[tuple[Endpoints, str]]:
    if settings.database_url is None or settings.broker_url is None:
        raise ConfigError("--external needs both CORD_DATABASE_URL and CORD_BROKER_URL; leave it out to embed both")
    if is_amqp(settings.broker_url):
        raise ConfigError("bench measures with Redis, and CORD_BROKER_URL names RabbitMQ: leave --external out")
    if settings.broker_url.startswith("sentinel"):
        raise ConfigError("bench measures with one Redis, and CORD_BROKER_URL names sentinels: leave --external out")
    name = f"cord_bench_{secrets.token_hex(6)}"
    prefix = f"{name}:"
    url = sa.make_url(settings.database_url)
    _execute(url, f"CREATE DATABASE {name}")
    try:
        yield Endpoints(url.set(database=name).render_as_string(hide_password=False), settings.broker_url), prefix
    finally:
        _execute(url, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        _delete_keys(settings.broker_url, prefix)


def _execute(url: sa.URL, statement: str) -> None:
    engine = sa.create_engine(url, poolclass=sa.pool.NullPool, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            connection.execute(sa.text(statement))
    except sa.exc.DBAPIError as error:
        if is_connecting(error):
            raise refusal_error(error, url, {}) or unreachable_error(error, url) from None
        raise StoreError(
            f"bench uses a temporary database, but `{statement}` failed: {str(error.orig).strip()}. Give "
            "CORD_DATABASE_URL a user who may create databases, or leave --external out."
        ) from error
    finally:
        engine.dispose()


def _delete_keys(broker_url: str, prefix: str) -> None:
    if not broker_url.startswith(("redis", "rediss")):
        return
    with redis.Redis.from_url(broker_url.replace("redis+socket://", "unix://")) as client:
        for key in client.scan_iter(match=f"{prefix}*", count=1000):
            client.delete(key)
