"""`cordctl runs`, `status`, `stats`: what is known about runs."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from cord_worker.cli.options import (
    json_option,
    newest_run_argument,
    print_json,
    read_settings,
    state_dir_option,
)


@click.command()
@state_dir_option
@json_option
def runs(state_dir: Path | None, as_json: bool) -> None:
    """List the runs, oldest first."""
    from cord_worker.cli.tables import runs_table
    from cord_worker.operations.database import open_database
    from cord_worker.operations.run_watch import list_overviews
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
@click.option("--watch", is_flag=True, help="Update until every problem is final (Ctrl-C ends only this command).")
@click.option(
    "--interval",
    type=click.FloatRange(min=0.2),
    default=1.0,
    show_default=True,
    help="With --watch: seconds between two updates.",
)
@state_dir_option
@json_option
def status(run: str | None, watch: bool, interval: float, state_dir: Path | None, as_json: bool) -> None:
    """Show the progress of RUN.

    Default: the newest run.
    """
    from cord_worker.operations.database import open_database
    from cord_worker.operations.run_watch import RunWatch, watch_run
    from cord_worker.progress import console, open_view, panel
    from cord_worker.store.reports.failure_causes import failure_causes
    from cord_worker.store.runs.processes import live_processes
    from cord_worker.store.runs.runs import resolve_run

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
    """Show how often each teacher was selected in RUN, by position.

    Figures are by tenth of the decoding position. Default: the newest run.

    `shared`: proposals whose text another teacher also proposed in the same step. `share`: share of the winning steps;
    a step that N proposals have in common counts 1/N for each of them, so that the shares add up to 1.
    """
    from cord_worker.cli.tables import selection_tables
    from cord_worker.operations.database import open_database
    from cord_worker.operations.run_watch import read_teacher_selection
    from cord_worker.progress import console

    with open_database(read_settings(state_dir)) as database:
        selection = database.run(lambda connection: read_teacher_selection(connection, run))
    if as_json:
        print_json(selection.to_json())
        return
    screen = console()
    for table in selection_tables(selection):
        screen.print(table)
