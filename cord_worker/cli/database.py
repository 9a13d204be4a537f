"""`cordctl db`."""

from __future__ import annotations

from pathlib import Path

import click

from cord_worker.cli.options import confirm, read_settings, state_dir_option

_beside_workers_option = click.option(
    "--beside-workers", is_flag=True, help="Although workers are up: they hand their work back and end."
)


@click.group()
def db() -> None:
    """Migrate the database (the same as alembic upgrade head), and say who may do what in it."""


@db.command()
@click.argument("revision", default="head")
@_beside_workers_option
@state_dir_option
def upgrade(revision: str, beside_workers: bool, state_dir: Path | None) -> None:
    """Migrate to REVISION (default: the newest); refused while workers are up that know only the schema as it is."""
    from cord_worker.operations.database import current_revision, database_url_for
    from cord_worker.store import schema

    with database_url_for(read_settings(state_dir)) as url:
        schema.upgrade(url, revision, beside_workers=beside_workers)
        click.echo(f"database is at {current_revision(url) or 'nothing'}")


@db.command()
@click.argument("revision")
@click.option("--yes", is_flag=True, help="Do not ask.")
@_beside_workers_option
@state_dir_option
def downgrade(revision: str, yes: bool, beside_workers: bool, state_dir: Path | None) -> None:
    """Migrate back to REVISION; `base` drops everything."""
    from cord_worker.operations.database import current_revision, database_url_for
    from cord_worker.store import schema

    if not yes:
        confirm(f"Migrate back to {revision}? Tables that are newer are dropped with their rows.")
    with database_url_for(read_settings(state_dir)) as url:
        schema.downgrade(url, revision, beside_workers=beside_workers)
        click.echo(f"database is at {current_revision(url) or 'nothing'}")


@db.command()
@click.option(
    "--service", metavar="ROLE", help="May read and write rows, but change no table: workers, coordinators, commands."
)
@click.option("--analyst", metavar="ROLE", help="May read everything and write nothing.")
@state_dir_option
def grant(service: str | None, analyst: str | None, state_dir: Path | None) -> None:
    """Give roles that exist what they need and no more; run it as the role that migrates."""
    from cord_worker.operations.database import open_database
    from cord_worker.store.roles import grant_analyst, grant_service

    if service is None and analyst is None:
        raise click.UsageError("name a role: --service ROLE, --analyst ROLE, or both")
    with open_database(read_settings(state_dir)) as database:
        if service is not None:
            database.run(lambda connection: grant_service(connection, service))
            click.echo(f"{service} may read and write rows")
        if analyst is not None:
            database.run(lambda connection: grant_analyst(connection, analyst))
            click.echo(f"{analyst} may read")


@db.command()
@state_dir_option
def current(state_dir: Path | None) -> None:
    """Show the database's revision and the one that this code needs."""
    from cord_worker.operations.database import current_revision, database_url_for
    from cord_worker.store.schema import head_revision

    with database_url_for(read_settings(state_dir)) as url:
        click.echo(f"database is at {current_revision(url) or 'nothing'}, this code needs {head_revision()}")


@db.command()
@state_dir_option
def check(state_dir: Path | None) -> None:
    """Exit with 1 unless the database has the schema that this code needs."""
    from cord_worker.operations.database import open_database

    with open_database(read_settings(state_dir)):
        click.echo("the schema is current")


@db.command(context_settings={"ignore_unknown_options": True})
@state_dir_option
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[PSQL_ARGUMENT]...")
def psql(arguments: tuple[str, ...], state_dir: Path | None) -> None:
    """Run psql on the database, as in db psql -c "SELECT ..."; an embedded one is started for it."""
    from cord_worker.operations.psql import run_psql

    raise SystemExit(run_psql(read_settings(state_dir), arguments))
