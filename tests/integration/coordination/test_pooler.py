"""A run through PgBouncer, in each mode with transactions, ends with the tables of a run without it; so does a run
of a role that is set to everything odd."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import click
import psycopg
import pytest
import sqlalchemy as sa

from cord_worker.cli import cli
from cord_worker.config import Settings
from cord_worker.errors import DatabaseRefused
from cord_worker.operations.doctor import Level, run_checks
from cord_worker.store.database import Database
from cord_worker.store.schema.migration import downgrade, upgrade
from cord_worker.store.schema.roles import grant_service
from cord_worker.store.schema.version import head_revision
from cord_worker.store.session_settings import Pooling
from tests.support.cluster import Cluster
from tests.support.configurations import INSTANT
from tests.support.cordctl_process import Cordctl
from tests.support.pooler import PgBouncer, pgbouncer_program
from tests.support.tables import Content, content, count, differences

pytestmark = pytest.mark.long

needs_pgbouncer = pytest.mark.skipif(
    pgbouncer_program() is None, reason="pgbouncer is not installed (Debian: apt-get install pgbouncer)"
)

PROBLEMS = 8
MODES = {"session": Pooling.SESSION, "transaction": Pooling.TRANSACTION}
ODD = {
    "statement_timeout": "1s",
    "lock_timeout": "200ms",
    "idle_session_timeout": "300ms",
    "idle_in_transaction_session_timeout": "300ms",
    "default_transaction_isolation": "serializable",
    "synchronous_commit": "off",
    "TimeZone": "America/Caracas",
    "DateStyle": "SQL, DMY",
    "client_encoding": "LATIN1",
    "standard_conforming_strings": "off",
    "extra_float_digits": "-10",
    "jit_above_cost": "0",
}
READING = (
    ("runs",),
    ("status", "direct"),
    ("stats", "direct"),
    ("show", "best", "direct", "--text"),
    ("cost", "direct"),
    ("cost", "--table", "15", "direct"),
    ("compare", "direct", "second"),
    ("eval", "--of", "samples"),
    ("export", "direct", "-o", "out.jsonl", "--failures", "failures.jsonl"),
    ("replay", "direct"),
    ("verify-db",),
    ("verify-db", "direct", "--answers"),
    ("recheck", "direct", "--dry-run"),
    ("db", "current"),
    ("db", "check"),
)
"""Every command that only reads the tables."""
OTHERS = {
    *(
        "init",
        "schema",
        "completion",
        "validate",
        "contaminated",
        "check",
        "flower",
        "bench",
        "doctor",
    ),  # read no tables, or only what others read too
    *("watch", "view", "report", "trace", "logs", "plan"),  # read through the same sessions as the others
    *("run", "up", "down", "worker", "coordinator"),  # start processes, as the runs here do
    *("enqueue", "pause", "resume", "cancel", "retry", "rm", "priority", "drain", "rescore", "trim"),  # write
}
_OF_RUN = "run_id = (SELECT id FROM runs WHERE name = '{}')"


@pytest.fixture(scope="module")
def url(migrated_database: Callable[[], AbstractContextManager[str]]) -> Iterator[str]:
    with migrated_database() as url:
        yield url


def work(folder: Path, url: str, broker: str, keys: str, run: str, config: str = INSTANT) -> Database:
    """Does a run with processes that use this URL of the database; returns the database as they see it."""
    database = Database(url)
    with Cluster(folder, url, broker, config) as cluster:
        cluster.environment["CORD_KEY_PREFIX"] = keys
        cluster.enqueue(database, PROBLEMS, run)
        cluster.start()
        mine = f"state IN ('done', 'failed') AND {_OF_RUN.format(run)}"
        cluster.wait_until(lambda: count(database, mine) == PROBLEMS, 240)
        assert [cluster.stop(name) for name in cluster.names] == [0] * len(cluster.names)
        logs = "".join(path.read_text(encoding="utf-8") for path in folder.glob("*.log"))
        assert "interrupted" not in logs
        assert "Traceback" not in logs
    return database


@pytest.fixture(scope="module")
def expected(
    tmp_path_factory: pytest.TempPathFactory,
    url: str,
    broker_url: str,
    fresh_keys: Callable[[], AbstractContextManager[str]],
) -> Content:
    """The tables of a run without a pooler."""
    with fresh_keys() as keys:
        database = work(tmp_path_factory.mktemp("direct"), url, broker_url, keys, "direct")
    found = content(database, "direct")
    database.close()
    assert len(found["candidates"]) > 100
    return found


@pytest.fixture(scope="module")
def finished_runs(
    tmp_path_factory: pytest.TempPathFactory,
    url: str,
    broker_url: str,
    fresh_keys: Callable[[], AbstractContextManager[str]],
) -> None:
    """A second run of the same problems, and one of samples."""
    with fresh_keys() as keys:
        work(tmp_path_factory.mktemp("second"), url, broker_url, keys, "second").close()
    samples = INSTANT.replace("[search]\n", '[search]\npipeline = "sample"\ntrajectories = 2\n')
    samples = samples.replace('[[teachers]]\nname = "beta-hot"\nmodel = "beta"\ntemperature = 0.9\n', "")
    with fresh_keys() as keys:
        work(tmp_path_factory.mktemp("samples"), url, broker_url, keys, "samples", samples).close()


@needs_pgbouncer
@pytest.mark.parametrize("mode", MODES)
def test_a_run_through_a_pooler_equals_the_run_without_it(
    mode: str,
    tmp_path: Path,
    url: str,
    broker_url: str,
    key_prefix: str,
    expected: Content,
) -> None:
    with PgBouncer(url, mode) as pooler:
        database = work(tmp_path, pooler.url, broker_url, key_prefix, mode)
        assert database.pooling() is MODES[mode]
        found = content(database, mode)
        database.close()
    assert differences(expected, found) == []


def test_every_command_either_is_tried_behind_a_pooler_or_reads_no_tables() -> None:
    assert {arguments[0] for arguments in READING} | OTHERS == set(cli.list_commands(click.Context(cli)))


@needs_pgbouncer
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.usefixtures("expected", "finished_runs")
def test_every_reading_command_says_behind_a_pooler_what_it_says_without_one(
    mode: str, tmp_path: Path, url: str, broker_url: str, key_prefix: str
) -> None:
    with PgBouncer(url, mode) as pooler:
        directly, pooled = (
            Cordctl(tmp_path, {"CORD_DATABASE_URL": at, "CORD_BROKER_URL": broker_url, "CORD_KEY_PREFIX": key_prefix})
            for at in (url, pooler.url)
        )
        for arguments in READING:
            assert _without_rates(pooled(*arguments).stdout) == _without_rates(directly(*arguments).stdout)


def _without_rates(output: str) -> str:
    """`output` without rates per second, which change with time, and with single spaces."""
    return re.sub(r" +", " ", re.sub(r"[\d,.]+ (\w+)/s", r"\1/s", output))


def test_a_run_of_a_role_without_create_rights_and_with_odd_settings_is_the_same(
    tmp_path: Path,
    url: str,
    broker_url: str,
    key_prefix: str,
    expected: Content,
) -> None:
    at = sa.make_url(url)
    role = f"{at.database}_odd"
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as owner:
        owner.execute(f"CREATE ROLE {role} LOGIN CONNECTION LIMIT 40".encode())
        for setting, value in ODD.items():
            owner.execute(f"ALTER ROLE {role} SET {setting} = '{value}'".encode())
        granting = Database(url)
        granting.run(lambda connection: grant_service(connection, role))
        granting.close()
        service = at.set(username=role, password=None).render_as_string(hide_password=False)
        database = work(tmp_path, service, broker_url, key_prefix, "odd")
        found = content(database, "odd")
        database.close()
        owner.execute(f"DROP OWNED BY {role}; DROP ROLE {role}".encode())
    assert differences(expected, found) == []


@needs_pgbouncer
def test_transaction_mode_needs_few_sessions_for_many_transactions(
    tmp_path: Path, url: str, broker_url: str, key_prefix: str, expected: Content
) -> None:
    """The leader holds one of them; only the leader and an observing command hold one while they wait for another."""
    with PgBouncer(url, "transaction", default_pool_size=3) as pooler:
        database = work(tmp_path, pooler.url, broker_url, key_prefix, "few")
        found = content(database, "few")
        database.close()
    assert differences(expected, found) == []


@needs_pgbouncer
@pytest.mark.parametrize("mode", MODES)
def test_a_session_keeps_no_state_for_its_next_client(mode: str, url: str) -> None:
    ours = sa.text(
        "SELECT current_setting('enable_seqscan'), current_setting('extra_float_digits'), "
        "(SELECT count(*) FROM pg_prepared_statements), "
        "(SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid())"
    )
    with PgBouncer(url, mode, default_pool_size=1, server_reset_query="") as pooler:
        database = Database(pooler.url, by_keys=True)
        for number in range(12):
            at_work = database.run(
                lambda c, n=number: c.execute(sa.text(f"{ours} WHERE 1 < :n"), {"n": n + 2}), single=True
            )
            assert tuple(at_work.one()) == ("off", "1", 0, 0)
        database.close()
        stranger = sa.create_engine(pooler.url, poolclass=sa.pool.NullPool)
        with stranger.connect() as connection:
            assert tuple(connection.execute(ours).one()) == ("on", "1", 0, 0)


@needs_pgbouncer
@pytest.mark.parametrize("mode", MODES)
def test_migrating_through_a_pooler_works(mode: str, empty_database_url: str) -> None:
    with PgBouncer(empty_database_url, mode) as pooler:
        upgrade(pooler.url)
        database = Database(pooler.url)
        found = database.run(lambda c: c.execute(sa.text("SELECT version_num FROM alembic_version")).scalar_one())
        database.close()
        assert found == head_revision()
        downgrade(pooler.url, "base")


@needs_pgbouncer
def test_statement_mode_is_refused_by_name(url: str) -> None:
    with PgBouncer(url, "statement") as pooler:
        database = Database(pooler.url)
        for work in (database.run, partial(database.run, single=True)):
            with pytest.raises(DatabaseRefused, match=r"statement mode.*pool_mode = transaction"):
                work(lambda connection: connection.execute(sa.text("SELECT 1")))
        database.close()
        with pytest.raises(DatabaseRefused, match="statement mode"):
            upgrade(pooler.url)


@needs_pgbouncer
def test_doctor_names_the_pooler_and_its_mode(url: str, tmp_path: Path) -> None:
    def findings(database_url: str) -> dict[str, tuple[Level, str]]:
        settings = Settings(database_url=database_url, state_dir=tmp_path)
        return {finding.subject: (finding.level, finding.found) for finding in run_checks(settings, None)}

    assert "pooler" not in findings(url)
    for mode in MODES:
        with PgBouncer(url, mode) as pooler:
            level, found = findings(pooler.url)["pooler"]
            assert level is Level.OK
            assert f"{mode} mode" in found
    with PgBouncer(url, "statement") as pooler:
        level, found = findings(pooler.url)["database"]
        assert level is Level.FAIL
        assert "statement mode" in found


@needs_pgbouncer
def test_doctor_names_the_pooler_before_an_empty_database_and_one_remedy(
    empty_database_url: str, tmp_path: Path
) -> None:
    with PgBouncer(empty_database_url, "transaction") as pooler:
        found = run_checks(Settings(database_url=pooler.url, state_dir=tmp_path), None)
    by_subject = {finding.subject: finding for finding in found}
    assert "transaction mode" in by_subject["pooler"].found
    assert by_subject["database"].found.endswith("Run: cordctl db upgrade")
    assert not by_subject["database"].advice


@needs_pgbouncer
def test_a_setting_that_the_pooler_rejects_is_named(url: str) -> None:
    with PgBouncer(url, "transaction") as pooler:
        database = Database(f"{pooler.url}?options=-c%20search_path%3Dcord")
        with pytest.raises(DatabaseRefused, match=r"options.*ALTER ROLE"):
            database.run(lambda connection: connection.execute(sa.text("SELECT 1")))
        database.close()
