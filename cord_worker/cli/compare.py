"""`cordctl compare`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cord_worker.cli.options import json_option, prices_option, print_json, read_settings, state_dir_option
from cord_worker.display_text import counted

if TYPE_CHECKING:
    from rich.table import Table

    from cord_worker.operations.comparison import CostedRun, RunComparison
    from cord_worker.operations.rescoring_comparison import ComparedRescoring


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@prices_option
@state_dir_option
@json_option
def compare(runs: tuple[str, ...], prices_path: Path | None, state_dir: Path | None, as_json: bool) -> None:
    """Compare runs of one dataset on the problems that are done or failed in all of them.

    Differences are to the first RUN. Intervals are 95 %, from a paired bootstrap over the problems. Tokens per problem
    are all that were generated for it; tokens per result are those of the trajectory and its final answer. A hit rate
    is a teacher's share of the steps on winning paths. Seconds and money are per problem, over all problems of a run.

    If a run has rescorings (cordctl rescore), a second table compares their scores with the run's. RUN@NAME chooses
    one, RUN alone all of them.
    """
    from cord_worker.config import Prices
    from cord_worker.operations.comparison import compare_runs
    from cord_worker.operations.database import open_database
    from cord_worker.operations.rescoring_comparison import compare_rescorings, runs_of
    from cord_worker.progress import console, shown

    names = runs_of(runs)
    prices = None if prices_path is None else Prices.load(prices_path)
    with open_database(read_settings(state_dir)) as database:
        # Rescorings are read first, because an unknown name is then found sooner.
        rescorings = database.run(lambda connection: compare_rescorings(connection, runs))
        comparison = database.run(lambda connection: compare_runs(connection, names, prices))
    if as_json:
        print_json({**comparison.to_json(), "rescorings": [one.to_json() for one in rescorings]})
        return
    screen = console()
    screen.print(_comparison_table(comparison))
    screen.print(f"{counted(comparison.problems, 'problem')} in common; *: the interval of the difference excludes 0")
    for trimmed in comparison.runs:
        if trimmed.is_trimmed:
            screen.print(
                f"{shown(trimmed.run)} is trimmed: equal candidates of other teachers were not copied, so each of its "
                "steps counts for one teacher alone, and its hit rates are not comparable with those of other runs"
            )
    if rescorings:
        screen.print()
        screen.print(_rescorings_table(rescorings))
        screen.print(
            "rescorings are compared on all problems of their run; other first: share of decisions in which the new "
            "scores put another candidate first; other winner: share of problems in which they put another trajectory "
            "first"
        )
        for one in rescorings:
            if one.left:
                screen.print(
                    f"{shown(one.label)} is unfinished, {counted(one.left, 'candidate')} left: it has figures when all "
                    "are scored, because those that are scored first are not a random sample. Continue it with cordctl "
                    "rescore"
                )
            if one.given_up:
                screen.print(
                    f"{shown(one.label)} lacks {counted(one.given_up, 'candidate')} that were given up, which are no "
                    "random sample either. Try them again with cordctl rescore --retry"
                )


def _rescorings_table(rescorings: Sequence[ComparedRescoring]) -> Table:
    from rich.table import Table
    from rich.text import Text

    from cord_worker.cli.tables import figure_interval, percent_interval, points_interval
    from cord_worker.progress import shown

    has_samples = any(one.best_accuracy is not None for one in rescorings)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for title in (
        *("rescoring", "model", "scored", "invalid", "mean score", "rescored", "difference"),
        *("rank correlation", "other first", "other winner"),
        *(("best sample right", "accuracy gain (points)") if has_samples else ()),
    ):
        table.add_column(title, justify="left" if title in {"rescoring", "model"} else "right", overflow="fold")
    for one in rescorings:
        samples = (percent_interval(one.best_accuracy), points_interval(one.accuracy_gain)) if has_samples else ()
        table.add_row(
            Text(shown(one.label)),
            Text(shown(one.model)),
            f"{one.scored:,} of {one.candidates:,}",
            f"{one.invalid:,}",
            figure_interval(one.score),
            figure_interval(one.rescore),
            figure_interval(one.difference, signed=True),
            figure_interval(one.correlation),
            percent_interval(one.other_first),
            percent_interval(one.other_winner),
            *samples,
        )
    return table


def _comparison_table(comparison: RunComparison[CostedRun]) -> Table:
    from rich.table import Table
    from rich.text import Text

    from cord_worker.cli.tables import figure_interval, money_cells, money_titles, percent_interval, points_interval
    from cord_worker.operations.run_cost import GENERATION, SCORING
    from cord_worker.progress import figure, percent, shown

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    left_aligned = {"run", "pipeline", "hit rates"}
    costs = [run.cost for run in comparison.runs]
    for title in (
        "run",
        "pipeline",
        "accuracy",
        "undecided",
        "accuracy difference (points)",
        "mean score",
        "score difference",
        "tokens / problem",
        "tokens / result",
        "generation s",
        "prover s",
        *(f"{title} / problem" for title in money_titles(costs)),
        "hit rates",
    ):
        table.add_column(title, justify="left" if title in left_aligned else "right", overflow="fold")
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
            "-" if run.result_tokens is None else f"{run.result_tokens.mean:,.0f}",
            figure(run.cost.seconds_per_problem(GENERATION), 2),
            figure(run.cost.seconds_per_problem(SCORING), 2),
            *money_cells(run.cost, costs),
            Text(", ".join(f"{shown(teacher.name)} {percent(teacher.share)}" for teacher in run.teachers)),
        )
    return table
