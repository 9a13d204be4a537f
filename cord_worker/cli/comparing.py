"""`cordctl compare` and `cordctl cost`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cord_worker.cli.options import json_option, print_json, read_settings, state_dir_option

if TYPE_CHECKING:
    from rich.table import Table

    from cord_worker.operations.comparing import Comparison, Cost, Interval


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@state_dir_option
@json_option
def compare(runs: tuple[str, ...], state_dir: Path | None, as_json: bool) -> None:
    """Show runs of one dataset side by side, on the problems that all of them ended.

    Differences are to the first RUN; intervals are 95 % of a paired bootstrap over the problems.
    """
    from cord_worker.operations.comparing import compare_runs
    from cord_worker.operations.database import open_database
    from cord_worker.progress import console

    with open_database(read_settings(state_dir)) as database:
        comparison = database.run(lambda connection: compare_runs(connection, runs))
    if as_json:
        print_json(comparison.to_json())
        return
    screen = console()
    screen.print(_comparison_table(comparison))
    screen.print(f"{comparison.problems:,} problems in common; * the interval of the difference excludes 0")


@click.command()
@click.argument("run", required=False)
@state_dir_option
@json_option
def cost(run: str | None, state_dir: Path | None, as_json: bool) -> None:
    """Show what RUN (default: the newest) cost: tokens in and out and engine seconds by model, wall time."""
    from cord_worker.operations.comparing import read_cost
    from cord_worker.operations.database import open_database
    from cord_worker.progress import console

    with open_database(read_settings(state_dir)) as database:
        found = database.run(lambda connection: read_cost(connection, run))
    if as_json:
        print_json(found.to_json())
        return
    screen = console()
    screen.print(_cost_table(found))
    walls = found.walls
    if walls.problems:
        mean = walls.problem_seconds or 0.0
        screen.print(
            f"{walls.problems:,} problems in {walls.run_seconds:,.1f} s (mean of one: {mean:,.1f} s). "
            f"Engine seconds a problem: generation {_generation(found)}, prover {_scoring(found)}"
        )


def _comparison_table(comparison: Comparison) -> Table:
    from rich.table import Table
    from rich.text import Text

    from cord_worker.progress import percent, shown

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for title in (
        "run",
        "pipeline",
        "accuracy",
        "difference",
        "mean score",
        "difference",
        "tokens / problem",
        "generation s",
        "prover s",
        "winning steps",
    ):
        words = {"run", "pipeline", "winning steps"}
        table.add_column(title, justify="left" if title in words else "right", overflow="fold")
    for run in comparison.runs:
        table.add_row(
            Text(shown(run.run)),
            run.pipeline,
            _percent_interval(run.accuracy),
            _percent_interval(run.accuracy_difference, signed=True),
            _figure_interval(run.score),
            _figure_interval(run.score_difference, signed=True),
            f"{run.tokens_per_problem:,.0f}",
            _generation(run.cost),
            _scoring(run.cost),
            Text(", ".join(f"{shown(teacher.name)} {percent(teacher.share)}" for teacher in run.teachers)),
        )
    return table


def _cost_table(found: Cost) -> Table:
    from rich.table import Table
    from rich.text import Text

    from cord_worker.progress import shown

    title = f"{shown(found.run)}: engines (engine s: working on at least one such request)"
    table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    words = {"model", "kind"}
    for name in ("model", "kind", "requests", "tokens in", "cached", "tokens out", "engine s", "request s"):
        table.add_column(name, justify="left" if name in words else "right")
    for row in found.rows:
        table.add_row(
            Text(shown(row.model), overflow="fold"),
            row.kind,
            f"{row.requests:,}",
            f"{row.prompt_tokens:,}",
            f"{row.cached_tokens:,}",
            f"{row.completion_tokens:,}",
            f"{row.engine_seconds:,.1f}",
            f"{row.request_seconds:,.1f}",
        )
    return table


def _generation(found: Cost) -> str:
    from cord_worker.operations.comparing import GENERATION

    return _seconds(found.seconds_per_problem(GENERATION))


def _scoring(found: Cost) -> str:
    from cord_worker.operations.comparing import SCORING

    return _seconds(found.seconds_per_problem(SCORING))


def _seconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:,.2f}"


def _percent_interval(interval: Interval | None, *, signed: bool = False) -> str:
    if interval is None:
        return "-"
    sign = "+" if signed else ""
    mark = " *" if signed and interval.excludes_zero else ""
    return f"{100 * interval.mean:{sign}.1f} % [{100 * interval.low:{sign}.1f}, {100 * interval.high:{sign}.1f}]{mark}"


def _figure_interval(interval: Interval | None, *, signed: bool = False) -> str:
    if interval is None:
        return "-"
    sign = "+" if signed else ""
    mark = " *" if signed and interval.excludes_zero else ""
    return f"{interval.mean:{sign}.3f} [{interval.low:{sign}.3f}, {interval.high:{sign}.3f}]{mark}"
