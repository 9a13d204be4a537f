"""`cordctl runs`, `status`, `stats`, `pause`, `resume`, `cancel`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from cord_worker.cli.options import (
    confirm,
    json_option,
    newest_run_argument,
    print_json,
    print_result,
    read_settings,
    run_argument,
    state_dir_option,
    yes_option,
)


@click.command()
@state_dir_option
@json_option
def runs(state_dir: Path | None, as_json: bool) -> None:
    """List the runs, oldest first."""
    from cord_worker.cli.tables import runs_table
    from cord_worker.operations.database import open_database
    from cord_worker.operations.watching import list_overviews
    from cord_worker.progress import console

    with open_database(read_settings(state_dir)) as database:
        overviews = database.run(list_overviews)
    if as_json:
        print_json({"runs": [overview.to_json() for overview in overviews]})
    elif overviews:
        console().print(runs_table(overviews))
    else:
        click.echo("there are no runs yet. Start one with: cordctl enqueue DATASET")


@click.command()
@newest_run_argument
@click.option("--watch", is_flag=True, help="Go on until every problem is final (Ctrl-C ends the watching only).")
@click.option(
    "--interval",
    type=click.FloatRange(min=0.2),
    default=1.0,
    show_default=True,
    help="Seconds between two looks with --watch.",
)
@state_dir_option
@json_option
def status(run: str | None, watch: bool, interval: float, state_dir: Path | None, as_json: bool) -> None:
    """Show where RUN stands.

    The newest run where none is named.
    """
    from cord_worker.operations.database import open_database
    from cord_worker.operations.watching import RunWatch, watch_run
    from cord_worker.progress import console, open_view, panel
    from cord_worker.store.failures import failure_causes
    from cord_worker.store.fleet import live_processes
    from cord_worker.store.runs import resolve_run

    settings = read_settings(state_dir)
    with open_database(settings) as database:
        row = database.run(lambda connection: resolve_run(connection, run))
        watched = RunWatch(database, row, worker_timeout_seconds=settings.worker_timeout_seconds)
        if watch:
            with open_view(as_json=as_json) as view:
                snapshot = watch_run(watched, view, interval_seconds=interval)
        else:
            snapshot = watched.snapshot()
        causes = database.run(lambda connection: failure_causes(connection, row.id, 5))
        processes = database.run(lambda connection: live_processes(connection, settings.worker_timeout_seconds))
    if as_json:
        if not watch:
            document = {
                "processes": [one.to_json(watched.names) for one in processes],
                "failures": [asdict(cause) for cause in causes],
            }
            print_json({**snapshot.to_json(), **document})
        return
    from cord_worker.cli.tables import print_failures, processes_table

    screen = console()
    screen.print(panel(snapshot, snapshot.seconds_since_start()))
    if processes:
        screen.print(processes_table(processes, watched.names))
    print_failures(screen, causes, snapshot.counts.problems.get("failed", 0), row.name)


@click.command()
@newest_run_argument
@state_dir_option
@json_option
def stats(run: str | None, state_dir: Path | None, as_json: bool) -> None:
    """Show which teacher was selected where in RUN.

    By tenth of the decoding position. The newest run where none is named.

    `shared`: proposals whose text another teacher proposed in the same step, too. `share`: part of the winning steps; a
    step that N proposals have in common counts 1/N for each, so that the shares add up to 1.
    """
    from cord_worker.cli.tables import selection_tables
    from cord_worker.operations.database import open_database
    from cord_worker.operations.watching import read_selection
    from cord_worker.progress import console

    with open_database(read_settings(state_dir)) as database:
        selection = database.run(lambda connection: read_selection(connection, run))
    if as_json:
        print_json(selection.to_json())
        return
    screen = console()
    for table in selection_tables(selection):
        screen.print(table)


@click.command()
@run_argument
@state_dir_option
@json_option
def pause(run: str, state_dir: Path | None, as_json: bool) -> None:
    """Begin no new work of RUN; what is being generated is still written."""
    from cord_worker.operations.database import open_database
    from cord_worker.store.lifecycle import pause_run

    with open_database(read_settings(state_dir)) as database:
        changed = database.run(lambda connection: pause_run(connection, run))
    sentence = f"run {run} is paused. Go on with: cordctl resume {run}" if changed else f"run {run} was paused already"
    print_result(sentence, {"run": run, "state": "paused", "changed": changed}, as_json=as_json)


@click.command()
@run_argument
@state_dir_option
@json_option
def resume(run: str, state_dir: Path | None, as_json: bool) -> None:
    """Go on with a paused RUN."""
    from cord_worker.operations.database import open_database
    from cord_worker.operations.watching import missing_workers
    from cord_worker.progress import without_workers
    from cord_worker.store.lifecycle import resume_run

    settings = read_settings(state_dir)
    with open_database(settings) as database:
        changed = database.run(lambda connection: resume_run(connection, run))
        missing = database.run(lambda c: missing_workers(c, run, settings.worker_timeout_seconds))
    sentence = f"run {run} goes on" if changed else f"run {run} was active already"
    document = {"run": run, "state": "active", "changed": changed, "missing_workers": missing}
    print_result(f"{sentence}\n{without_workers(missing)}" if missing else sentence, document, as_json=as_json)


@click.command()
@run_argument
@yes_option
@state_dir_option
@json_option
def cancel(run: str, yes: bool, state_dir: Path | None, as_json: bool) -> None:
    """End RUN for good; what is finished stays and can be exported."""
    from cord_worker.operations.database import open_database
    from cord_worker.store.lifecycle import cancel_run

    if not yes:
        confirm(f"Cancel run {run} for good?")
    with open_database(read_settings(state_dir)) as database:
        count = database.run(lambda connection: cancel_run(connection, run))
    document = {"run": run, "state": "cancelled", "cancelled": count}
    unfinished = f"{count:,} {'problem was' if count == 1 else 'problems were'} not finished"
    print_result(f"run {run} is cancelled: {unfinished}", document, as_json=as_json)
