"""Explains why PostgreSQL cannot be used, and whether another attempt can help.

libpq gives no SQLSTATE for a connection that fails, and its message is in the server's language. So if the server
answered, one more connection is tried with libpq's trace, which shows the SQLSTATE.
"""

from __future__ import annotations

import os
import re
import select
import time
from dataclasses import dataclass
from typing import Any

import psycopg
import sqlalchemy as sa
from psycopg import conninfo, pq
from sqlalchemy.exc import DBAPIError

from cord_worker.errors import DatabaseRefused, StoreError
from cord_worker.service_url_checks import ESCAPES

NOT_ALLOWED = "42501"  # insufficient_privilege
READ_ONLY = "25006"
NO_TABLE = "42P01"  # undefined_table
_PERMANENT = {
    "3D000",  # no such database
    "28P01",  # wrong password
    "28000",  # no such role, or pg_hba.conf does not let it in
    NOT_ALLOWED,
    "55000",  # this database accepts no connections (a template)
}
"""SQLSTATEs with which the server refuses a connection every time."""
_TRANSIENT = {
    READ_ONLY,  # the server takes no writes: a failover is under way
    "40001",  # serialization failure
    "40P01",  # deadlock victim
    "53300",  # too many connections
    "57P01",  # administrator shutdown
    "57P02",  # crash shutdown
    "57P03",  # cannot connect now
}
"""SQLSTATEs of statements that may succeed on another connection."""
CANCELLED = {
    "55P03",  # lock_timeout
    "57014",  # statement_timeout, or a pg_cancel_backend
    "25P04",  # transaction_timeout
}
"""SQLSTATEs of statements that took longer than the role's settings allow, or that were cancelled by hand."""
_TRACED_STATE = re.compile(rb'ErrorResponse\t.*? C "([0-9A-Z]{5})"', re.DOTALL)
_TRACE_SECONDS = 10.0
_LONGEST_TRACE = 1 << 20
_LIBPQ_SETTING = re.compile(r"invalid (connection option|\w+ value|port|integer value|URI|percent)|missing \"=\"")
_MESSAGE_PREFIX = re.compile(
    r"^(connection failed: |connection is bad: )*(connection to server .*? failed: )?(FATAL:\s+)?"
)
_UNKNOWN_HOST = ("could not translate host name", "failed to resolve host")


@dataclass(frozen=True, slots=True)
class Target:
    """Where a URL leads, without its password."""

    role: str
    database: str
    host: str
    port: str

    @classmethod
    def of(cls, url: sa.URL) -> Target:
        """The target of `url`; libpq's defaults fill in what it leaves out."""
        role = url.username or os.environ.get("PGUSER") or os.environ.get("USER") or "postgres"
        host = url.host or _first(url.query.get("host")) or os.environ.get("PGHOST") or "localhost"
        port = url.port or _first(url.query.get("port")) or os.environ.get("PGPORT") or 5432
        return cls(role, url.database or os.environ.get("PGDATABASE") or role, host, str(port))

    @property
    def server(self) -> str:
        """The server's name in messages."""
        return f"{self.host} (port {self.port})" if self.host.startswith("/") else f"{self.host}:{self.port}"

    @property
    def options(self) -> str:
        """The options with which PostgreSQL's own commands name the server."""
        return f"-h {self.host} -p {self.port}"


def state_of(error: DBAPIError) -> str | None:
    """SQLSTATE of the server's answer; None if it never answered."""
    return getattr(error.orig, "sqlstate", None)


def is_connecting(error: DBAPIError) -> bool:
    """True if there was no connection yet on which a statement could have run."""
    return error.statement is None and not error.connection_invalidated and state_of(error) is None


def is_transient(error: DBAPIError) -> bool:
    """Whether the same statement on another connection can succeed."""
    state = state_of(error)
    if error.connection_invalidated or isinstance(error, sa.exc.OperationalError):
        return state not in _PERMANENT
    return state in _TRANSIENT


def is_unknown_host(error: DBAPIError) -> bool:
    """True if the host name cannot be resolved: usually it is misspelt, sometimes the name server restarts."""
    return any(words in str(error.orig) for words in _UNKNOWN_HOST)


def refusal_error(error: DBAPIError, url: sa.URL, arguments: dict[str, Any]) -> DatabaseRefused | None:
    """Why the server at `url` will refuse every attempt at this connection; None if another attempt may succeed.

    `arguments` are those of the connection that failed.
    """
    target, message = Target.of(url), brief(error)
    text = str(error.orig)
    if "statement pooling mode" in text:
        return DatabaseRefused(
            f"the pooler at {target.server} is in statement mode, in which there are no transactions. Set "
            "pool_mode = transaction for this database, or name PostgreSQL itself in CORD_DATABASE_URL"
        )
    if not is_connecting(error):
        return None
    if "unsupported startup parameter" in text:
        return DatabaseRefused(
            f"the pooler at {target.server} does not accept this setting of a connection: {message}. Leave it out of "
            "CORD_DATABASE_URL and set it for the role (ALTER ROLE … SET …), or name it in the pooler's "
            "ignore_startup_parameters"
        )
    if isinstance(error, sa.exc.ProgrammingError) or _LIBPQ_SETTING.search(text):
        return DatabaseRefused(f"CORD_DATABASE_URL is not understood: {message}. Correct it")
    if getattr(getattr(error.orig, "pgconn", None), "needs_password", False):
        return DatabaseRefused(
            f"PostgreSQL at {target.server} wants a password for role {target.role!r}, and there is none. Write it "
            "into CORD_DATABASE_URL, ~/.pgpass or PGPASSWORD"
        )
    if "SSL" in text or "certificate" in text:
        return DatabaseRefused(_tls_advice(text, message, target))
    if isinstance(error.orig, psycopg.errors.ConnectionTimeout) or is_unknown_host(error):
        return None
    state = _traced_state(url, arguments)
    return None if state is None else _refusal_of_state(state, message, target)


def unreachable_error(error: DBAPIError, url: sa.URL) -> StoreError:
    """The error for a database that did not become available in time."""
    target, message = Target.of(url), brief(error)
    if is_unknown_host(error):
        return StoreError(
            f"the database cannot be reached: no host is called {target.host!r}. Correct CORD_DATABASE_URL (in a "
            f"password, {ESCAPES})"
        )
    if "refused" in text_of(error):
        return StoreError(
            f"the database cannot be reached: nothing listens at {target.server}. Start PostgreSQL, or correct "
            "CORD_DATABASE_URL"
        )
    if state_of(error) == READ_ONLY:
        return StoreError(
            f"PostgreSQL at {target.server} takes no writes: {message}. Is it a standby, is its disk full, or is "
            "default_transaction_read_only on? Name the primary in CORD_DATABASE_URL (for several hosts: "
            "?host=A,B&target_session_attrs=read-write)"
        )
    if state_of(error) in CANCELLED:
        return StoreError(f"PostgreSQL at {target.server} cancelled the statement: {message}. Try again")
    return StoreError(f"the database cannot be reached: {message}. Is it running, and is CORD_DATABASE_URL right?")


def not_allowed_error(error: DBAPIError) -> StoreError:
    """The error for a role that is connected but lacks a privilege."""
    if "for schema" in text_of(error) or "for database" in text_of(error):
        return migration_denied_error(error)
    return StoreError(
        f"the database's role may not do this: {brief(error)}. Give CORD_DATABASE_URL a role that may "
        "(cordctl db grant --service ROLE makes one)"
    )


def migration_denied_error(error: DBAPIError) -> StoreError:
    """The error for a role that lacks the privilege to change the schema."""
    return StoreError(
        f"the database's role may not migrate: {brief(error)}. Migrate with the role that owns the tables "
        "(CORD_DATABASE_URL=… cordctl db upgrade) and give this one what it needs (cordctl db grant --service ROLE); "
        "in a new database make it the owner (ALTER DATABASE … OWNER TO …) or GRANT CREATE ON SCHEMA public TO it"
    )


def brief(error: DBAPIError) -> str:
    """The first line of the message of the server or libpq."""
    lines = text_of(error).strip().splitlines()
    return _MESSAGE_PREFIX.sub("", lines[0]) if lines else type(error.orig).__name__


def text_of(error: DBAPIError) -> str:
    """The whole message of the server or libpq."""
    return str(error.orig)


def _refusal_of_state(state: str, message: str, target: Target) -> DatabaseRefused | None:
    role, database, server = target.role, target.database, target.server
    if state not in _PERMANENT:
        return None
    if state == "3D000":
        return DatabaseRefused(
            f"there is no database {database!r} at {server}. Create it (createdb {target.options} -O {role} {database})"
            ", or correct CORD_DATABASE_URL"
        )
    if state == "28P01":
        return DatabaseRefused(
            f"PostgreSQL at {server} refuses role {role!r}: the password is wrong, or there is no such role. Correct "
            f"CORD_DATABASE_URL (in a password, {ESCAPES}), or create the role "
            f"(createuser {target.options} --pwprompt {role})"
        )
    if state == NOT_ALLOWED:
        return DatabaseRefused(
            f"role {role!r} may not connect to database {database!r} at {server}. Allow it (GRANT CONNECT ON DATABASE "
            f'"{database}" TO "{role}"), or correct CORD_DATABASE_URL'
        )
    if state == "28000" and "pg_hba.conf" in message:
        encrypted = (
            " It may accept an encrypted connection (add ?sslmode=require)." if "no encryption" in message else ""
        )
        return DatabaseRefused(
            f"PostgreSQL at {server} does not let role {role!r} into database {database!r} from here: {message}."
            f"{encrypted} Add a line to its pg_hba.conf, or correct CORD_DATABASE_URL"
        )
    if state == "28000":
        return DatabaseRefused(
            f"PostgreSQL at {server} refuses role {role!r}: {message}. Create it (createuser {target.options} {role}; "
            f'ALTER ROLE "{role}" LOGIN where it exists), or correct CORD_DATABASE_URL'
        )
    return DatabaseRefused(f"database {database!r} at {server} accepts no connections: {message}. Name another one")


def _tls_advice(text: str, message: str, target: Target) -> str:
    if "does not support SSL" in text:
        return (
            f"PostgreSQL at {target.server} offers no encryption, which CORD_DATABASE_URL asks for (sslmode). Turn "
            "`ssl` on in postgresql.conf, or leave sslmode out"
        )
    return (
        f"no encrypted connection to PostgreSQL at {target.server}: {message}. Correct sslmode, sslrootcert, sslcert "
        "or sslkey in CORD_DATABASE_URL"
    )


def _traced_state(url: sa.URL, arguments: dict[str, Any]) -> str | None:
    """SQLSTATE with which the server refuses one more connection; None if it accepts it, or if tracing fails."""
    _, parameters = sa.dialects.registry.load("postgresql.psycopg")().create_connect_args(url)
    try:
        connection = pq.PGconn.connect_start(conninfo.make_conninfo(**{**parameters, **arguments}).encode())
        if connection.status == pq.ConnStatus.BAD:
            return None
        return _trace(connection)
    except (psycopg.Error, OSError, AttributeError):  # this libpq or this system cannot trace
        return None


def _trace(connection: Any) -> str | None:
    """Completes a connection that was started; returns the SQLSTATE with which the server refused it, else None."""
    # The trace is written to memory, because it holds the password.
    file = os.memfd_create("trace")
    try:
        connection.trace(file)
        deadline = time.monotonic() + _TRACE_SECONDS
        while time.monotonic() < deadline:
            status = connection.connect_poll()
            if status not in (pq.PollingStatus.READING, pq.PollingStatus.WRITING):
                break
            waits = [connection.socket]
            reading = status == pq.PollingStatus.READING
            select.select(waits if reading else [], [] if reading else waits, [], _TRACE_SECONDS)
        connection.untrace()
        found = _TRACED_STATE.search(os.pread(file, _LONGEST_TRACE, 0))
        return None if found is None else found[1].decode()
    finally:
        connection.finish()
        os.close(file)


def _first(value: tuple[str, ...] | str | None) -> str | None:
    return value[0] if isinstance(value, tuple) else value
