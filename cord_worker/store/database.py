"""Connections, transactions and the retry of operations that a restarting PostgreSQL interrupts."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from cord_worker.errors import DatabaseRefused, StoreError
from cord_worker.local.limits import explained, is_passing
from cord_worker.service_urls import ESCAPES
from cord_worker.store.unreachable import (
    NOT_ALLOWED,
    READ_ONLY,
    brief,
    is_transient,
    is_unknown_host,
    not_allowed,
    refusal,
    state_of,
    unreachable,
)

logger = logging.getLogger(__name__)

T = TypeVar("T")

MIGRATION_LOCK = 0x436F5244
"""Advisory lock (the letters CoRD) under which one process at a time migrates."""

_RETRY_SECONDS = 120.0
_IDLE_TRANSACTION_SECONDS = 600.0
_CONNECT_ARGUMENTS = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
    "options": "-c timezone=UTC -c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3 ",
}
"""A machine that vanished is noticed within half a minute, on both sides: its locks and the lead go to others."""
_BY_KEYS = {
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "jit": "off",
}
"""One plan a statement, made once, that looks rows up by their keys. Left to itself the planner spends as long on a
statement of five tables as running it takes, and believes in statistics of tables that were empty a minute ago."""
_LONGEST_PAUSE_SECONDS = 2.0


class Database:
    """A pool of connections to one PostgreSQL.

    Every piece of work is a function of a connection that runs in one transaction; `run` repeats the whole
    function when the connection was lost or the transaction was chosen as a deadlock's victim, so such functions
    must touch nothing but the database.

    A transaction whose process asks nothing for `idle_transaction_seconds` is rolled back: a process that hangs must
    not keep others from the rows that it has locked. `by_keys` is for processes that ask the same few things again and
    again, each about a few rows that are found by their keys.
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
    ) -> None:
        self._retry_seconds = retry_seconds
        milliseconds = max(1, round(idle_transaction_seconds * 1000))
        options = f"{_CONNECT_ARGUMENTS['options']}-c idle_in_transaction_session_timeout={milliseconds} "
        if by_keys:
            options += " ".join(f"-c {setting}={value}" for setting, value in _BY_KEYS.items())
        self._arguments = {**_CONNECT_ARGUMENTS, "options": options, "application_name": application_name}
        self._engine = create_engine(
            url, pool_size=pool_size, max_overflow=4, pool_timeout=60, connect_args=self._arguments
        )
        self._was_reached = False
        # The same pool:
        self._reading = self._engine.execution_options(postgresql_readonly=True)
        self._single = self._engine.execution_options(isolation_level="AUTOCOMMIT")

    def run(
        self, work: Callable[[sa.Connection], T], *, retry_seconds: float | None = None, read_only: bool = False
    ) -> T:
        """Returns `work(connection)` after its commit; repeats it for `retry_seconds` while PostgreSQL is away.

        Where it is `read_only`, PostgreSQL refuses what would write. Raises StoreError when it stays away or refuses
        the connection, and whatever `work` raises otherwise.
        """
        return self._repeat(self._reading if read_only else self._engine, work, retry_seconds)

    def run_single(self, work: Callable[[sa.Connection], T], *, retry_seconds: float | None = None) -> T:
        """As `run`, for work that is one statement, or several that need not be committed together.

        Each is a transaction of its own: one round trip instead of three.
        """
        return self._repeat(self._single, work, retry_seconds)

    def _repeat(self, engine: sa.Engine, work: Callable[[sa.Connection], T], retry_seconds: float | None) -> T:
        deadline = time.monotonic() + (self._retry_seconds if retry_seconds is None else retry_seconds)
        pause = 0.05
        is_pooled = True
        is_told = False
        while True:
            try:
                with engine.begin() as connection:
                    self._was_reached = True
                    return work(connection)
            except DBAPIError as error:
                # A connection of the pool may have died while nobody used it; a new one tells whether PostgreSQL is
                # there. To ask before each use (pool_pre_ping) would be one more round trip in every transaction.
                is_stale = is_pooled and error.connection_invalidated
                may_pass = self._may_pass(error, engine)
                if not may_pass or (time.monotonic() > deadline and not is_stale):
                    raise unreachable(error, self._engine.url) from error
                is_pooled = False
                if not is_told:
                    what = "was interrupted" if self._was_reached else "does not answer yet"
                    logger.warning("the database %s, trying again: %s", what, brief(error))
                is_told = True
            except (OSError, MemoryError, RuntimeError) as error:
                # File handles or memory have run out, of which a connection takes some; that passes like an outage.
                if not is_passing(error):
                    raise
                if time.monotonic() > deadline:
                    raise StoreError(f"the database cannot be used: {explained(error)}") from error
                if not is_told:
                    logger.warning("the database cannot be used, trying again: %s", explained(error))
                is_told = True
            time.sleep(pause * random.uniform(0.5, 1.5))
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)

    def _may_pass(self, error: DBAPIError, engine: sa.Engine) -> bool:
        """Whether trying again can help. Raises what says so where the error is of another kind."""
        refused = refusal(error, self._engine.url, self._arguments)
        if refused is not None:
            raise refused from None
        if state_of(error) == NOT_ALLOWED:
            raise not_allowed(error) from error
        if _is_mistake(error) or (engine is self._reading and state_of(error) == READ_ONLY):
            raise error
        # A name that was found before comes again when the name server does.
        return is_transient(error) and (self._was_reached or not is_unknown_host(error))

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """One transaction that is never repeated: for work that consumes an iterator or streams rows out.

        Raises StoreError where PostgreSQL is unreachable or goes away meanwhile; nothing is committed then.
        """
        self._weed()
        try:
            with self._engine.begin() as connection:
                yield connection
        except DBAPIError as error:
            if state_of(error) == NOT_ALLOWED:
                raise not_allowed(error) from error
            if _is_mistake(error):
                raise
            raise unreachable(error, self._engine.url) from error

    @contextmanager
    def session_connection(self) -> Iterator[sa.Connection]:
        """A connection in autocommit mode, held for as long as the caller wants (advisory locks, COPY)."""
        self._weed()
        with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            # Back in the pool it would keep its advisory locks; detached, leaving ends the session.
            connection.detach()
            yield connection

    def _weed(self) -> None:
        """Leaves no connection in the pool that PostgreSQL has ended since; raises StoreError where it is away."""
        self.run(lambda connection: connection.execute(sa.text("SELECT 1")), retry_seconds=0.0)

    def close(self) -> None:
        """Closes the pool."""
        self._engine.dispose()


def create_engine(url: str, **options: Any) -> sa.Engine:
    """SQLAlchemy's engine. Raises DatabaseRefused for a URL, or a driver, that cannot be used; never quotes the URL."""
    try:
        return sa.create_engine(url, **options)
    except (sa.exc.ArgumentError, ValueError):
        raise DatabaseRefused(
            "CORD_DATABASE_URL is no URL such as postgresql://user:password@host:5432/database. Correct it (in a "
            f"password, {ESCAPES})"
        ) from None
    except ImportError as error:
        raise DatabaseRefused(
            f"the driver of PostgreSQL cannot be imported ({error}). Install it: pip install 'psycopg[binary]'"
        ) from error


@contextmanager
def connect_for_migration(url: str) -> Iterator[sa.Connection]:
    """A connection on which this process alone migrates. Raises StoreError where PostgreSQL is unreachable."""
    engine = create_engine(url, poolclass=sa.pool.NullPool)
    try:
        connection = engine.connect()
    except DBAPIError as error:
        raise refusal(error, engine.url, {}) or unreachable(error, engine.url) from None
    try:
        connection.execute(sa.text("SELECT pg_advisory_lock(:key)"), {"key": MIGRATION_LOCK})
        connection.commit()
        yield connection
        connection.execute(sa.text("SELECT pg_advisory_unlock(:key)"), {"key": MIGRATION_LOCK})
        connection.commit()
    except DBAPIError as error:
        if state_of(error) == NOT_ALLOWED:
            raise not_allowed(error) from error
        if not error.connection_invalidated:
            raise
        raise unreachable(error, engine.url) from error
    finally:
        connection.close()
        engine.dispose()


def _is_mistake(error: DBAPIError) -> bool:
    """True where the statement is at fault, not the connection."""
    return not is_transient(error) and not isinstance(error, sa.exc.OperationalError)
