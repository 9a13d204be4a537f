"""Session settings that every transaction relies on, independent of those of the role, database, server or pooler.

A session with PostgreSQL itself gets its settings once. Behind a pooler (PgBouncer, Odyssey, Supavisor, …) the next
transaction may run in another session, and this session soon serves another client. So there every transaction makes
its own settings, no statement is prepared, and no transaction relies on session state of an earlier one. A pooler
invents the process number that it tells its clients. It is recognised because the session has another number.

Some settings are left to the role's defaults: the schemas to search, whether writing is allowed, and how long a
statement may take (a cancelled one is repeated without that limit, see `Database.run`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import psycopg
import sqlalchemy as sa

_POOLED = "cord_is_pooled"
"""Key in a connection's `info`: whether it leads to a pooler."""

_READABLE = {
    "TimeZone": "UTC",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "standard_conforming_strings": "on",
    "extra_float_digits": "1",  # a score that is read is the score that was written
}
_WITHOUT_JIT = {"jit": "off"}
"""With old statistics PostgreSQL expects many rows, and would spend a second on compiling a statement that runs for
milliseconds."""
_KEPT_ALIVE = {"tcp_keepalives_idle": "10", "tcp_keepalives_interval": "5", "tcp_keepalives_count": "3"}
"""Keepalive by the server; a pooler has its own settings."""
_BY_KEYS = {
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    **_WITHOUT_JIT,
}
"""One plan for each statement, made once, that finds rows by their keys. By default the planner needs as long for a
statement of five tables as its execution takes, and trusts statistics of tables that were empty a minute ago."""
_DURABLE = (
    "CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END"
)
"""SQL: synchronous_commit as it is, but never off: a committed result is never computed again, so it must be on
disk."""
_UNLIMITED = {"statement_timeout": "0", "lock_timeout": "0"}
_TRANSACTION_TIMEOUT_VERSION = 170_000
"""The first version of PostgreSQL that has transaction_timeout."""

CONNECT_ARGUMENTS = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
    "client_encoding": "utf8",
}
"""With these and `_KEPT_ALIVE`, each side notices within half a minute that the other machine vanished. Then its locks
and the lead go to others."""


class Pooling(StrEnum):
    """Whether a connection pooler is in front of PostgreSQL, and in which mode."""

    NONE = "none"
    SESSION = "session mode"
    TRANSACTION = "transaction mode"


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """How sessions are set up.

    A transaction whose process sends nothing for `idle_transaction_seconds` is rolled back. `by_keys` makes PostgreSQL
    find rows by their keys, with one fixed plan for each statement (`_BY_KEYS`). It is for worker processes, which
    repeat the same few statements, each about a few rows.
    """

    idle_transaction_seconds: float
    by_keys: bool = False

    def begin_session(self, driver: psycopg.Connection[Any], info: dict[Any, Any]) -> None:
        """Notes in `info` whether a new connection leads to a pooler; if it does not, sets up its session."""
        everything = {**self._settings, **_KEPT_ALIVE, "default_transaction_isolation": "read committed"}
        before, driver.autocommit = driver.autocommit, True
        # One statement: a session must not be changed before it is known whether it is PostgreSQL's own.
        statement = f"{_setting(everything, is_local=False)} WHERE pg_backend_pid() = {driver.info.backend_pid}"
        info[_POOLED] = driver.execute(statement.encode()).fetchone() is None
        driver.autocommit = before
        if info[_POOLED]:
            driver.prepare_threshold = None

    def begin_transaction(self, connection: sa.Connection, *, is_unlimited: bool) -> None:
        """Sets up the transaction that has just begun, if its session was not set up. With `is_unlimited`, its
        statements have no time limit."""
        settings = self._settings if is_pooled(connection) else {}
        if is_unlimited:
            settings = {**settings, **_UNLIMITED}
            if connection.connection.driver_connection.info.server_version >= _TRANSACTION_TIMEOUT_VERSION:  # type: ignore[union-attr]
                settings["transaction_timeout"] = "0"
        if settings:
            connection.exec_driver_sql(_setting(settings, is_local=True))

    @property
    def _settings(self) -> dict[str, str]:
        idle = {"idle_in_transaction_session_timeout": str(max(1, round(self.idle_transaction_seconds * 1000)))}
        return {**_READABLE, **_WITHOUT_JIT, **idle, **(_BY_KEYS if self.by_keys else {})}


def find_by_keys(connection: sa.Connection) -> None:
    """Makes PostgreSQL find rows by their keys until the transaction ends (`_BY_KEYS`)."""
    connection.exec_driver_sql(_setting(_BY_KEYS, is_local=True))


def is_pooled(connection: sa.Connection) -> bool:
    """Whether the connection leads to a pooler."""
    return bool(connection.info.get(_POOLED))


def pooling_of(first: psycopg.Connection[Any], second: psycopg.Connection[Any]) -> Pooling:
    """Whether a pooler is in front of PostgreSQL, and in which mode. Both connections must be in autocommit mode."""
    if _process(first) == first.info.backend_pid:
        return Pooling.NONE
    # In session mode the first connection keeps its process, and the second one never gets it.
    known = _process(first)
    for _ in range(_TRIES):
        with second.transaction():
            other = _process(second)
            if other == known or _process(first) != known:
                return Pooling.TRANSACTION
        if _process(first) != known:
            return Pooling.TRANSACTION
    return Pooling.SESSION


_TRIES = 3


def _process(connection: psycopg.Connection[Any]) -> int:
    row = connection.execute("SELECT pg_backend_pid()", prepare=False).fetchone()
    return int(row[0]) if row else 0


def _setting(settings: Mapping[str, str], *, is_local: bool) -> str:
    """SQL: sets these settings, for the session or (`is_local`) for the transaction. With the settings of a whole
    session, synchronous_commit is set too."""
    scope = "true" if is_local else "false"
    parts = [f"set_config('{name}', '{value}', {scope})" for name, value in settings.items()]
    if "TimeZone" in settings:
        parts.append(f"set_config('synchronous_commit', {_DURABLE}, {scope})")
    return f"SELECT {', '.join(parts)}"
