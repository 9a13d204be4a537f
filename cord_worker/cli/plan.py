"""`cordctl plan`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cord_worker.cli.options import (
    config_option,
    dataset_argument,
    dataset_options,
    dataset_source,
    fetch_dataset,
    json_option,
    prices_option,
    print_json,
    read_settings,
    skip_invalid_option,
    state_dir_option,
)

if TYPE_CHECKING:
    from cord_worker.dataset import HubDataset
    from cord_worker.operations.run_plan import Interval, Plan


_FAR_OFF = 0.25
_MOST_PROBLEMS = 10**9
_MOST_WORKERS = 1000
"""Of one model, and of GPUs: each is simulated."""


class _Workers(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.3
    name = "MODEL=N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int]:
        """Name and number."""
        name, _, number = str(value).rpartition("=")
        is_number = number.isascii() and number.isdigit() and len(number) < 10
        if not name or not is_number or not 1 <= int(number) <= _MOST_WORKERS:
            from cord_worker.display_text import shown

            self.fail(
                f"'{shown(str(value), 60)}' is not MODEL=N, such as judge=2: a model of cord.toml and a number from 1 "
                f"to {_MOST_WORKERS:,}",
                param,
                ctx,
            )
        return name, int(number)


@click.command()
@dataset_argument
@config_option
@click.option(
    "--from", "pilot_name", metavar="RUN",
    help="Run that the figures come from (default: the run that `cordctl run DATASET --config` continues).",
)  # fmt: skip
@click.option(
    "--problems",
    type=click.IntRange(1, _MOST_PROBLEMS),
    help="Plan for this many problems (default: those of DATASET).",
)
@click.option(
    "--workers",
    multiple=True,
    type=_Workers(),
    help="Plan with N workers of MODEL; may be repeated (default: as many as RUN had).",
)
@click.option(
    "--gpus", type=click.IntRange(1, _MOST_WORKERS), help="Find the best split of this many GPUs over the models."
)
@prices_option
@dataset_options
@skip_invalid_option
@state_dir_option
@json_option
def plan(
    dataset: Path | HubDataset,
    config_path: Path,
    pilot_name: str | None,
    problems: int | None,
    workers: tuple[tuple[str, int], ...],
    gpus: int | None,
    prices_path: Path | None,
    state_dir: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Estimate hours, GPU hours, cost, tokens and storage of a run of DATASET, from a pilot.

    A pilot is the same run with the first problems only. It counts: `run` without --limit continues it.

    \b
      cordctl run DATASET --config cord.toml --limit 30 -o pilot.jsonl
      cordctl plan DATASET --config cord.toml --gpus 8

    The search is simulated with the recorded requests of the pilot. DATASET is only counted, so a model that is slower
    on later problems is not foreseen.
    """
    from cord_worker.config import Prices, RunConfig
    from cord_worker.operations.database import open_database
    from cord_worker.operations.pilot import read_pilot
    from cord_worker.operations.run_plan import chosen_workers, gpus_of_worker, split_of_gpus
    from cord_worker.operations.run_plan import plan as make_plan
    from cord_worker.operations.run_plan_sources import count_problems, pilot_run, planned_prices

    if workers and gpus:
        raise click.UsageError("give --workers or --gpus, not both: --gpus decides the workers")
    config = RunConfig.load(config_path)
    prices = planned_prices(config, None if prices_path is None else Prices.load(prices_path))
    local = fetch_dataset(dataset, options["split"])
    number = problems or count_problems(dataset_source(local, options), config)
    with open_database(read_settings(state_dir)) as database:
        run = pilot_run(database, local, config, config_path, pilot_name)
        pilot = read_pilot(database, run, config)
    each = {
        name: gpus_of_worker(config.models[name], None if prices is None else prices.models[name])
        for name in pilot.models
    }
    chosen = chosen_workers(pilot, dict(workers)) if gpus is None else split_of_gpus(pilot, gpus, each)
    found = make_plan(pilot, number, chosen, each, prices)
    if as_json:
        print_json(found.to_json())
    else:
        _print_plan(found)


def _print_plan(found: Plan) -> None:
    from rich.table import Table
    from rich.text import Text

    from cord_worker.display_text import counted
    from cord_worker.progress import console, money, shown

    screen = console()
    failed = f" ({found.pilot_failed:,} of them failed)" if found.pilot_failed else ""
    screen.print(
        f"{counted(found.problems, 'problem')}, "
        f"by {counted(found.pilot_problems, 'problem')} of run {shown(found.pilot)}{failed}"
    )
    summary = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    summary.add_row("time", _range(found.hours, _hours))
    if found.gpu_hours.mean:
        summary.add_row("GPU hours", _range(found.gpu_hours, lambda value: f"{value:,.1f}"))
    if found.cost is not None:
        summary.add_row("cost", _range(found.cost, lambda value: money(value, found.currency)))
    summary.add_row("a problem takes", f"{found.problem_seconds:,.1f} s from admission to its end")
    summary.add_row("database", f"{found.database_bytes / 2**20:,.0f} MiB")
    if found.bottleneck is not None:
        summary.add_row("bottleneck", Text(shown(found.bottleneck)))
    screen.print(summary)
    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("model", "workers", "GPUs", "busy", "with one more", "tokens in", "cached", "tokens out"):
        table.add_column(title, justify="left" if title == "model" else "right")
    for model in found.models:
        table.add_row(
            Text(shown(model.model)), f"{model.workers}", f"{model.gpus}", f"{model.busy:.0%}",
            _hours(model.with_one_more), f"{model.prompt_tokens:,.0f}", f"{model.cached_tokens:,.0f}",
            f"{model.completion_tokens:,.0f}",
        )  # fmt: skip
    screen.print(table)
    if found.check is not None:
        error = f"{found.check.error:+.0%}"
        simulated = f"simulated {found.check.simulated:,.1f} s ({error})"
        idle = f", without {found.check.idle:,.1f} s in which no request was in an engine" if found.check.idle else ""
        screen.print(f"check: the pilot took {found.check.measured:,.1f} s{idle}; {simulated}")
        if abs(found.check.error) > _FAR_OFF:
            screen.print(
                "The plan may be as far off as this check. Run a larger pilot, on processors that nothing else uses."
            )
    for name in found.without_slowdown:
        screen.print(
            f"The pilot does not show how {shown(name)} slows down in larger batches: its requests are taken to be as "
            "fast as in the pilot."
        )


def _range(interval: Interval, form: Any) -> str:
    return f"{form(interval.mean)} (95 %: {form(interval.low)} to {form(interval.high)})"


def _hours(hours: float) -> str:
    seconds = hours * 3600.0
    if seconds < 90:
        return f"{seconds:,.1f} s"
    return f"{seconds / 60:,.1f} min" if hours < 2 else f"{hours:,.1f} h"
