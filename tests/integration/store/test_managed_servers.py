"""What managed servers do to sessions, statements and addresses does not stop the work."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import psycopg
import pytest
import sqlalchemy as sa

from cord_worker.errors import StoreError
from cord_worker.service_url_checks import checked_database_url
from cord_worker.store.database import Database
from cord_worker.store.schema.migration import upgrade
from cord_worker.store.schema.roles import find_hindrances, grant_service
from cord_worker.store.schema.version import check_schema
from tests.support.two_postgres import Address, TwoPostgres, has_postgres_programs, two_postgres

Role = Callable[..., str]
ONE = sa.text("SELECT 1")
SLOW = sa.text("SELECT pg_sleep(0.4)")


@pytest.fixture
def role(database_url: str) -> Iterator[Role]:
    """Makes a role that may do the service's work, with its own settings; returns its URL."""
    url = sa.make_url(database_url)
    name = f"{url.database}_managed"
    with psycopg.connect(database_url.replace("+psycopg", ""), autocommit=True) as owner:
        owner.execute(f"CREATE ROLE {name} LOGIN".encode())

        def make(**settings: str) -> str:
            for setting, value in settings.items():
                owner.execute(f"ALTER ROLE {name} SET {setting} = '{value}'".encode())
            database = Database(database_url)
            database.run(lambda connection: grant_service(connection, name))
            database.close()
            return url.set(username=name, password=None).render_as_string(hide_password=False)

        yield make
        owner.execute("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE usename = %s", [name])
        owner.execute(f"DROP OWNED BY {name}; DROP ROLE {name}".encode())


def test_a_statement_that_outlasts_the_roles_time_limit_is_done_without_the_limit(role: Role) -> None:
    limited = Database(role(statement_timeout="100ms"))
    limited.run(lambda connection: connection.execute(SLOW), retry_seconds=0.0)
    limited.run(lambda connection: connection.execute(SLOW), retry_seconds=0.0, single=True)
    limited.run(lambda connection: connection.execute(SLOW), retry_seconds=0.0, one_snapshot=True)
    with limited.transaction() as connection:
        connection.execute(SLOW)
    assert limited.run(lambda c: c.execute(sa.text("SHOW statement_timeout")).scalar_one()) == "100ms"
    limited.close()


def test_a_lock_of_another_program_is_waited_for_beyond_the_roles_lock_timeout(
    role: Role, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    limited = Database(role(lock_timeout="50ms"))
    lock = sa.text("SELECT FROM models FOR KEY SHARE")
    waits = sa.text("SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'models'::regclass")
    deadline = time.monotonic() + 60
    with ThreadPoolExecutor(1) as pool, caplog.at_level(logging.WARNING):
        with database.transaction() as stranger:
            stranger.execute(sa.text("LOCK TABLE models IN ACCESS EXCLUSIVE MODE"))
            work = pool.submit(limited.run, lambda connection: len(connection.execute(lock).all()), retry_seconds=0.0)
            while not ("lock timeout" in caplog.text and stranger.execute(waits).scalar_one()):
                assert time.monotonic() < deadline
                time.sleep(0.02)
        assert work.result(60) == 0
    limited.close()


def cancel_itself(connection: sa.Connection) -> None:
    connection.execute(sa.text("SELECT pg_cancel_backend(pg_backend_pid()), pg_sleep(10)"))


def test_a_statement_that_is_cancelled_repeatedly_fails_with_the_cause(database: Database) -> None:
    for work in (database.run, partial(database.run, single=True)):
        with pytest.raises(StoreError, match="cancelled the statement: canceling statement due to user request"):
            work(cancel_itself, retry_seconds=0.3)


def test_idle_sessions_that_are_cut_are_replaced_silently(
    role: Role, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    cut = Database(role(idle_session_timeout="50ms"))
    left = sa.text("SELECT count(*) FROM pg_stat_activity WHERE usename = :role")
    name = f"{database.run(lambda c: c.execute(sa.text('SELECT current_database()')).scalar_one())}_managed"

    def wait() -> None:
        deadline = time.monotonic() + 60
        while database.run(lambda c: c.execute(left, {"role": name}).scalar_one()):
            assert time.monotonic() < deadline
            time.sleep(0.02)

    with caplog.at_level(logging.WARNING):
        for work in (cut.run, partial(cut.run, single=True)):
            work(lambda c: c.execute(ONE))
            wait()
            assert work(lambda c: c.execute(ONE).scalar_one(), retry_seconds=0.0) == 1
        wait()
        with cut.transaction() as connection:
            assert connection.execute(ONE).scalar_one() == 1
    cut.close()
    assert caplog.records == []


def test_an_idle_connection_that_was_ended_is_replaced(database: Database, database_url: str) -> None:
    one = sa.text("SELECT 1")
    others = sa.text(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
        "AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
    )

    database.run(lambda c: c.execute(one))
    killer = sa.create_engine(database_url, poolclass=sa.pool.NullPool)
    with killer.connect() as connection:
        connection.execute(others)
    assert database.run(lambda c: c.execute(one).scalar_one(), retry_seconds=0.0) == 1
    with killer.connect() as connection:
        connection.execute(others)
    with database.transaction() as connection:
        assert connection.execute(one).scalar_one() == 1


def test_odd_defaults_of_a_role_change_nothing(role: Role) -> None:
    odd = {
        "TimeZone": "America/Caracas",
        "DateStyle": "SQL, DMY",
        "IntervalStyle": "iso_8601",
        "client_encoding": "LATIN1",
        "standard_conforming_strings": "off",
        "extra_float_digits": "-10",
        "default_transaction_isolation": "serializable",
        "synchronous_commit": "off",
    }
    database = Database(role(**odd))
    asked = sa.text(
        "SELECT timestamptz '2026-02-01T12:00:00Z' AS at, 0.1::float8 + 0.2::float8 AS sum, 'a\\b' AS text, "
        ":sign AS sign, "
        "interval '1 day 2 hours' AS taken, current_setting('transaction_isolation') AS isolation, "
        "current_setting('synchronous_commit') AS commit"
    )
    rows = [
        work(lambda c: c.execute(asked, {"sign": "∑ 漢"}).one())
        for work in (database.run, partial(database.run, single=True))
    ]
    database.close()
    for row in rows:
        assert row.at.isoformat() == "2026-02-01T12:00:00+00:00"
        assert row.sum == 0.1 + 0.2
        assert row.text == "a\\b"
        assert row.sign == "∑ 漢"
        assert row.taken.total_seconds() == 26 * 3600
        assert (row.isolation, row.commit) == ("read committed", "on")


def test_a_role_without_create_rights_works_on_a_current_schema_and_is_told_what_a_migration_needs(
    role: Role, database: Database
) -> None:
    url = role()
    service = Database(url)
    check_schema(service)
    upgrade(url)  # there is nothing to do
    assert service.run(find_hindrances, read_only=True) == []
    service.close()
    database.run(lambda c: c.execute(sa.text("UPDATE alembic_version SET version_num = '0007'")))
    with pytest.raises(StoreError, match=r"may not migrate: .*role that owns the tables"):
        upgrade(url)


def test_the_error_for_a_role_that_may_only_read_says_what_to_grant(role: Role, database: Database) -> None:
    url = role()
    name = sa.make_url(url).username
    database.run(lambda c: c.execute(sa.text(f"REVOKE INSERT, UPDATE ON ALL TABLES IN SCHEMA public FROM {name}")))
    reader = Database(url)
    ((what, advice),) = reader.run(find_hindrances, read_only=True)
    assert "may not write" in what
    assert f"cordctl db grant --service {name}" in advice
    reader.close()


def test_tables_may_lie_in_any_schema_that_the_role_searches(empty_database_url: str) -> None:
    with psycopg.connect(empty_database_url.replace("+psycopg", ""), autocommit=True) as owner:
        database = owner.info.dbname
        owner.execute("CREATE SCHEMA cord")
        owner.execute(f"ALTER DATABASE {database} SET search_path = cord".encode())
        upgrade(empty_database_url)
        found = owner.execute("SELECT schemaname FROM pg_tables WHERE tablename = 'problems'").fetchall()
    assert found == [("cord",)]
    works = Database(empty_database_url)
    check_schema(works)
    assert works.run(find_hindrances, read_only=True) == []
    works.close()


def test_a_database_that_takes_no_writes_is_waited_for_and_named(database: Database, database_url: str) -> None:
    name = sa.make_url(database_url).database
    write = sa.text("UPDATE workers SET pid = pid")

    def set_read_only(value: str) -> None:
        with psycopg.connect(database_url.replace("+psycopg", ""), autocommit=True) as owner:
            owner.execute("SET default_transaction_read_only = off")
            owner.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = {value}".encode())

    set_read_only("on")
    for work in (database.run, partial(database.run, single=True)):
        with pytest.raises(StoreError, match=r"takes no writes: .*default_transaction_read_only"):
            work(lambda c: c.execute(write), retry_seconds=0.3)
    ((what, _),) = database.run(find_hindrances, read_only=True)
    assert "default_transaction_read_only" in what
    # Sessions that began meanwhile would never take writes.
    set_read_only("off")
    for work in (database.run, partial(database.run, single=True)):
        work(lambda c: c.execute(write), retry_seconds=0.0)


@pytest.fixture(scope="module")
def servers() -> Iterator[TwoPostgres]:
    if not has_postgres_programs():
        pytest.skip("no programs of PostgreSQL to start two servers with")
    with two_postgres() as servers:
        yield servers


def test_a_failover_is_followed_with_several_hosts_and_with_one_name_that_moves(servers: TwoPostgres) -> None:
    hosts = f"127.0.0.1:{servers.primary},127.0.0.1:{servers.standby}"
    several = checked_database_url(f"postgresql://postgres@{hosts}/postgres?target_session_attrs=read-write")
    where = sa.text("INSERT INTO noted SELECT 1 RETURNING inet_server_port()")
    servers.execute(servers.primary, "CREATE TABLE noted (n int)")
    with Address(servers.primary) as address:
        databases = [
            Database(several),
            Database(f"postgresql+psycopg://postgres@127.0.0.1:{address.port}/postgres"),
        ]
        for database in databases:
            assert database.run(lambda c: c.execute(where).scalar_one()) == servers.primary
            assert database.run(lambda c: c.execute(where).scalar_one(), single=True) == servers.primary
        servers.fail_over()
        address.leads_to = servers.standby
        for database in databases:
            assert database.run(lambda c: c.execute(where).scalar_one()) == servers.standby
            assert database.run(lambda c: c.execute(where).scalar_one(), single=True) == servers.standby
            database.close()
    assert servers.execute(servers.standby, "SELECT count(*) FROM noted") == [(8,)]
