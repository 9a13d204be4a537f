"""A database, a broker that tests may empty and kill, and processes for each module."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest

from cord_worker.local.redis import EmbeddedRedis
from cord_worker.store.database import Database
from tests.chaos.configurations import EVERYTHING, FAST
from tests.chaos.fleet import Fleet
from tests.support.redis_server import private_redis


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    """The module's own broker."""
    with private_redis(tmp_path_factory.mktemp("broker")) as server:
        yield server


@pytest.fixture(scope="module")
def url(migrated_database: Callable[[], AbstractContextManager[str]]) -> Iterator[str]:
    """The module's own database."""
    with migrated_database() as url:
        yield url


@pytest.fixture(scope="module")
def database(url: str) -> Iterator[Database]:
    database = Database(url)
    yield database
    database.close()


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, url: str, broker: EmbeddedRedis) -> Iterator[Fleet]:
    """Without a process yet; those that it starts work on the module's database and broker."""
    folder = tmp_path_factory.mktemp("fleet")
    path = folder / "cord.toml"
    path.write_text(EVERYTHING, encoding="utf-8")
    environment = {**FAST, "CORD_DATABASE_URL": url, "CORD_BROKER_URL": broker.url}
    with Fleet(folder, path, environment) as fleet:
        yield fleet
