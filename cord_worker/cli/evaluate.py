"""`cordctl eval`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from cord_worker.cli.options import (
    OUTPUT_HELP,
    DatasetPath,
    NearChoice,
    NumberRange,
    check_dataset,
    config_option,
    dataset_options,
    dataset_source,
    fetch_dataset,
    json_option,
    print_json,
    read_settings,
    run_name_option,
    skip_invalid_option,
    state_dir_option,
)

if TYPE_CHECKING:
    from rich.table import Table

    from cord_worker.dataset import HubDataset
    from cord_worker.operations.evaluation import Evaluation, Figures

_ENGINES = ("transformers", "vllm", "instant")
_ALLOWED_WITH_OF = {"of_run", "categories", "state_dir", "as_json"}
"""Parameters that are allowed with `--of`; the others are for sampling."""

_SAMPLING = (
    click.option(
        "--samples",
        type=click.IntRange(1, 1024),
        default=16,
        show_default=True,
        help="Answers sampled for each problem.",
    ),
    click.option(
        "--temperature",
        type=NumberRange(0, 5),
        default=0.6,
        show_default=True,
        help="Temperature of the sampling, from 0 to 5.",
    ),
    click.option(
        "--top-p",
        type=NumberRange(0, 1, min_open=True),
        default=0.95,
        show_default=True,
        help="Nucleus sampling: share of the probability mass that is sampled from, in (0, 1].",
    ),
    click.option(
        "--max-tokens",
        type=click.IntRange(min=8),
        default=16_384,
        show_default=True,
        help="Maximum number of tokens of thinking before an answer.",
    ),
    click.option(
        "--answer-tokens",
        type=click.IntRange(min=1),
        default=4096,
        show_default=True,
        help="Maximum number of tokens of a final answer.",
    ),
    click.option("--system-prompt", help="Text of the system turn (default: the model's own in cord.toml)."),
    click.option(
        "--seed",
        type=click.IntRange(min=0),
        default=0,
        show_default=True,
        help="Seed from which the seeds of all samples are derived.",
    ),
)


def _sampling_options(function: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(_SAMPLING):
        function = option(function)
    return function


@click.command("eval")
@click.argument("benchmark", type=DatasetPath(path_type=Path), required=False)
@click.option(
    "--model", help="The model: a key of [models] in cord.toml; with --engine a folder, hub id or bundled:NAME."
)
@click.option("--engine", type=NearChoice(_ENGINES), help="Host MODEL with this engine, without a cord.toml.")
@_sampling_options
@click.option(
    "--category",
    "categories",
    multiple=True,
    metavar="FIELD",
    help="Also print figures for each value of this field; may be repeated.",
)
@click.option("--of", "of_run", metavar="RUN", help="Print the figures of this existing run, and sample nothing.")
@config_option
@click.option("-o", "--output", help=f"Also write all samples. {OUTPUT_HELP}")
@run_name_option
@dataset_options
@skip_invalid_option
@state_dir_option
@json_option
@click.pass_context
def evaluate(
    context: click.Context,
    /,
    benchmark: Path | HubDataset | None,
    of_run: str | None,
    categories: tuple[str, ...],
    state_dir: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Sample a model's answers to every problem of BENCHMARK and print Pass@1 and pass@k.

    \b
      cordctl eval benchmark.jsonl --model qwq-32b --samples 16
      cordctl eval benchmark.jsonl --model ./student --engine transformers --category subject
      cordctl eval --of RUN

    An evaluation is a run: if it is killed or interrupted, the same command continues it; once it has ended, the same
    command prints the figures again. Intervals are 95 %, from a bootstrap over the problems.
    """
    from cord_worker.operations.database import open_database
    from cord_worker.operations.evaluation import read_evaluation

    if of_run is not None:
        _require_no_sampling(context)
        with open_database(read_settings(state_dir)) as database:
            found = database.run(lambda connection: read_evaluation(connection, of_run, categories))
    else:
        if benchmark is None or options["model"] is None:
            raise click.UsageError("name a BENCHMARK and a --model, or an existing run (--of RUN).")
        found = _sample(benchmark, categories, state_dir, as_json, options)
    if as_json:
        print_json(found.to_json())
        return
    from cord_worker.progress import console

    screen = console()
    for table in _tables(found):
        screen.print(table)
    screen.print(_remarks(found))


def _require_no_sampling(context: click.Context) -> None:
    """Raises UsageError if the command line has a parameter that only a new evaluation uses."""
    given = [
        parameter.human_readable_name if isinstance(parameter, click.Argument) else parameter.opts[-1]
        for parameter in context.command.params
        if parameter.name not in _ALLOWED_WITH_OF
        and context.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE
    ]
    if given:
        raise click.UsageError(f"--of RUN prints an existing run and samples nothing: leave out {', '.join(given)}.")


def _sample(
    benchmark: Path | HubDataset,
    categories: tuple[str, ...],
    state_dir: Path | None,
    as_json: bool,
    options: dict[str, Any],
) -> Evaluation:
    from cord_worker.cli.interrupts import graceful_interrupts
    from cord_worker.operations.outputs import check_run_output

    if options["output"] is not None:
        check_run_output(options["output"], benchmark, options["config_path"])
    click.echo(f"reading {benchmark}", err=True)
    local = fetch_dataset(benchmark, options["split"])
    check_dataset(local, options)
    from cord_worker.config import RunConfig
    from cord_worker.operations.evaluation import SampleSettings, evaluate, evaluation_config
    from cord_worker.progress import LineView, open_view

    sampling = SampleSettings(
        samples=options["samples"],
        temperature=options["temperature"],
        top_p=options["top_p"],
        thinking_tokens=options["max_tokens"],
        answer_tokens=options["answer_tokens"],
        seed=options["seed"],
        system_prompt=options["system_prompt"],
    )
    engine = options["engine"]
    configured = None if engine is not None else RunConfig.load(options["config_path"])
    config = evaluation_config(options["model"], sampling, configured=configured, engine=engine)
    with graceful_interrupts("run the same command again to continue") as check:
        outcome = evaluate(
            dataset_source(local, options),
            config,
            read_settings(state_dir),
            # With --json, standard output holds the figures only, as one object.
            LineView() if as_json else open_view(as_json=False),
            check,
            run_name=options["run_name"],
            categories=categories,
            output=options["output"],
        )
    return outcome.result


def _tables(found: Evaluation) -> list[Table]:
    from rich.table import Table
    from rich.text import Text

    from cord_worker.progress import shown

    ks = sorted({k for model in found.models for k in model.figures.pass_at})
    tables = []
    overall = Table(title=shown(found.run), title_justify="left", box=None, padding=(0, 2, 0, 0), header_style="bold")
    for title in ("model", "problems", *(f"pass@{k}" for k in ks), "undecided", "tokens / answer"):
        overall.add_column(title, justify="left" if title == "model" else "right", overflow="fold")
    for model in found.models:
        tokens = model.to_json()["tokens"]["per_answer"]
        overall.add_row(
            Text(shown(model.name)),
            f"{model.figures.problems:,}",
            *_cells(model.figures, ks),
            f"{model.figures.undecided:,}",
            "-" if tokens is None else f"{tokens:,.0f}",
        )
    tables.append(overall)
    for model in found.models:
        for field, values in model.categories.items():
            title = f"{shown(model.name)} by {shown(field)}"
            table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0), header_style="bold")
            for name in (shown(field), "problems", *(f"pass@{k}" for k in ks), "undecided"):
                table.add_column(name, justify="left" if name == shown(field) else "right", overflow="fold")
            for value, figures in values.items():
                table.add_row(
                    Text(shown(value)), f"{figures.problems:,}", *_cells(figures, ks), f"{figures.undecided:,}"
                )
            tables.append(table)
    return tables


def _cells(figures: Figures, ks: list[int]) -> list[str]:
    cells = []
    for k in ks:
        found = figures.pass_at.get(k)
        if found is None:
            cells.append("-")
        else:
            mean, low, high = (100 * value for value in (found.interval.mean, found.interval.low, found.interval.high))
            cells.append(f"{mean:.1f} % [{low:.1f}, {high:.1f}]")
    return cells


def _remarks(found: Evaluation) -> str:
    from cord_worker.display_text import counted

    missing = sum(model.figures.missing for model in found.models)
    parts = [
        f"{counted(found.samples, 'sample')} per problem"
        if found.pipeline == "sample"
        else f"one answer per problem, from the search ({found.pipeline})",
        f"{found.run_seconds:,.1f} s ({found.engine_seconds:,.1f} s in engines)",
    ]
    parts += [f"{counted(missing, 'sample')} without an answer, counted as wrong"] if missing else []
    parts += [f"{counted(found.failed, 'problem')} failed"] if found.failed else []
    parts += [f"{counted(found.unfinished, 'problem')} not finished"] if found.unfinished else []
    return "; ".join(parts)
