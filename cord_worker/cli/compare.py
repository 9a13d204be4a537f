"""`cordctl compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cord_worker.cli.options import json_option, print_json, read_settings, state_dir_option

if TYPE_CHECKING:
    from rich.table import Table

    from cord_worker.operations.comparison import CostedRun, RunComparison


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@state_dir_option
@json_option
def compare(runs: tuple[str, ...], state_dir: Path | None, as_json: bool) -> None:
    """Compare runs of one dataset on the problems that all of them ended.

    Differences are to the first RUN. Intervals are 95 %, from a paired bootstrap over the problems.
    """
    from cord_worker.operations.comparison import compare_runs
    from cord_worker.operations.database import open_database
    from cord_worker.progress import console

    with open_database(read_settings(state_dir)) as database:
        comparison = database.run(lambda connection: compare_runs(connection, runs))
    if as_json:
        print_json(comparison.to_json())
        return
    screen = console()
    screen.print(_comparison_table(comparison))
    screen.print(f"{comparison.problems:,} problems in common; *: the interval of the difference excludes 0")


def _comparison_table(comparison: RunComparison[CostedRun]) -> Table:
    from rich.table import Table
    from rich.text import Text

    from cord_worker.cli.tables import figure_interval, percent_interval, points_interval
    from cord_worker.operations.run_cost import GENERATION, SCORING
    from cord_worker.progress import figure, percent, shown

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for title in (
        "run",
        "pipeline",
        "accuracy",
        "undecided",
        "difference (points)",
        "mean score",
        "difference",
        "tokens / problem",
        "generation s",
        "prover s",
        "hit rates",
    ):
        words = {"run", "pipeline", "hit rates"}
        table.add_column(title, justify="left" if title in words else "right", overflow="fold")
    for run in comparison.runs:
        table.add_row(
            Text(shown(run.run)),
            run.pipeline,
            percent_interval(run.accuracy),
            f"{run.undecided:,}",
            points_interval(run.accuracy_difference),
            figure_interval(run.score),
            figure_interval(run.score_difference, signed=True),
            "-" if run.tokens is None else f"{run.tokens.mean:,.0f}",
            figure(run.cost.seconds_per_problem(GENERATION), 2),
            figure(run.cost.seconds_per_problem(SCORING), 2),
            Text(", ".join(f"{shown(teacher.name)} {percent(teacher.share)}" for teacher in run.teachers)),
        )
    return table
