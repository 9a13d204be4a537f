"""What managed PostgreSQL, its administrators and poolers before it do to sessions and statements."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import psycopg

from tests.chaos.fleet import COORDINATOR
from tests.chaos.kinds.storm import TEACHERS, Storm, everything, kind
from tests.chaos.recovery import Watch, look, watch
from tests.chaos.servers import Administrator
from tests.support.pooler import PgBouncer, pgbouncer_program

_OURS = "FROM pg_stat_activity WHERE application_name LIKE 'cord %'"
_START_SECONDS = 60.0


@contextmanager
def _set(storm: Storm, **settings: str) -> Iterator[Administrator]:
    """For the length of a `with`, the server has these defaults."""
    with storm.servers.administrator() as administrator:
        try:
            for name, value in settings.items():
                administrator.execute(f"ALTER SYSTEM SET {name} = {value}")
            administrator.execute("SELECT pg_reload_conf()")
            yield administrator
        finally:
            for name in settings:
                administrator.execute(f"ALTER SYSTEM RESET {name}")
            administrator.execute("SELECT pg_reload_conf()")


def _end_sessions(administrator: Administrator) -> None:
    administrator.execute(f"SELECT pg_terminate_backend(pid) {_OURS}")


@kind("tables out of sight")
def out_of_sight(storm: Storm) -> Watch:
    """As while a dump is restored: the schema has another name for a while."""

    def strike() -> None:
        with _without_tables(storm):
            time.sleep(storm.chance.uniform(0.5, 3))

    return everything(storm, "tables out of sight", strike)


@kind("started without tables")
def started_without_tables(storm: Storm) -> Watch:
    """Processes that are killed and started again while the schema has another name."""

    def strike() -> None:
        with _without_tables(storm):
            for name in (storm.one_of(COORDINATOR), storm.one_of(*TEACHERS, "prover")):
                storm.fleet.kill(name)
                storm.fleet.start(name)
            time.sleep(storm.chance.uniform(2, 4))

    return everything(storm, "started without tables", strike)


@contextmanager
def _without_tables(storm: Storm) -> Iterator[None]:
    """For the length of a `with`, the schema has another name."""
    with storm.servers.administrator() as administrator:
        _rename_schema(administrator, "public", "away")
        try:
            yield
        finally:
            _rename_schema(administrator, "away", "public")


def _rename_schema(administrator: Administrator, name: str, new_name: str) -> None:
    with suppress(psycopg.errors.InvalidSchemaName):  # it was renamed, and the session was ended before the answer
        administrator.execute(f"ALTER SCHEMA {name} RENAME TO {new_name}")


@kind("rows of workers lost", slow=True)
def workers_lost(storm: Storm) -> Watch:
    """As after a failover to a standby that lags. Alone: a worker that ends before it registers again is unknown."""

    def strike() -> None:
        with storm.servers.administrator() as administrator:
            lost = "WITH lost AS (DELETE FROM workers WHERE stopped_at IS NULL RETURNING id) SELECT id FROM lost"
            gone = {row[0] for row in administrator.execute(lost)}
            deadline = time.monotonic() + _START_SECONDS
            while gone and time.monotonic() < deadline:
                gone -= {row[0] for row in administrator.execute("SELECT id FROM workers")}
                time.sleep(0.1)

    return everything(storm, "rows of workers lost", strike)


@kind("PostgreSQL takes no writes")
def read_only(storm: Storm) -> Watch:
    def strike() -> None:
        with _set(storm, default_transaction_read_only="on"):
            time.sleep(storm.chance.uniform(0.5, 2))

    return everything(storm, "PostgreSQL takes no writes", strike)


@kind("failover without an end of sessions")
def failover(storm: Storm) -> Watch:
    """Sessions that begin meanwhile never take writes: only new ones do."""

    def strike() -> None:
        with storm.servers.administrator() as administrator:
            administrator.execute("ALTER DATABASE cord SET default_transaction_read_only = on")
            _end_sessions(administrator)
            time.sleep(1.0)
            administrator.execute("ALTER DATABASE cord RESET default_transaction_read_only")

    return everything(storm, "failover without an end of sessions", strike)


@kind("PostgreSQL out of connections")
def out_of_connections(storm: Storm) -> Watch:
    def strike() -> None:
        with ExitStack() as strangers:
            with storm.servers.administrator() as administrator:
                for _ in range(2):
                    with suppress(psycopg.OperationalError):
                        while True:
                            strangers.enter_context(administrator.connect_once())
                    _end_sessions(administrator)
            time.sleep(storm.chance.uniform(0.2, 1))

    return everything(storm, "PostgreSQL out of connections", strike)


@kind("statements cut short")
def statement_timeout(storm: Storm) -> Watch:
    def strike() -> None:
        with _set(storm, statement_timeout="2", lock_timeout="1"):
            time.sleep(storm.chance.uniform(1, 2))

    return everything(storm, "statements cut short", strike)


@kind("statements cancelled")
def cancel(storm: Storm) -> Watch:
    def strike() -> None:
        with storm.servers.administrator() as administrator:
            deadline = time.monotonic() + storm.chance.uniform(0.5, 1.5)
            while time.monotonic() < deadline:
                administrator.execute(f"SELECT pg_cancel_backend(pid) {_OURS} AND state = 'active'")
                time.sleep(0.005)

    return everything(storm, "statements cancelled", strike)


@kind("idle sessions cut")
def cut_idle(storm: Storm) -> Watch:
    def strike() -> None:
        with _set(storm, idle_session_timeout="20"):
            time.sleep(storm.chance.uniform(1, 2))

    return everything(storm, "idle sessions cut", strike)


@kind("table locked by a stranger")
def lock(storm: Storm) -> Watch:
    def strike() -> None:
        table = storm.chance.choice(["candidates", "problems", "workers", "trajectories", "runs"])
        # Another fault may end the session meanwhile, and the lock with it: then this one has struck.
        with (
            suppress(psycopg.OperationalError),
            storm.servers.administrator() as administrator,
            administrator.connect_once() as stranger,
            stranger.transaction(),
        ):
            stranger.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE".encode())
            time.sleep(storm.chance.uniform(0.5, 2))

    return everything(storm, "table locked by a stranger", strike)


@kind("table rewritten")
def rewrite(storm: Storm) -> Watch:
    def strike() -> None:
        with storm.servers.administrator() as administrator:
            for table in ("candidates", "problems", "workers"):
                administrator.execute(f"VACUUM FULL {table}")

    return everything(storm, "table rewritten", strike)


@kind("PostgreSQL with odd defaults")
def odd_defaults(storm: Storm) -> Watch:
    """Sessions begin with odd defaults; what they read and write is the same."""
    odd = {
        "default_transaction_isolation": "serializable",
        "extra_float_digits": "-12",
        "DateStyle": "'SQL, DMY'",
        "TimeZone": "'America/Caracas'",
        "standard_conforming_strings": "off",
        "synchronous_commit": "off",
        "jit_above_cost": "0",
    }

    def strike() -> None:
        with _set(storm, **odd) as administrator:
            _end_sessions(administrator)
            time.sleep(storm.chance.uniform(1, 2))
        with storm.servers.administrator() as administrator:
            _end_sessions(administrator)

    return everything(storm, "PostgreSQL with odd defaults", strike)


@kind("session killed")
def kill_session(storm: Storm) -> Watch:
    """kill -9 of one process of PostgreSQL, which then restarts all sessions."""

    def strike() -> None:
        with storm.servers.administrator() as administrator:
            pids = [row[0] for row in administrator.execute(f"SELECT pid {_OURS} ORDER BY pid")]
        if pids:
            with suppress(ProcessLookupError):
                os.kill(storm.chance.choice(pids), signal.SIGKILL)

    return everything(storm, "session killed", strike)


@kind("leader's session ended")
def end_leader(storm: Storm) -> Watch:
    def strike() -> None:
        with storm.servers.administrator() as administrator:
            administrator.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objid = 1400333680"
            )

    return everything(storm, "leader's session ended", strike)


@kind("PgBouncer killed", slow=True, needs=lambda _: pgbouncer_program() is not None)
def kill_pooler(storm: Storm) -> Watch:
    """A coordinator and a teacher reach PostgreSQL only through PgBouncer, which is killed and restarted."""
    names = [storm.one_of(COORDINATOR), storm.one_of(*TEACHERS)]
    with PgBouncer(storm.servers.postgres.url, "transaction") as pooler:
        for name in names:
            storm.fleet.kill(name)
            storm.fleet.start(name, CORD_DATABASE_URL=pooler.url)
        _wait_for_work(storm, [storm.fleet.pid(name) for name in names])
        seen = watch(storm.database, "PgBouncer killed")
        pooler.stop()
        time.sleep(storm.chance.random())
        pooler.start()
        seen.began = time.monotonic()
        deadline = time.monotonic() + 3 * storm.worker_timeout + 20
        while seen.seconds is None and time.monotonic() < deadline:
            time.sleep(0.05)
            look(storm.database, [seen])
        for name in names:
            storm.fleet.kill(name)
    storm.fleet.start(*names)
    return seen


def _wait_for_work(storm: Storm, pids: list[int]) -> None:
    ready = "SELECT count(*) FROM workers WHERE pid = ANY(%s) AND ready_at IS NOT NULL AND stopped_at IS NULL"
    deadline = time.monotonic() + _START_SECONDS
    with storm.servers.administrator() as administrator:
        while administrator.execute(ready, [pids]) != [(len(pids),)] and time.monotonic() < deadline:
            time.sleep(0.05)
