"""Alembic environment: migrates the database that the service itself would use."""

from __future__ import annotations

from alembic import context

from cord_worker.config import Settings
from cord_worker.endpoints import database_url
from cord_worker.store.database import connect_for_migration
from cord_worker.store.schema.migration import check_no_workers
from cord_worker.store.schema.tables import Base


def _may_migrate_while_workers_run() -> bool:
    return bool(
        context.config.attributes.get("while_workers_run")
        or "while-workers-run" in context.get_x_argument(as_dictionary=True)
    )


def _changes_the_schema() -> bool:
    try:
        wanted = context.get_revision_argument()
    except KeyError:  # a command that changes nothing
        return False
    return context.get_context().get_current_revision() != wanted


def run() -> None:
    url = context.config.attributes.get("url") or database_url()
    if context.is_offline_mode():
        context.configure(url=url, target_metadata=Base.metadata, literal_binds=True)
        with context.begin_transaction():
            context.run_migrations()
        return
    with connect_for_migration(url) as connection:
        context.configure(connection=connection, target_metadata=Base.metadata)
        if _changes_the_schema() and not _may_migrate_while_workers_run():
            check_no_workers(connection, Settings.from_environment().worker_timeout_seconds)
        context.run_migrations()


run()
