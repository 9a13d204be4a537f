"""`cordctl show`."""

from __future__ import annotations

from pathlib import Path

import click

from cord_worker.cli.options import json_option, newest_run_argument, print_json, read_settings, state_dir_option


@click.command()
@click.argument("problem")
@newest_run_argument
@click.option("--step", type=click.IntRange(min=1), help="Show every candidate of this step.")
@click.option("--text", is_flag=True, help="Show the texts in full: of the winner, or with --step of its candidates.")
@state_dir_option
@json_option
def show(problem: str, run: str | None, step: int | None, text: bool, state_dir: Path | None, as_json: bool) -> None:
    """Show the search of PROBLEM: one column for each step, one row for each slot of the beam.

    PROBLEM is the problem's id in the dataset, or `best`: the problem with the best result. Default for RUN: the newest
    run.

    Each slot shows the teacher, the score, and the gain: how much the score rose with this step. * marks the winner's
    steps, = a trajectory of an earlier step that kept its slot. The lines below the grid say how many candidates each
    step lost, and why. --json prints the whole search.
    """
    from cord_worker.cli.search_tables import print_path, print_search, print_step
    from cord_worker.operations.database import open_database
    from cord_worker.operations.search_grid import read_grid
    from cord_worker.progress import console

    with open_database(read_settings(state_dir)) as database:
        grid = database.run(lambda connection: read_grid(connection, run, problem))
    column = None if step is None else grid.column(step)
    if as_json:
        print_json(grid.to_json())
        return
    screen = console()
    if column is not None:
        print_step(screen, grid, column, in_full=text)
        return
    print_search(screen, grid)
    if text:
        print_path(screen, grid)
