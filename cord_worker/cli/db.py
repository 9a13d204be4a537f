"""`cordctl db`."""

from __future__ import annotations

from pathlib import Path

import click

from cord_worker.cli.command_groups import SentenceGroup
from cord_worker.cli.options import confirm, json_option, print_result, read_settings, state_dir_option, yes_option

_while_workers_run_option = click.option(
    "--while-workers-run", is_flag=True, help="Migrate while workers run: they return their leases and exit."
)


@click.group(cls=SentenceGroup)
def db() -> None:
    """Migrate the database, and grant rights in it.

    In a checkout, db upgrade is the same as alembic upgrade head.
    """


@db.command()
@click.argument("revision", default="head")
@_while_workers_run_option
@state_dir_option
@json_option
def upgrade(revision: str, while_workers_run: bool, state_dir: Path | None, as_json: bool) -> None:
    """Migrate to REVISION (default: head, the newest).

    Refused while workers that know only the present schema are running.
    """
    from cord_worker.operations.database import current_revision, database_url_for
    from cord_worker.store.schema import migration

    with database_url_for(read_settings(state_dir)) as url:
        migration.upgrade(url, revision, while_workers_run=while_workers_run)
        _print_revision(current_revision(url), as_json=as_json)


@db.command()
@click.argument("revision")
@yes_option
@_while_workers_run_option
@state_dir_option
@json_option
def downgrade(revision: str, yes: bool, while_workers_run: bool, state_dir: Path | None, as_json: bool) -> None:
    """Migrate back to REVISION; base drops everything."""
    from cord_worker.operations.database import current_revision, database_url_for
    from cord_worker.store.schema import migration

    if not yes:
        confirm(f"Migrate back to {revision}? Newer tables are dropped with their rows.")
    with database_url_for(read_settings(state_dir)) as url:
        migration.downgrade(url, revision, while_workers_run=while_workers_run)
        _print_revision(current_revision(url), as_json=as_json)


@db.command()
@click.option(
    "--service",
    metavar="ROLE",
    help="Role that may read and write rows but not change tables: for workers, coordinators and commands.",
)
@click.option("--analyst", metavar="ROLE", help="Role that may read everything and write nothing.")
@state_dir_option
@json_option
def grant(service: str | None, analyst: str | None, state_dir: Path | None, as_json: bool) -> None:
    """Grant existing roles the rights that they need, and no more.

    Run it as the role that migrates.
    """
    from cord_worker.operations.database import open_database
    from cord_worker.store.schema.roles import grant_analyst, grant_service

    if service is None and analyst is None:
        raise click.UsageError("name a role: --service ROLE, --analyst ROLE, or both")
    granted: list[str] = []
    with open_database(read_settings(state_dir)) as database:
        if service is not None:
            database.run(lambda connection: grant_service(connection, service))
            granted.append(f"{service} may read and write rows")
        if analyst is not None:
            database.run(lambda connection: grant_analyst(connection, analyst))
            granted.append(f"{analyst} may read")
    print_result("\n".join(granted), {"service": service, "analyst": analyst}, as_json=as_json)


@db.command()
@state_dir_option
@json_option
def current(state_dir: Path | None, as_json: bool) -> None:
    """Show the database's revision and the one that this code needs."""
    from cord_worker.operations.database import current_revision, database_url_for
    from cord_worker.store.schema.version import head_revision

    with database_url_for(read_settings(state_dir)) as url:
        found, needed = current_revision(url), head_revision()
    sentence = f"{_revision_sentence(found)}; this code needs {needed}"
    print_result(sentence, {"revision": found, "needed": needed}, as_json=as_json)


@db.command()
@state_dir_option
@json_option
def check(state_dir: Path | None, as_json: bool) -> None:
    """Exit with 1 unless the database has the schema that this code needs."""
    from cord_worker.operations.database import open_database

    with open_database(read_settings(state_dir)):
        print_result("the schema is current", {"current": True}, as_json=as_json)


@db.command(context_settings={"ignore_unknown_options": True})
@state_dir_option
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[PSQL_ARGUMENT]...")
def psql(arguments: tuple[str, ...], state_dir: Path | None) -> None:
    """Run psql on the database; start an embedded database if needed.

    All arguments are passed to psql, such as -c 'SELECT count(*) FROM candidates'.
    """
    from cord_worker.operations.psql import run_psql

    raise SystemExit(run_psql(read_settings(state_dir), arguments))


def _print_revision(revision: str | None, *, as_json: bool) -> None:
    print_result(_revision_sentence(revision), {"revision": revision}, as_json=as_json)


def _revision_sentence(revision: str | None) -> str:
    return "the database has no schema" if revision is None else f"the database is at revision {revision}"
