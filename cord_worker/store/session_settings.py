"""What every transaction relies on, whatever the role, the database, the server or a pooler before it is set to.

A session with PostgreSQL itself is set up once. Behind a pooler (PgBouncer, Odyssey, Supavisor, …) the next transaction
may run in another session, and this one is soon somebody else's: so every transaction sets up itself, no statement is
prepared, and nothing anywhere is kept from one transaction to the next. A pooler makes up the process number that it
tells its clients, which is how it is known.

What the role's defaults may decide stays theirs: the schemas to search, whether writing is allowed, how long a
statement may take (a cancelled one is tried again without that limit, `Database.run`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import psycopg
import sqlalchemy as sa

_POOLED = "cord_is_pooled"
"""Key of a connection's `info`."""

_READABLE = {
    "TimeZone": "UTC",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "standard_conforming_strings": "on",
    "extra_float_digits": "1",  # a score that is read is the score that was written
}
_KEPT_ALIVE = {"tcp_keepalives_idle": "10", "tcp_keepalives_interval": "5", "tcp_keepalives_count": "3"}
"""Of the server's side; a pooler sees to its own."""
_BY_KEYS = {
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "jit": "off",
}
"""One plan a statement, made once, that looks rows up by their keys. Left to itself the planner spends as long on a
statement of five tables as running it takes, and believes in statistics of tables that were empty a minute ago."""
_DURABLE = (
    "CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END"
)
"""What was committed is never computed again: it has reached the disk, or what else the server is set to wait for."""
_UNLIMITED = {"statement_timeout": "0", "lock_timeout": "0"}
_LIMITS_TRANSACTIONS = 170_000
"""The first version of PostgreSQL with transaction_timeout."""

CONNECT_ARGUMENTS = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
    "client_encoding": "utf8",
}
"""A machine that vanished is noticed within half a minute, on both sides: its locks and the lead go to others."""


class Pooling(StrEnum):
    """What lies between this process and PostgreSQL."""

    NONE = "none"
    SESSION = "session mode"
    TRANSACTION = "transaction mode"


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """How sessions are set up.

    A transaction whose process asks nothing for `idle_transaction_seconds` is rolled back. `by_keys` is for those who
    ask the same few things again and again, each about a few rows that are found by their keys.
    """

    idle_transaction_seconds: float
    by_keys: bool = False

    def begin_session(self, driver: psycopg.Connection[Any], info: dict[Any, Any]) -> None:
        """Sets up a new connection's session if it is PostgreSQL's own; notes in `info` whether it is a pooler's."""
        everything = {**self._settings, **_KEPT_ALIVE, "default_transaction_isolation": "read committed"}
        before, driver.autocommit = driver.autocommit, True
        # One statement: no session is changed before it is known whose it is.
        statement = f"{_setting(everything, is_local=False)} WHERE pg_backend_pid() = {driver.info.backend_pid}"
        info[_POOLED] = driver.execute(statement.encode()).fetchone() is None
        driver.autocommit = before
        if info[_POOLED]:
            driver.prepare_threshold = None

    def begin_transaction(self, connection: sa.Connection, *, is_unlimited: bool) -> None:
        """Sets up the transaction that has just begun, where its session does not; with `is_unlimited`, its statements
        may take as long as they need."""
        settings = self._settings if is_pooled(connection) else {}
        if is_unlimited:
            settings = {**settings, **_UNLIMITED}
            if connection.connection.driver_connection.info.server_version >= _LIMITS_TRANSACTIONS:  # type: ignore[union-attr]
                settings["transaction_timeout"] = "0"
        if settings:
            connection.exec_driver_sql(_setting(settings, is_local=True))

    @property
    def _settings(self) -> dict[str, str]:
        idle = {"idle_in_transaction_session_timeout": str(max(1, round(self.idle_transaction_seconds * 1000)))}
        return {**_READABLE, **idle, **(_BY_KEYS if self.by_keys else {})}


def is_pooled(connection: sa.Connection) -> bool:
    """Whether the connection leads to a pooler."""
    return bool(connection.info.get(_POOLED))


def pooling_of(first: psycopg.Connection[Any], second: psycopg.Connection[Any]) -> Pooling:
    """What lies between here and PostgreSQL, tried out on two connections in autocommit mode."""
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
    scope = "true" if is_local else "false"
    parts = [f"set_config('{name}', '{value}', {scope})" for name, value in settings.items()]
    if "TimeZone" in settings:
        parts.append(f"set_config('synchronous_commit', {_DURABLE}, {scope})")
    return f"SELECT {', '.join(parts)}"
