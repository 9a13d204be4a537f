"""`cordctl cost`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cord_worker.cli.options import json_option, prices_option, print_json, read_settings, state_dir_option
from cord_worker.display_text import counted

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from cord_worker.operations.comparison import CostedRun, RunComparison
    from cord_worker.operations.run_cost import Cost
    from cord_worker.store.runs.spending import Money


@click.command()
@click.argument("runs", nargs=-1, metavar="[RUN]...")
@click.option(
    "--table",
    type=click.Choice(["14", "15"]),
    help="One line per run, as in a table of the paper. 14: seconds per question of generation and prover. 15: "
    "accuracy and mean score over the problems that all RUNs finished; tokens and seconds per question over all "
    "problems of each run.",
)
@prices_option
@state_dir_option
@json_option
def cost(
    runs: tuple[str, ...], table: str | None, prices_path: Path | None, state_dir: Path | None, as_json: bool
) -> None:
    """Show what each RUN cost: tokens, engine seconds, wall time and money.

    Without RUN, the newest run is shown. --json prints one object; for several runs, or with --table, it holds the
    list `runs`.
    """
    from cord_worker.config import Prices
    from cord_worker.operations.comparison import compare_runs
    from cord_worker.operations.database import open_database
    from cord_worker.operations.run_cost import read_cost
    from cord_worker.progress import console
    from cord_worker.store.runs.runs import resolve_run

    prices = None if prices_path is None else Prices.load(prices_path)
    with open_database(read_settings(state_dir)) as database:
        if table == "15":
            comparison = database.run(
                lambda connection: compare_runs(connection, runs or (resolve_run(connection, None).name,), prices)
            )
        else:
            found = database.run(lambda connection: [read_cost(connection, run, prices) for run in runs or (None,)])
    if as_json:
        if table == "15":
            print_json(comparison.to_json())
        else:
            documents = [one.to_json() for one in found]
            print_json(documents[0] if len(runs) < 2 and table is None else {"runs": documents})
        return
    screen = console()
    if table == "15":
        screen.print(_table_15(comparison))
        screen.print(f"{counted(comparison.problems, 'problem')} in common; costs are of all problems of a run")
    elif table == "14":
        screen.print(_table_14(found))
    else:
        for one in found:
            _print_cost(screen, one)


def _print_cost(screen: Console, found: Cost) -> None:
    from cord_worker.operations.run_cost import GENERATION, SCORING
    from cord_worker.progress import figure

    screen.print(_cost_table(found))
    walls = found.walls
    if walls.problems:
        screen.print(
            f"{counted(walls.problems, 'problem')} in {walls.run_seconds:,.1f} s, from the first request to the end of "
            f"the last problem. Engine seconds per problem: generation "
            f"{figure(found.seconds_per_problem(GENERATION), 2)}, prover "
            f"{figure(found.seconds_per_problem(SCORING), 2)}. Mean wall time of a problem: "
            f"{figure(walls.problem_seconds, 1)} s, of which generation {figure(walls.generation_seconds, 1)} s, "
            f"prover {figure(walls.scoring_seconds, 1)} s"
        )
    if found.money is not None:
        screen.print(_money_table(found, found.money))


def _money_table(found: Cost, spent: Money) -> Table:
    from rich.text import Text

    from cord_worker.progress import figure, money, shown

    table = _table(
        ("model", "for tokens", "GPU hours", "for GPUs", "total", "share"),
        1,
        f"{shown(found.run)}: {shown(spent.currency)}",
    )
    for model in spent.models:
        table.add_row(
            Text(shown(model.model), overflow="fold"),
            money(model.of_tokens),
            figure(model.gpu_hours, 4),
            money(model.of_gpus) if model.gpu_hours is not None else "-",
            money(model.total),
            f"{100 * model.total / spent.total:.1f} %" if spent.total else "-",
        )
    table.add_row("total", "", "", "", money(spent.total), "")
    if found.money_per_problem is not None:
        table.add_row("per problem", "", "", "", money(found.money_per_problem), "")
    return table


def _cost_table(found: Cost) -> Table:
    from rich.text import Text

    from cord_worker.progress import shown

    title = f"{shown(found.run)}: engines (engine s: time with at least one such request running)"
    table = _table(
        ("model", "kind", "requests", "tokens in", "cached", "tokens out", "engine s", "per problem", "request s"),
        2,
        title,
    )
    for row in found.rows:
        share = f"{row.engine_seconds / found.walls.problems:,.2f}" if found.walls.problems else "-"
        table.add_row(
            Text(shown(row.model), overflow="fold"),
            row.kind,
            f"{row.requests:,}",
            f"{row.prompt_tokens:,}",
            f"{row.cached_tokens:,}",
            f"{row.completion_tokens:,}",
            f"{row.engine_seconds:,.1f}",
            share,
            f"{row.request_seconds:,.1f}",
        )
    return table


def _table_14(costs: Sequence[Cost]) -> Table:
    from rich.text import Text

    from cord_worker.cli.tables import money_cells, money_titles
    from cord_worker.operations.run_cost import GENERATION, SCORING
    from cord_worker.progress import figure, shown

    table = _table(
        (
            *("run", "pipeline", "budget", "questions", "generation", "prover", "total", "wall", "latency"),
            *money_titles(costs),
        ),
        3,
        "seconds per question (paper, Table 14): engines, whole run (wall), admission to end (latency)",
    )
    for found in costs:
        generation, prover = found.seconds_per_problem(GENERATION), found.seconds_per_problem(SCORING)
        table.add_row(
            Text(shown(found.run), overflow="fold"),
            found.pipeline,
            found.budget,
            f"{found.walls.problems:,}",
            figure(generation, 2),
            figure(prover, 2),
            figure(None if generation is None or prover is None else generation + prover, 2),
            figure(found.run_seconds_per_problem, 2),
            figure(found.walls.problem_seconds, 2),
            *money_cells(found, costs),
        )
    return table


def _table_15(comparison: RunComparison[CostedRun]) -> Table:
    from rich.text import Text

    from cord_worker.cli.tables import figure_interval, money_cells, money_titles, percent_interval
    from cord_worker.operations.run_cost import GENERATION, SCORING
    from cord_worker.progress import figure, shown

    costs = [run.cost for run in comparison.runs]
    table = _table(
        (
            *("run", "pipeline", "budget", "accuracy", "undecided", "mean score", "tokens out", "read by prover"),
            *("engine s", "wall s"),
            *money_titles(costs),
        ),
        3,
        "accuracy and mean score against the cost of a question (paper, Table 15)",
    )
    for run in comparison.runs:
        table.add_row(
            Text(shown(run.run), overflow="fold"),
            run.pipeline,
            run.budget,
            percent_interval(run.accuracy),
            f"{run.undecided:,}",
            figure_interval(run.score),
            figure(run.cost.tokens_out_per_problem(GENERATION), 0),
            figure(run.cost.tokens_in_per_problem(SCORING), 0),
            figure(run.cost.seconds_per_problem((*GENERATION, *SCORING)), 2),
            figure(run.cost.run_seconds_per_problem, 2),
            *money_cells(run.cost, costs),
        )
    return table


def _table(titles: Sequence[str], text_columns: int, title: str) -> Table:
    """An empty table. Its first `text_columns` columns are left-aligned; the others are for figures."""
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    for index, name in enumerate(titles):
        table.add_column(name, justify="left" if index < text_columns else "right", overflow="fold")
    return table
