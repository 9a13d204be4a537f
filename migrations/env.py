"""Alembic environment: migrates the database that the service itself would use."""

from __future__ import annotations

from alembic import context

from cord_worker.endpoints import database_url
from cord_worker.store.database import connect_for_migration
from cord_worker.store.models import Base


def run() -> None:
    url = context.config.attributes.get("url") or database_url()
    if context.is_offline_mode():
        context.configure(url=url, target_metadata=Base.metadata, literal_binds=True)
        with context.begin_transaction():
            context.run_migrations()
        return
    with connect_for_migration(url) as connection:
        context.configure(connection=connection, target_metadata=Base.metadata)
        with context.begin_transaction():
            context.run_migrations()


run()
