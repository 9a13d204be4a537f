"""Connections, transactions and the retry of operations that a restarting PostgreSQL interrupts."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, OperationalError

from cord_worker.errors import StoreError

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
_READ_ONLY = "25006"
_NOT_ALLOWED = "42501"  # insufficient_privilege
_TRANSIENT_STATES = {
    _READ_ONLY,  # of the whole server: a failover is under way
    "40001",  # serialization failure
    "40P01",  # deadlock victim
    "57P01",  # administrator shutdown
    "57P02",  # crash shutdown
    "57P03",  # cannot connect now
}
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
        self._engine = sa.create_engine(
            url,
            pool_size=pool_size,
            max_overflow=4,
            pool_timeout=60,
            connect_args={**_CONNECT_ARGUMENTS, "options": options, "application_name": application_name},
        )
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
        while True:
            try:
                with engine.begin() as connection:
                    return work(connection)
            except DBAPIError as error:
                if _state(error) == _NOT_ALLOWED:
                    raise _refused(error) from error
                if _is_mistake(error) or (engine is self._reading and _state(error) == _READ_ONLY):
                    raise
                # A connection of the pool may have died while nobody used it; a new one tells whether PostgreSQL is
                # there. To ask before each use (pool_pre_ping) would be one more round trip in every transaction.
                is_stale = is_pooled and error.connection_invalidated
                if not _is_transient(error) or (time.monotonic() > deadline and not is_stale):
                    raise _unreachable(error) from error
                is_pooled = False
                logger.warning("database interrupted, trying again: %s", _brief(error))
            time.sleep(pause * random.uniform(0.5, 1.5))
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)

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
            if _state(error) == _NOT_ALLOWED:
                raise _refused(error) from error
            if _is_mistake(error):
                raise
            raise _unreachable(error) from error

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


@contextmanager
def connect_for_migration(url: str) -> Iterator[sa.Connection]:
    """A connection on which this process alone migrates. Raises StoreError where PostgreSQL is unreachable."""
    engine = sa.create_engine(url, poolclass=sa.pool.NullPool)
    try:
        connection = engine.connect()
    except OperationalError as error:
        raise _unreachable(error) from error
    try:
        connection.execute(sa.text("SELECT pg_advisory_lock(:key)"), {"key": MIGRATION_LOCK})
        connection.commit()
        yield connection
        connection.execute(sa.text("SELECT pg_advisory_unlock(:key)"), {"key": MIGRATION_LOCK})
        connection.commit()
    finally:
        connection.close()
        engine.dispose()


def _is_transient(error: DBAPIError) -> bool:
    state = _state(error)
    if error.connection_invalidated or isinstance(error, OperationalError):
        return state not in {"28P01", "28000", "3D000"}
    return state in _TRANSIENT_STATES


def _state(error: DBAPIError) -> str | None:
    return getattr(error.orig, "sqlstate", None)


def _is_mistake(error: DBAPIError) -> bool:
    """True where the statement is at fault, not the connection."""
    return not _is_transient(error) and not isinstance(error, OperationalError)


def _unreachable(error: DBAPIError) -> StoreError:
    return StoreError(
        f"the database cannot be reached: {_brief(error)}. Is it running, and is CORD_DATABASE_URL right?"
    )


def _refused(error: DBAPIError) -> StoreError:
    return StoreError(
        f"the database's role may not do this: {_brief(error)}. Give CORD_DATABASE_URL a role that may "
        "(cordctl db grant --service ROLE makes one)"
    )


def _brief(error: DBAPIError) -> str:
    return str(error.orig).strip().splitlines()[0] if str(error.orig).strip() else type(error.orig).__name__
