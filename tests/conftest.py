"""Servers for tests: existing ones, else embedded ones; every test gets its own database.

`CORD_TEST_DATABASE_URL` and `CORD_TEST_BROKER_URL` name servers to use; `CORD_TEST_EMBEDDED=1` uses the embedded ones
even if others answer. An existing server is left as it was found.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import psycopg
import pytest
import redis
import sqlalchemy as sa
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from cord_worker.errors import CordError
from cord_worker.local.services import Endpoints, LocalServices
from cord_worker.store.database import Database
from cord_worker.store.schema.migration import upgrade

LOOPBACK_DATABASE = "postgresql://postgres@127.0.0.1:5432/postgres"
LOOPBACK_BROKER = "redis://127.0.0.1:6379/15"

# The same examples on every machine, however slow; `--hypothesis-profile=explore` searches for new ones.
hypothesis_settings.register_profile(
    "repeatable", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
hypothesis_settings.register_profile(
    "explore", deadline=None, max_examples=1000, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
hypothesis_settings.load_profile("repeatable")

_SESSION = secrets.token_hex(4)
"""Names this process's databases and keys: pids come again, and a killed session leaves its own behind."""
_numbers = itertools.count(1)


class WithoutTorch:
    """Skips folders, files and tests that import torch if it is not installed (`make test-without-torch`)."""

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(
        self, collector: pytest.Collector
    ) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        """A folder whose conftest.py imports it, or a file."""
        report = yield
        call: pytest.CallInfo[None] | None = getattr(report, "call", None)
        self._skip(report, call, collector.path)
        return report

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """A test that imports it as it runs."""
        report = yield
        self._skip(report, call, item.path)
        return report

    @staticmethod
    def _skip(report: pytest.CollectReport | pytest.TestReport, call: pytest.CallInfo[None] | None, path: Path) -> None:
        if report.failed and call is not None and call.excinfo is not None and _needs_torch(call.excinfo.value):
            report.outcome = "skipped"
            report.longrepr = (str(path), 0, "Skipped: imports torch, which is not installed")


def pytest_configure(config: pytest.Config) -> None:
    """Registers a plugin: hooks of this file are not called for folders whose own conftest.py is not read yet."""
    if importlib.util.find_spec("torch") is None:
        config.pluginmanager.register(WithoutTorch(), "without-torch")


def _needs_torch(error: BaseException | None) -> bool:
    """Whether the import of torch caused this error, or the service refused an engine that needs it."""
    while error is not None:
        if isinstance(error, ModuleNotFoundError) and error.name == "torch":
            return True
        # An assertion on what a command printed holds that text.
        if isinstance(error, CordError | AssertionError) and "needs the package torch;" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


@pytest.fixture(scope="session")
def embedded_services() -> Iterator[Endpoints]:
    """Embedded servers for the whole session; started only if a test needs them."""
    base = Path(tempfile.mkdtemp(prefix="cord-s-"))
    services = LocalServices(base / "state")
    try:
        yield services.ensure_started()
    finally:
        services.release()
        if base not in services.postgres.home.parents:
            shutil.rmtree(services.postgres.home, ignore_errors=True)
        shutil.rmtree(base, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_url(request: pytest.FixtureRequest) -> str:
    """An SQLAlchemy URL of a PostgreSQL on which databases may be created."""
    named = os.environ.get("CORD_TEST_DATABASE_URL")
    if named is None and not os.environ.get("CORD_TEST_EMBEDDED") and _postgres_answers(LOOPBACK_DATABASE):
        named = LOOPBACK_DATABASE
    if named is None:
        endpoints: Endpoints = request.getfixturevalue("embedded_services")
        named = endpoints.database_url
    return f"postgresql+psycopg://{named.partition('://')[2]}"


@pytest.fixture(scope="session")
def migrated_template(postgres_url: str) -> Iterator[str]:
    """Name of a migrated database that others are copied from: migrating takes longer than copying."""
    with _new_database(postgres_url) as url:
        upgrade(url.render_as_string(hide_password=False))
        assert url.database is not None
        yield url.database


@pytest.fixture(scope="session")
def migrated_database(postgres_url: str, migrated_template: str) -> Callable[[], AbstractContextManager[str]]:
    """Makes a fresh database with the newest schema for the length of a `with`, for fixtures of a wider scope."""

    @contextmanager
    def make() -> Iterator[str]:
        with _new_database(postgres_url, template=migrated_template) as url:
            yield url.render_as_string(hide_password=False)

    return make


@pytest.fixture
def database_url(migrated_database: Callable[[], AbstractContextManager[str]]) -> Iterator[str]:
    """A fresh database with the newest schema, dropped after the test."""
    with migrated_database() as url:
        yield url


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A pool on a fresh database."""
    database = Database(database_url)
    yield database
    database.close()


@pytest.fixture
def empty_database_url(postgres_url: str) -> Iterator[str]:
    """A fresh database without any schema, dropped after the test."""
    with _new_database(postgres_url) as url:
        yield url.render_as_string(hide_password=False)


@pytest.fixture(scope="session")
def broker_url(request: pytest.FixtureRequest) -> str:
    """A Redis; several tests may share it, so use it with `key_prefix`."""
    named = os.environ.get("CORD_TEST_BROKER_URL")
    if named is None and not os.environ.get("CORD_TEST_EMBEDDED") and _redis_answers(LOOPBACK_BROKER):
        named = LOOPBACK_BROKER
    if named is None:
        endpoints: Endpoints = request.getfixturevalue("embedded_services")
        named = endpoints.broker_url
    return named


@pytest.fixture(scope="session")
def fresh_keys(broker_url: str) -> Callable[[], AbstractContextManager[str]]:
    """Makes a private prefix of keys for the length of a `with`, for fixtures of a wider scope."""

    @contextmanager
    def make() -> Iterator[str]:
        prefix = f"cord-test-{_SESSION}-{next(_numbers)}:"
        try:
            yield prefix
        finally:
            with redis.Redis.from_url(broker_url.replace("redis+socket://", "unix://")) as client:
                for key in client.scan_iter(match=f"{prefix}*", count=1000):
                    client.delete(key)

    return make


@pytest.fixture
def key_prefix(fresh_keys: Callable[[], AbstractContextManager[str]]) -> Iterator[str]:
    """A prefix (CORD_KEY_PREFIX) of this test's own keys, which are deleted after it."""
    with fresh_keys() as prefix:
        yield prefix


@contextmanager
def _new_database(server: str, *, template: str | None = None) -> Iterator[sa.URL]:
    name = f"cord_test_{_SESSION}_{next(_numbers)}"
    _execute(server, f"CREATE DATABASE {name}" + (f" TEMPLATE {template}" if template else ""))
    try:
        yield sa.make_url(server).set(database=name)
    finally:
        # FORCE: a test that fails may leave connections behind.
        _execute(server, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def _execute(server: str, statement: str) -> None:
    engine = sa.create_engine(server, poolclass=sa.pool.NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text(statement))
    engine.dispose()


def _postgres_answers(url: str) -> bool:
    try:
        with psycopg.connect(url, connect_timeout=2, autocommit=True) as connection:
            row = connection.execute(
                "SELECT rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user"
            ).fetchone()
    except psycopg.Error:
        return False
    return bool(row and row[0])


def _redis_answers(url: str) -> bool:
    try:
        with redis.Redis.from_url(url, socket_connect_timeout=2) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False
