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
    """A name that this database and its standbys share with no other database; a restored copy has another one."""
    return str(connection.execute(_IDENTITY).scalar_one())
