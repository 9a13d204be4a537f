"""A secured cluster: TLS and passwords on both servers, three roles, and a hostile message."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from kombu import Connection

from cord_worker.config import Settings
from cord_worker.coordination.celery.app import create_app
from cord_worker.store.database import Database
from cord_worker.store.schema.migration import upgrade
from tests.support.cluster import Cluster
from tests.support.encrypted_servers import certificates, encrypted_postgres, encrypted_redis, missing
from tests.support.tables import count

pytestmark = pytest.mark.skipif(missing() is not None, reason=missing() or "")

PROBLEMS = 5
OWNER, SERVICE, ANALYST = "cord_migrator", "cord_service", "cord_analyst"
SECRETS = {
    "postgres": "pg-ow3n-s3cret",
    OWNER: "pg-m1grate-s3cret",
    SERVICE: "pg-s3rve-s3cret",
    ANALYST: "pg-r3ad-s3cret",
}
BROKER_SECRET = "redis-s3cret-0815"
TABLES = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"


@dataclass(frozen=True)
class Secured:
    """The folder, servers and processes; `urls` by role. The file `unpickled` exists if the pickle was loaded."""

    folder: Path
    urls: dict[str, str]
    broker_url: str
    cluster: Cluster
    unpickled: Path


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """Servers, roles, and a cluster that has done some problems after it was sent a pickle."""
    folder = tmp_path_factory.mktemp("secured")
    authority = certificates(folder)
    with encrypted_postgres(folder, SECRETS["postgres"]) as port, encrypted_redis(folder, BROKER_SECRET) as redis_port:
        tls = f"sslmode=verify-full&sslrootcert={authority}"
        urls = {role: f"postgresql://{role}:{secret}@127.0.0.1:{port}/cord?{tls}" for role, secret in SECRETS.items()}
        with psycopg.connect(urls["postgres"].replace("/cord?", "/postgres?"), autocommit=True) as connection:
            for role in (OWNER, SERVICE, ANALYST):
                connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{SECRETS[role]}'".encode())
            connection.execute(f"CREATE DATABASE cord OWNER {OWNER}".encode())
        upgrade(urls[OWNER])
        _grant(urls[OWNER], "--service", SERVICE, "--analyst", ANALYST)
        broker = f"rediss://:{BROKER_SECRET}@127.0.0.1:{redis_port}/0?ssl_cert_reqs=required&ssl_ca_certs={authority}"
        unpickled = folder / "unpickled"
        with Cluster(folder, urls[SERVICE], broker) as cluster:
            _send_pickle(cluster, broker, unpickled)
            cluster.start()
            database = Database(urls[SERVICE])
            cluster.enqueue(database, PROBLEMS)
            cluster.wait_until(lambda: count(database, "state = 'done'") == PROBLEMS, 120)
            database.close()
            yield Secured(folder, urls, broker, cluster, unpickled)


def _grant(url: str, *options: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cord_worker.cli", "db", "grant", *options],
        env={**os.environ, "CORD_DATABASE_URL": url},
        text=True,
        capture_output=True,
        check=check,
    )


class _Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return os.system, (f"touch {self._path}",)


def _send_pickle(cluster: Cluster, broker: str, path: Path) -> None:
    """Puts a message on the coordinator's queue. Its body runs a command if it is unpickled."""
    prefix = cluster.environment["CORD_KEY_PREFIX"]
    app = create_app(broker, Settings(key_prefix=prefix))
    with app.connection_for_write() as connection, connection.channel() as channel:
        channel.queue_declare("coordinator")
        body = pickle.dumps([[], {"problem_id": _Bomb(path)}, {}])
        producer = Connection.Producer(connection, channel)
        producer.publish(
            body,
            routing_key="coordinator",
            content_type="application/x-python-serialize",
            content_encoding="binary",
            headers={"task": "cord.advance", "id": "bomb", "argsrepr": "", "kwargsrepr": ""},
        )


def test_a_pickle_is_refused_and_the_work_continues(secured: Secured) -> None:
    assert not secured.unpickled.exists()
    log = (secured.folder / "coordinator.log").read_text(encoding="utf-8")
    assert "its content type is 'application/x-python-serialize'" in log


def test_every_connection_is_encrypted(secured: Secured) -> None:
    with psycopg.connect(secured.urls["postgres"]) as connection:
        rows = connection.execute(
            "SELECT usename, ssl FROM pg_stat_activity JOIN pg_stat_ssl USING (pid) "
            "WHERE backend_type = 'client backend'"
        ).fetchall()
    assert {SERVICE} <= {user for user, _ in rows}
    assert all(encrypted for _, encrypted in rows)


def test_the_service_may_change_rows_and_no_table(secured: Secured) -> None:
    with psycopg.connect(secured.urls[SERVICE], autocommit=True) as connection:
        for statement in (
            b"DROP TABLE candidates",
            b"ALTER TABLE runs ADD COLUMN x int",
            b"CREATE TABLE mine (x int)",
            b"TRUNCATE beams",
            b"UPDATE alembic_version SET version_num = 'x'",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)


def test_an_analyst_may_read_everything_and_write_nothing(secured: Secured) -> None:
    with psycopg.connect(secured.urls[ANALYST], autocommit=True) as connection:
        (rows,) = connection.execute("SELECT count(*) FROM teacher_selection").fetchone() or (0,)
        assert rows > 0
        tables = connection.execute(TABLES).fetchall()
        for (table,) in tables:
            connection.execute(f'SELECT * FROM "{table}" LIMIT 1'.encode())
            with pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.ObjectNotInPrerequisiteState)):
                connection.execute(f'DELETE FROM "{table}"'.encode())
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(b"CREATE TEMPORARY TABLE mine (x int)")
    with Database(secured.urls[ANALYST]).transaction() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM candidates")).scalar_one() > 0


def test_a_command_that_an_analyst_may_not_run_is_refused_in_one_line(secured: Secured) -> None:
    environment = {**secured.cluster.environment, "CORD_DATABASE_URL": secured.urls[ANALYST]}
    with psycopg.connect(secured.urls[ANALYST]) as connection:
        (run,) = connection.execute("SELECT name FROM runs").fetchone() or ("",)
    command = [sys.executable, "-m", "cord_worker.cli", "priority", run, "5"]
    told = subprocess.run(command, env=environment, text=True, capture_output=True, check=False)
    assert told.returncode == 1
    assert "the database's role may not do this: permission denied" in told.stderr
    assert "SQL:" not in told.stderr
    assert len(told.stderr.splitlines()) == 1


def test_a_missing_role_is_named(secured: Secured) -> None:
    told = _grant(secured.urls[OWNER], "--service", "nobody", check=False)
    assert told.returncode == 1
    assert "there is no role 'nobody'" in told.stderr


def test_no_secret_is_in_a_log_a_table_or_a_repr(secured: Secured) -> None:
    secrets = [*SECRETS.values(), BROKER_SECRET]
    shown = {path.name: path.read_text(errors="replace") for path in secured.folder.glob("*.log")}
    assert {"coordinator.log", "alpha.log", "judge.log"} <= set(shown)
    with psycopg.connect(secured.urls[OWNER]) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        for (table,) in tables:
            rows = connection.execute(f'SELECT to_jsonb(t) FROM "{table}" t'.encode()).fetchall()
            shown[table] = json.dumps(rows, default=str)
    settings = Settings(database_url=secured.urls[SERVICE], broker_url=secured.broker_url)
    shown["settings"] = f"{settings!r} {settings}"
    command = [sys.executable, "-m", "cord_worker.cli", "doctor", "--config", str(secured.cluster.config_path)]
    doctor = subprocess.run(command, env=secured.cluster.environment, text=True, capture_output=True, check=False)
    shown["doctor"] = doctor.stdout + doctor.stderr
    wrong = {**secured.cluster.environment, "CORD_DATABASE_URL": secured.urls[SERVICE].replace("/cord?", "/nowhere?")}
    refused = subprocess.run([*command[:3], "runs"], env=wrong, text=True, capture_output=True, check=False)
    assert refused.returncode == 1
    shown["refusal"] = refused.stdout + refused.stderr
    for place, text in shown.items():
        for secret in secrets:
            assert secret not in text, place


def refusal(secured: Secured, command: tuple[str, ...], exits: int, **variables: str) -> str:
    """The one line that a command writes to stderr, without a secret. The exit status of the command is `exits`."""
    ended = subprocess.run(
        [sys.executable, "-m", "cord_worker.cli", *command],
        env={**secured.cluster.environment, **variables},
        text=True,
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert ended.returncode == exits, ended
    (line,) = ended.stderr.splitlines()
    assert not any(secret in line for secret in (*SECRETS.values(), BROKER_SECRET, "wr0ng"))
    return line


@pytest.mark.parametrize(("command", "exits"), [(("runs",), 1), (("coordinator",), 78)])
def test_a_wrong_password_of_the_database_is_final_and_says_what_to_do(
    secured: Secured, command: tuple[str, ...], exits: int
) -> None:
    url = secured.urls[SERVICE].replace(SECRETS[SERVICE], "wr0ng")
    line = refusal(secured, command, exits, CORD_DATABASE_URL=url)
    assert f"refuses role '{SERVICE}': the password is wrong" in line
    assert "createuser" in line


def test_a_missing_password_and_missing_encryption_are_distinguished(secured: Secured) -> None:
    without = secured.urls[SERVICE].replace(f":{SECRETS[SERVICE]}", "")
    assert "wants a password for role" in refusal(secured, ("runs",), 1, CORD_DATABASE_URL=without)
    plain = secured.urls[SERVICE].partition("?")[0] + "?sslmode=disable"
    told = refusal(secured, ("runs",), 1, CORD_DATABASE_URL=plain)
    assert "add ?sslmode=require" in told
    assert "pg_hba.conf" in told


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ((BROKER_SECRET, "wr0ng"), "refuses the user or password"),
        (("/0?", "/99?"), "DB index is out of range"),
    ],
)
def test_a_refusal_of_the_broker_is_final_and_gives_its_reason(
    secured: Secured, change: tuple[str, str], told: str
) -> None:
    url = secured.broker_url.replace(*change)
    assert told in refusal(secured, ("coordinator",), 78, CORD_BROKER_URL=url)


@pytest.mark.long
def test_a_certificate_of_a_wrong_authority_is_not_trusted(secured: Secured) -> None:
    other = secured.folder / "other"
    other.mkdir()
    certificates(other)
    url = secured.urls[SERVICE].replace(str(secured.folder / "ca.pem"), str(other / "ca.pem"))
    environment = {**secured.cluster.environment, "CORD_DATABASE_URL": url}
    command = [sys.executable, "-m", "cord_worker.cli", "runs"]
    refused = subprocess.run(command, env=environment, text=True, capture_output=True, check=False)
    assert refused.returncode == 1
    assert "certificate verify failed" in refused.stderr
