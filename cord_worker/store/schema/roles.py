"""Grants only the privileges that are needed, to the service's role and to an analyst's role; a third role owns and
migrates the tables."""

from __future__ import annotations

import sqlalchemy as sa

from cord_worker.errors import StoreError

_ROLE_EXISTS = sa.text("SELECT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = :role)")
_SCHEMA = sa.text("SELECT current_schema()")

_MAY_GRANT_TEMPORARY = sa.text(
    "SELECT current_database(), has_database_privilege(current_database(), 'TEMPORARY WITH GRANT OPTION')"
)
_SERVICE_TEMPORARY = "GRANT TEMPORARY ON DATABASE {database} TO {role}"
"""Needed because enqueuing stages its rows in a temporary table."""
_ANALYST_TEMPORARY = "REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC"

_SERVICE = (
    "GRANT USAGE ON SCHEMA {schema} TO {role}",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role}",
    "REVOKE INSERT, UPDATE, DELETE ON alembic_version FROM {role}",
    "ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {role}",
)
_ANALYST = (
    "GRANT USAGE ON SCHEMA {schema} TO {role}",
    "GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {role}",
    "ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT SELECT ON TABLES TO {role}",
)

_MAY = sa.text(
    """
    SELECT current_user AS role, current_setting('default_transaction_read_only') = 'on' AS is_read_only,
           pg_is_in_recovery() AS is_standby,
           has_table_privilege('problems', 'INSERT') AND has_table_privilege('candidates', 'UPDATE') AS may_write,
           has_database_privilege(current_database(), 'TEMPORARY') AS may_stage
    """
)


def find_hindrances(connection: sa.Connection) -> list[tuple[str, str]]:
    """What prevents this role from doing the service's work in this database: pairs of a hindrance and its remedy."""
    row = connection.execute(_MAY).one()
    grants = f"run as the role that migrates: cordctl db grant --service {row.role}"
    found = []
    if row.is_standby:
        found.append(("this server is a standby and takes no writes", "name the primary in CORD_DATABASE_URL"))
    elif row.is_read_only:
        found.append(("default_transaction_read_only is on here", "turn it off; all work waits until then"))
    if not row.may_write:
        found.append((f"role {row.role!r} may not write to the tables", grants))
    elif not row.may_stage:
        found.append((f"role {row.role!r} may not make temporary tables, which enqueuing needs", grants))
    return found


def grant_service(connection: sa.Connection, role: str) -> None:
    """Lets `role` do what workers, coordinators and commands do: read and write rows, but not change the schema.

    Tables that the connection's user makes later are included. Raises StoreError if there is no such role.
    """
    _grant(connection, role, _SERVICE, _SERVICE_TEMPORARY)


def grant_analyst(connection: sa.Connection, role: str) -> None:
    """Lets `role` read every table and view, and nothing else; see `grant_service`.

    If the connection's user owns the database, this revokes TEMPORARY from PUBLIC. Then roles without their own grant
    can make no temporary tables.
    """
    _grant(connection, role, _ANALYST, _ANALYST_TEMPORARY)


def _grant(connection: sa.Connection, role: str, statements: tuple[str, ...], temporary: str) -> None:
    if not connection.execute(_ROLE_EXISTS, {"role": role}).scalar_one():
        raise StoreError(
            f"there is no role {role!r} in this PostgreSQL. Make it first, in psql: CREATE ROLE name LOGIN; "
            "\\password name"
        )
    quote = connection.dialect.identifier_preparer.quote_identifier
    database, owns = connection.execute(_MAY_GRANT_TEMPORARY).one()
    schema = connection.execute(_SCHEMA).scalar_one()
    names = {"role": quote(role), "schema": quote(schema), "database": quote(database)}
    for statement in (*statements, temporary) if owns else statements:
        connection.execute(sa.text(statement.format(**names)))
