"""Connections, transactions, and the retry of operations that an outage of PostgreSQL interrupts."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import psycopg
import sqlalchemy as sa
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError

from cord_worker.errors import DatabaseRefused, StoreError, TablesMissing
from cord_worker.local.limits import is_temporary, limit_that_caused
from cord_worker.service_url_checks import ESCAPES
from cord_worker.store.readable_values import accept_every_value, read_json
from cord_worker.store.session_settings import CONNECT_ARGUMENTS, Pooling, SessionSettings, is_pooled, pooling_of
from cord_worker.store.unreachable import (
    CANCELLED,
    NO_TABLE,
    NOT_ALLOWED,
    READ_ONLY,
    brief,
    is_transient,
    is_unknown_host,
    migration_denied_error,
    not_allowed_error,
    refusal_error,
    state_of,
    unreachable_error,
)

logger = logging.getLogger(__name__)

T = TypeVar("T")

MIGRATION_LOCK = 0x436F5244
"""Advisory lock (the letters CoRD) that a migrating process holds, so that only one migrates at a time."""

_RETRY_SECONDS = 120.0
_IDLE_TRANSACTION_SECONDS = 600.0
_LONGEST_PAUSE_SECONDS = 2.0
_ISOLATION = "READ COMMITTED"
"""Sent with every BEGIN. Under a stricter default, a statement that waited for a lock would see the old rows."""


class Database:
    """A pool of connections to one PostgreSQL, or to a pooler in front of it (`session_settings`).

    Every piece of work is a function of a connection; it runs in one transaction. `run` repeats the whole function if
    the connection was lost or if PostgreSQL chose the transaction as a deadlock's victim. So such functions must change
    nothing outside the database (no variables, no files), because they may run twice. They may return values that they
    read.

    A transaction whose process sends nothing for `idle_transaction_seconds` is rolled back: a process that hangs must
    not keep others from the rows that it has locked. `by_keys` makes PostgreSQL find rows by their keys, with one fixed
    plan for each statement (`session_settings`); it is for worker processes. With `waits_for_tables`, missing tables
    count as an outage.
    """

    def __init__(
        self,
        url: str,
        *,
        pool_size: int = 4,
        application_name: str = "cord",
        retry_seconds: float = _RETRY_SECONDS,
        idle_transaction_seconds: float = _IDLE_TRANSACTION_SECONDS,
        by_keys: bool = False,
        waits_for_tables: bool = False,
    ) -> None:
        self._retry_seconds = retry_seconds
        self._waits_for_tables = waits_for_tables
        self._settings = SessionSettings(idle_transaction_seconds, by_keys)
        self._arguments = {**CONNECT_ARGUMENTS, "application_name": application_name}
        self._engine = _open(
            url,
            self._settings,
            pool_size=pool_size,
            max_overflow=4,
            pool_timeout=60,
            pool_use_lifo=True,  # so that surplus connections stay idle, and a server or pooler can close them
            connect_args=self._arguments,
        )
        self._was_reached = False
        # These engines share the pool of the first one:
        self._reading = self._engine.execution_options(postgresql_readonly=True)
        self._single = self._engine.execution_options(isolation_level="AUTOCOMMIT")
        self._snapshot = self._engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)

    @property
    def waits_for_tables(self) -> bool:
        """True if missing tables count as an outage."""
        return self._waits_for_tables

    def run(
        self,
        work: Callable[[sa.Connection], T],
        *,
        retry_seconds: float | None = None,
        read_only: bool = False,
        one_snapshot: bool = False,
        single: bool = False,
    ) -> T:
        """Returns `work(connection)` after its commit; repeats it for up to `retry_seconds` while PostgreSQL is
        unavailable.

        A server that takes no writes counts as unavailable. A statement that PostgreSQL cancelled is repeated with its
        time limits switched off. If `read_only`, PostgreSQL refuses to write; if `one_snapshot`, all statements also
        see the tables as the first one does. `single` work is one statement, or several that need not be committed
        together: without a pooler each of them is its own transaction, and takes one round trip instead of three.

        Raises StoreError when PostgreSQL stays unavailable or refuses the connection, and otherwise whatever `work`
        raises.
        """
        engine: sa.Engine = self._single if single else self._engine
        if read_only or one_snapshot:
            engine = self._snapshot if one_snapshot else self._reading
        deadline = time.monotonic() + (self._retry_seconds if retry_seconds is None else retry_seconds)
        pause = 0.05
        may_be_stale = True
        is_unlimited = False
        was_logged = False
        while True:
            try:
                with self._open_transaction(engine, is_unlimited=is_unlimited) as connection:
                    self._was_reached = True
                    return work(connection)
            except DBAPIError as error:
                # A connection of the pool may have died while it was idle, so the first failure is retried on a new
                # connection, even after the deadline.
                # A check before each use (pool_pre_ping) would cost one more round trip in every transaction.
                is_stale = may_be_stale and error.connection_invalidated
                was_cancelled = not is_unlimited and state_of(error) in CANCELLED
                can_retry_help = self._can_retry_help(error, engine)
                if not can_retry_help or (time.monotonic() > deadline and not is_stale and not was_cancelled):
                    raise _as_store_error(error, self._engine.url) from error
                may_be_stale = False
                is_unlimited |= was_cancelled
                if not was_logged and not is_stale:
                    logger.warning("the database %s, trying again: %s", self._trouble(error), brief(error))
                    was_logged = True
            except (OSError, MemoryError, RuntimeError) as error:
                # File handles or memory have run out, and a connection needs some. This is temporary, so it is retried
                # like an outage.
                if not is_temporary(error):
                    raise
                if time.monotonic() > deadline:
                    raise StoreError(f"the database cannot be used: {limit_that_caused(error)}") from error
                if not was_logged:
                    logger.warning("the database cannot be used, trying again: %s", limit_that_caused(error))
                was_logged = True
            time.sleep(pause * random.uniform(0.5, 1.5))
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)

    @contextmanager
    def _open_transaction(self, engine: sa.Engine, *, is_unlimited: bool = False) -> Iterator[sa.Connection]:
        """A connection with an open transaction, in which the session settings hold."""
        with engine.connect() as connection:
            is_set_up = not is_unlimited and not is_pooled(connection)
            if not is_set_up and engine is self._single:
                connection = connection.execution_options(isolation_level=_ISOLATION)
            with connection.begin():
                if not is_set_up:
                    self._settings.begin_transaction(connection, is_unlimited=is_unlimited)
                yield connection

    def _trouble(self, error: DBAPIError) -> str:
        """What is wrong with the database, for the log."""
        if state_of(error) == NO_TABLE:
            return "has no tables of cord-worker at present (cordctl db upgrade makes them)"
        return "was interrupted" if self._was_reached else "does not answer yet"

    def _can_retry_help(self, error: DBAPIError, engine: sa.Engine) -> bool:
        """True if a retry can help. Raises if the error is final (wrong statement, refused login, missing right)."""
        refused = refusal_error(error, self._engine.url, self._arguments)
        if refused is not None:
            raise refused from None
        if state_of(error) == NOT_ALLOWED:
            raise not_allowed_error(error) from error
        if self._waits_for_tables and state_of(error) == NO_TABLE:
            return True
        if _is_statement_error(error) or (engine in (self._reading, self._snapshot) and state_of(error) == READ_ONLY):
            raise error
        # A host name that was found before is found again when the name server is back.
        return is_transient(error) and (self._was_reached or not is_unknown_host(error))

    @contextmanager
    def transaction(self, *, one_snapshot: bool = False) -> Iterator[sa.Connection]:
        """One transaction that is never repeated and whose statements have no time limit: for work that consumes an
        iterator, streams rows out, or holds a lock. If `one_snapshot`, it only reads, all statements see the tables as
        the first one does, and it waits for a PostgreSQL that is away, as `run` does.

        Raises StoreError if PostgreSQL is unreachable or becomes so meanwhile; then nothing is committed.
        """
        self._drop_dead_connections(retry_seconds=None if one_snapshot else 0.0)
        try:
            engine = self._snapshot if one_snapshot else self._engine
            with self._open_transaction(engine, is_unlimited=True) as connection:
                yield connection
        except DBAPIError as error:
            if _is_statement_error(error):
                raise
            raise _as_store_error(error, self._engine.url) from error

    def _drop_dead_connections(self, retry_seconds: float | None) -> None:
        """Removes connections that PostgreSQL has ended from the pool. Raises StoreError if PostgreSQL stays
        unreachable for `retry_seconds`."""
        self.run(lambda connection: connection.execute(sa.text("SELECT 1")), retry_seconds=retry_seconds)

    def pooling(self) -> Pooling:
        """Whether a connection pooler is in front of PostgreSQL, and in which mode. Raises StoreError if PostgreSQL is
        unreachable."""
        self._drop_dead_connections(retry_seconds=0.0)
        try:
            with self._single.connect() as first, self._single.connect() as second:
                return pooling_of(_driver(first), _driver(second))
        except DBAPIError as error:
            if _is_statement_error(error):
                raise
            raise _as_store_error(error, self._engine.url) from error
        except psycopg.Error as error:
            raise StoreError(f"the database was interrupted: {error}") from error

    def close(self) -> None:
        """Closes the pool."""
        self._engine.dispose()


def create_engine(url: str, **options: Any) -> sa.Engine:
    """SQLAlchemy's engine. Raises DatabaseRefused if the URL or the driver cannot be used; never quotes the URL."""
    try:
        return sa.create_engine(url, **options)
    except (sa.exc.ArgumentError, ValueError):
        raise DatabaseRefused(
            "CORD_DATABASE_URL is not a URL such as postgresql://user:password@host:5432/database. Correct it (in a "
            f"password, {ESCAPES})"
        ) from None
    except ImportError as error:
        raise DatabaseRefused(
            f"the driver of PostgreSQL cannot be imported ({error}). Install it: pip install 'psycopg[binary]'"
        ) from error


def _open(url: str, settings: SessionSettings, **options: Any) -> sa.Engine:
    """An engine that gives sessions their settings. A connection on which a write was refused is not used again: it may
    lead to a server that is no longer the primary."""
    engine = create_engine(url, isolation_level=_ISOLATION, json_deserializer=read_json, **options)

    @sa.event.listens_for(engine, "connect")
    def begin(driver: Any, record: Any) -> None:
        settings.begin_session(driver, record.info)
        accept_every_value(driver)

    @sa.event.listens_for(engine, "handle_error")
    def drop_read_only(context: ExceptionContext) -> None:
        if getattr(context.original_exception, "sqlstate", None) == READ_ONLY and context.connection is not None:
            context.is_disconnect = not context.connection.get_execution_options().get("postgresql_readonly")

    return engine


@contextmanager
def connect_for_migration(url: str) -> Iterator[sa.Connection]:
    """A connection in a transaction that holds the migration lock; it is committed at the end.

    Raises StoreError if PostgreSQL is unreachable.
    """
    settings = SessionSettings(_IDLE_TRANSACTION_SECONDS)
    engine = _open(url, settings, poolclass=sa.pool.NullPool, connect_args=CONNECT_ARGUMENTS)
    try:
        with engine.connect() as connection, connection.begin():
            settings.begin_transaction(connection, is_unlimited=True)
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
            yield connection
    except DBAPIError as error:
        if state_of(error) == NOT_ALLOWED:
            raise migration_denied_error(error) from error
        refused = refusal_error(error, engine.url, CONNECT_ARGUMENTS)
        if refused is not None:
            raise refused from None
        if _is_statement_error(error):
            raise
        raise unreachable_error(error, engine.url) from error
    finally:
        engine.dispose()


def _as_store_error(error: DBAPIError, url: sa.URL) -> StoreError:
    """The error to raise for one that is not retried and was not caused by a wrong statement."""
    if state_of(error) == NO_TABLE:
        return TablesMissing(
            f"the database has no tables of cord-worker at present ({brief(error)}). Run: cordctl db upgrade"
        )
    return not_allowed_error(error) if state_of(error) == NOT_ALLOWED else unreachable_error(error, url)


def _driver(connection: sa.Connection) -> psycopg.Connection[Any]:
    driver: psycopg.Connection[Any] = connection.connection.driver_connection  # type: ignore[assignment]
    return driver


def _is_statement_error(error: DBAPIError) -> bool:
    """True if the cause is the statement, not the connection or the role."""
    if state_of(error) == NOT_ALLOWED:
        return False
    return not is_transient(error) and not isinstance(error, sa.exc.OperationalError)
