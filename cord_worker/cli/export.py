"""`cordctl export`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cord_worker.cli.options import (
    OUTPUT_HELP,
    FilePath,
    NearChoice,
    json_option,
    newest_run_argument,
    print_json,
    read_settings,
    state_dir_option,
)
from cord_worker.export.format import Labels, Need, Think
from cord_worker.export.formats import FORMATS, OPTIONS

_UNIT_INTERVAL = click.FloatRange(0.0, 1.0)


@click.command()
@newest_run_argument
@click.option("-o", "--output", required=True, help=OUTPUT_HELP)
@click.option(
    "--format",
    "form",
    type=NearChoice(list(FORMATS)),
    default="jsonl",
    show_default=True,
    metavar="NAME",
    help="; ".join(f"{one.name}: {one.purpose}" for one in FORMATS.values()) + ".",
)
@click.option(
    "--student",
    help="The model to train (folder, hub id or bundled:student), for its chat template and its tokens.",
)
@click.option("--only-correct", is_flag=True, help="Export only trajectories whose final answer was found correct.")
@click.option(
    "--min-score",
    type=_UNIT_INTERVAL,
    help="Export only trajectories with at least this score, in [0, 1] (default: all).",
)
@click.option("--top-k", type=click.IntRange(min=1), help="At most this many rows of each problem, the best ones.")
@click.option("--teachers", help="Only what these teachers wrote, separated by commas (default: all).")
@click.option(
    "--max-tokens",
    type=click.IntRange(min=1),
    help="With --student: leave out rows whose text, prompt included, has more tokens, and say how many.",
)
@click.option(
    "--decontaminate",
    multiple=True,
    type=FilePath(path_type=Path),
    metavar="FILE",
    help="Leave out problems whose question this benchmark has (see cordctl contaminated); may be repeated.",
)
@click.option("--decontaminate-field", help="Field of the question in the benchmarks (default: question, problem, …).")
@click.option("--split", "split", help="A file for each split, by problem: train=0.9,test=0.1.")
@click.option(
    "--think",
    type=NearChoice([one.value for one in Think]),
    help="field (default of messages): the thinking in reasoning_content; inline (default of axolotl): in the content, "
    "between <think> and </think>.",
)
@click.option("--min-margin", type=click.FloatRange(min=0.0), help="The least difference of log scores of a pair.")
@click.option(
    "--labels",
    type=NearChoice([one.value for one in Labels]),
    help="A step is good if its score did not fall (gain, the default), reaches --threshold (threshold), or if "
    "enough answers of its binary judgment were right (right-share).",
)
@click.option("--threshold", type=_UNIT_INTERVAL, help="With --labels threshold or right-share (default: 0.5 there).")
@click.option("--data-source", help="By this verl chooses its reward function (default: the run's name).")
@click.option("--dataset-info", is_flag=True, help="Also add the file to the dataset_info.json beside it.")
@click.option("--failures", help="Also write failed problems and their reasons to this file, of any type of --output.")
@state_dir_option
@json_option
def export(
    run: str | None,
    output: str,
    form: str,
    failures: str | None,
    state_dir: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Write the winning trajectory of each done problem of RUN, or all its samples, for a trainer.

    Rows are in dataset order. Without RUN, the newest run is exported. docs/exports.md shows the rows of every format.
    """
    if as_json and output == "-":
        raise click.UsageError("--json and -o - both write to standard output: give one of them")
    _check_options(form, options)
    from cord_worker.export.format import OptionError

    try:
        _export(run, output, form, failures, state_dir, as_json, options)
    except OptionError as error:
        raise click.UsageError(str(error)) from None


def _check_options(form: str, options: dict[str, Any]) -> None:
    """Raises UsageError for an option that the format or the other options would ignore, and for a missing one."""
    chosen = FORMATS[form]
    for name, value in options.items():
        if value is not None and value is not False and name in OPTIONS and name not in chosen.options:
            others = ", ".join(one.name for one in FORMATS.values() if name in one.options)
            raise click.UsageError(f"{_flag(name)} has no meaning with --format {form}: it belongs to {others}")
    if Need.STUDENT in chosen.needs and options["student"] is None:
        raise click.UsageError(f"--format {form} needs --student MODEL, the model that is trained")
    if options["max_tokens"] is not None and options["student"] is None:
        raise click.UsageError("--max-tokens needs --student MODEL, whose tokens it counts")
    if options["labels"] == Labels.THRESHOLD and options["threshold"] is None:
        raise click.UsageError("--labels threshold needs --threshold T, the least score of a good step")
    if options["threshold"] is not None and options["labels"] not in (Labels.THRESHOLD, Labels.RIGHT_SHARE):
        raise click.UsageError("--threshold belongs to --labels threshold or --labels right-share")
    if options["decontaminate_field"] is not None and not options["decontaminate"]:
        raise click.UsageError("--decontaminate-field goes with --decontaminate FILE")


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _export(
    run: str | None,
    output: str,
    form: str,
    failures: str | None,
    state_dir: Path | None,
    as_json: bool,
    options: dict[str, Any],
) -> None:
    from cord_worker.config import model_location
    from cord_worker.export.dataset_info import check_dataset_info, write_dataset_info
    from cord_worker.export.exporting import Request, export_run
    from cord_worker.export.format import Choices
    from cord_worker.export.report import Filters
    from cord_worker.export.splits import Splits
    from cord_worker.operations.database import open_database
    from cord_worker.operations.outputs import check_export_outputs

    splits = None if options["split"] is None else Splits.parse(options["split"])
    outputs = [output] if splits is None else splits.outputs(output)
    check_export_outputs([*(("-o", name) for name in outputs), ("--failures", failures)])
    if options["dataset_info"]:
        check_dataset_info(outputs)
    benchmark = None
    if options["decontaminate"]:
        from cord_worker.operations.contamination import benchmark_index  # imports NumPy

        benchmark = benchmark_index(options["decontaminate"], options["decontaminate_field"], "--decontaminate-field")
    student = None
    if options["student"] is not None:
        from cord_worker.export.student import Student  # imports torch, which takes seconds

        student = Student(model_location(options["student"]))
    request = Request(
        format=FORMATS[form],
        filters=Filters(options["only_correct"], options["min_score"]),
        choices=Choices(
            teachers=_names(options["teachers"]),
            top_k=options["top_k"],
            think=None if options["think"] is None else Think(options["think"]),
            labels=None if options["labels"] is None else Labels(options["labels"]),
            threshold=options["threshold"],
            min_margin=options["min_margin"],
            data_source=options["data_source"],
        ),
        benchmark=benchmark,
        student=student,
        max_tokens=options["max_tokens"],
        splits=splits,
    )
    with open_database(read_settings(state_dir)) as database:
        report = export_run(database, run, output, request, failures=failures)
    if options["dataset_info"]:
        write_dataset_info(outputs, form)
    if as_json:
        print_json({**report.to_json(), "output": output})
    else:
        click.echo(report.sentence(), err=True)


def _names(text: str | None) -> frozenset[str] | None:
    """The names in a list separated by commas. Raises UsageError if there is none."""
    if text is None:
        return None
    names = frozenset(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise click.UsageError("--teachers names no teacher")
    return names
