"""`cordctl runs`, `status`, `stats`: what is known about runs."""

from __future__ import annotations

from pathlib import Path

import click

from cord_worker.cli.options import (
    NearChoice,
    NumberRange,
    json_option,
    newest_run_argument,
    print_json,
    print_result,
    read_settings,
    state_dir_option,
)

_STATISTICS = ("teachers", "tenths", "prefix_cache", "base_scores", "depths", "gains", "problems")


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
    type=NumberRange(min=0.2),
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
    from cord_worker.operations.run_status import report_on, watch_of
    from cord_worker.operations.run_watch import watch_run
    from cord_worker.progress import console, open_view, panel

    settings = read_settings(state_dir)
    timeout = settings.worker_timeout_seconds
    with open_database(settings) as database:
        watched = watch_of(database, run, worker_timeout_seconds=timeout)
        if watch:
            with open_view(as_json=as_json) as view:
                snapshot = watch_run(watched, view, interval_seconds=interval)
        else:
            snapshot = watched.snapshot()
        report = report_on(database, watched, snapshot, worker_timeout_seconds=timeout)
    if as_json:
        if not watch:
            print_json(report.to_json())
        return
    from cord_worker.cli.tables import print_failures, processes_table

    screen = console()
    screen.print(panel(snapshot, snapshot.seconds_since_start()))
    if report.processes:
        screen.print(processes_table(report.processes, report.names))
    print_failures(screen, report.causes, snapshot.counts.problems.get("failed", 0), snapshot.run)


@click.command()
@newest_run_argument
@click.option(
    "--plot", is_flag=True, help="Draw: teachers by tenth, scores by depth, gains by teacher, steps and tokens."
)
@click.option(
    "--csv",
    "csv_place",
    metavar="FOLDER",
    help="Write one CSV file per table into FOLDER; - prints the one of --table.",
)
@click.option("--table", type=NearChoice(_STATISTICS), help="With --csv -: the table to print.")
@state_dir_option
@json_option
def stats(
    run: str | None, plot: bool, csv_place: str | None, table: str | None, state_dir: Path | None, as_json: bool
) -> None:
    """Show how often each teacher was selected in RUN, by position.

    Figures are by tenth of the decoding position. Default: the newest run.

    `shared`: proposals whose text another teacher also proposed in the same step. `share`: share of the winning steps;
    a step that N proposals have in common counts 1/N for each of them, so that the shares add up to 1.

    The last line is about base scores: the prover's score of the known answer before any step.

    Scores by depth are read from every candidate of the run, which takes a while in a large run. They are in --plot,
    --csv FOLDER and the table depths; all other figures come from stored sums. With --json, --plot adds what it would
    draw.
    """
    from cord_worker.cli.tables import base_scores_lines, selection_tables
    from cord_worker.operations.database import open_database
    from cord_worker.operations.run_watch import read_teacher_selection
    from cord_worker.progress import console

    if (csv_place == "-") != (table is not None):
        raise click.UsageError("--csv - prints one table, which --table NAME names; --csv FOLDER writes all of them")
    if csv_place is not None and (plot or (as_json and table is not None)):
        raise click.UsageError("--csv, --plot and --json are different outputs: give one of them")
    if plot or csv_place is not None:
        _print_statistics(run, csv_place, table, state_dir, as_json=as_json)
        return
    with open_database(read_settings(state_dir)) as database:
        selection = database.run(lambda connection: read_teacher_selection(connection, run))
    if as_json:
        print_json(selection.to_json())
        return
    screen = console()
    for printed in selection_tables(selection):
        screen.print(printed)
    for line in base_scores_lines(selection):
        screen.print(line, soft_wrap=True)


def _print_statistics(
    run: str | None, csv_place: str | None, table: str | None, state_dir: Path | None, *, as_json: bool
) -> None:
    from cord_worker.cli.plots import plots
    from cord_worker.display_text import shown
    from cord_worker.operations.database import open_database
    from cord_worker.operations.run_statistics import read_statistics
    from cord_worker.progress import console

    with open_database(read_settings(state_dir)) as database:
        found = database.run(
            lambda connection: read_statistics(connection, run, _STATISTICS if table is None else (table,))
        )
    if table is not None:
        click.echo(found.csv(table), nl=False)
    elif csv_place is not None:
        paths = [str(path) for path in found.write_csv(Path(csv_place))]
        print_result("\n".join(map(shown, paths)), {"run": found.selection.run, "files": paths}, as_json=as_json)
    elif as_json:
        print_json(found.to_json())
    else:
        screen = console()
        click.echo(f"run {shown(found.selection.run)}")
        for plot in plots(screen, found):
            click.echo(f"\n{plot}")
