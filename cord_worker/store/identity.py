"""Names a database, so that two services with one broker notice each other."""

from __future__ import annotations

import sqlalchemy as sa

_IDENTITY = sa.text(
    """
    SELECT (SELECT system_identifier FROM pg_control_system()) || '/'
           || (SELECT oid FROM pg_database WHERE datname = current_database())
    """
)


def database_identity(connection: sa.Connection) -> str:
    """The name of this database and its standbys. No other database has it; one restored from a dump has another
    name."""
    return str(connection.execute(_IDENTITY).scalar_one())
