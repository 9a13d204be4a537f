"""An unusable database is reported with the reason, at once if waiting cannot help."""

from __future__ import annotations

import logging
import time
from types import SimpleNamespace

import pytest
import sqlalchemy as sa

from cord_worker.errors import DatabaseRefused, StoreError
from cord_worker.store import database as database_module
from cord_worker.store.database import Database
from cord_worker.store.schema.migration import upgrade


def reason(url: str | sa.URL, retry_seconds: float = 60.0) -> StoreError:
    """The error of using the database at `url`."""
    database = Database(
        url if isinstance(url, str) else url.render_as_string(hide_password=False), retry_seconds=retry_seconds
    )
    try:
        with pytest.raises(StoreError) as caught:
            database.run(lambda connection: connection.execute(sa.text("SELECT 1")))
        return caught.value
    finally:
        database.close()


@pytest.fixture
def server(postgres_url: str) -> sa.URL:
    return sa.make_url(postgres_url)


def test_a_database_that_does_not_exist_is_final_and_says_how_to_make_it(
    server: sa.URL, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        started = time.monotonic()
        error = reason(server.set(database="cord_never_made"))
    assert isinstance(error, DatabaseRefused)
    assert "createdb" in str(error)
    assert "'cord_never_made'" in str(error)
    assert "\n" not in str(error)
    assert time.monotonic() - started < 30
    assert caplog.records == []


def test_a_role_that_does_not_exist_is_final(server: sa.URL) -> None:
    error = reason(server.set(username="cord_nobody", password="s3cret"))
    assert isinstance(error, DatabaseRefused)
    assert "'cord_nobody'" in str(error)
    assert "createuser" in str(error)
    assert "s3cret" not in str(error)


def test_a_database_that_takes_no_connections_is_final(server: sa.URL) -> None:
    assert isinstance(reason(server.set(database="template0")), DatabaseRefused)


def test_a_role_that_may_not_connect_is_reported_and_a_role_without_the_schema_cannot_migrate(
    empty_database_url: str,
) -> None:
    url = sa.make_url(empty_database_url)
    role = f"{url.database}_role"
    owner = Database(empty_database_url)
    execute = sa.text
    try:
        owner.run(lambda connection: connection.execute(execute(f"CREATE ROLE {role} LOGIN")))
        visitor = url.set(username=role, password=None)
        owner.run(lambda connection: connection.execute(execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")))
        with pytest.raises(StoreError, match="may not migrate"):
            upgrade(visitor.render_as_string(hide_password=False))
        name = url.database
        owner.run(lambda connection: connection.execute(execute(f"REVOKE CONNECT ON DATABASE {name} FROM PUBLIC")))
        error = reason(visitor)
        assert isinstance(error, DatabaseRefused)
        assert "GRANT CONNECT" in str(error)
    finally:
        owner.run(lambda connection: connection.execute(execute(f"DROP OWNED BY {role}; DROP ROLE {role}")))
        owner.close()


@pytest.mark.parametrize(
    ("url", "told", "is_final"),
    [
        ("postgresql+psycopg://u:s3cret@no-such-host.invalid/d", "no host is called 'no-such-host.invalid'", False),
        ("postgresql+psycopg://u:s3cret@127.0.0.1:1/d?sslmode=nonsense", "sslmode", True),
        ("postgresql+psycopg://u:s3cret@127.0.0.1:1/d?nonsense=1", "nonsense", True),
    ],
)
def test_a_mistake_in_the_url_is_named_at_once(url: str, told: str, is_final: bool) -> None:
    error = reason(url)
    assert told in str(error)
    assert isinstance(error, DatabaseRefused) is is_final
    assert "s3cret" not in str(error)


def test_a_port_without_a_listener_is_tried_again_and_reported_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]  # only pauses take time, so that a slow machine has as many tries

    def pause(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(database_module, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=pause))
    with caplog.at_level(logging.WARNING):
        error = reason("postgresql+psycopg://u:s3cret@127.0.0.1:1/d", retry_seconds=5.0)
    assert now[0] > 5.0
    assert "nothing listens at 127.0.0.1:1" in str(error)
    assert not isinstance(error, DatabaseRefused)
    assert len(caplog.records) == 1


def test_too_many_connections_are_a_passing_fault(empty_database_url: str) -> None:
    url = sa.make_url(empty_database_url)
    role = f"{url.database}_few"
    owner = Database(empty_database_url)
    owner.run(lambda connection: connection.execute(sa.text(f"CREATE ROLE {role} LOGIN CONNECTION LIMIT 1")))
    few = url.set(username=role, password=None).render_as_string(hide_password=False)
    first, second = Database(few), Database(few, retry_seconds=60.0)
    tries = []
    try:

        def held(connection: sa.Connection) -> None:
            connection.execute(sa.text("SELECT 1"))
            with pytest.raises(StoreError) as caught:
                second.run(lambda other: other.execute(sa.text("SELECT 1")), retry_seconds=0.2)
            assert not isinstance(caught.value, DatabaseRefused)
            tries.append(str(caught.value))

        first.run(held)
        first.close()
        second.run(lambda other: other.execute(sa.text("SELECT 1")))
        assert "too many connections" in tries[0]
    finally:
        second.close()
        owner.run(lambda connection: connection.execute(sa.text(f"DROP ROLE {role}")))
        owner.close()
