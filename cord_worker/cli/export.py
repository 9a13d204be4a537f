"""`cordctl export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cord_worker.cli.options import (
    OUTPUT_HELP,
    FilePath,
    NearChoice,
    NumberRange,
    json_option,
    newest_run_argument,
    print_json,
    read_settings,
    state_dir_option,
)
from cord_worker.cli.publication_options import publication_options
from cord_worker.export.format import Labels, Think
from cord_worker.export.formats import FORMATS

if TYPE_CHECKING:
    from cord_worker.export.report import ExportReport

_UNIT_INTERVAL = NumberRange(0.0, 1.0)


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
    help="With --student: leave out rows whose text, prompt included, has more tokens, and count them.",
)
@click.option(
    "--decontaminate",
    multiple=True,
    type=FilePath(path_type=Path),
    metavar="FILE",
    help="Leave out problems whose question is in this benchmark (see cordctl contaminated); may be repeated.",
)
@click.option("--decontaminate-field", help="Field of the question in the benchmarks (default: question, problem, …).")
@click.option(
    "--trim",
    type=NumberRange(0.0, 1.0, max_open=True),
    metavar="SCORE",
    help="Export the winners that `cordctl trim RUN --above SCORE` has trimmed; give that command first.",
)
@click.option(
    "--split", "split", help="Write one file for each split, such as train=0.9,test=0.1; a problem is in one of them."
)
@click.option(
    "--think",
    type=NearChoice([one.value for one in Think]),
    help="field (default of messages): the thinking in reasoning_content; inline (default of axolotl): in the content, "
    "between <think> and </think>.",
)
@click.option("--min-margin", type=NumberRange(min=0.0), help="The least difference of log scores of a pair.")
@click.option(
    "--labels",
    type=NearChoice([one.value for one in Labels]),
    help="When a step is good. gain (default): its score did not fall; threshold: its score reaches --threshold; "
    "right-share: enough answers of its binary judgment were right.",
)
@click.option(
    "--threshold",
    type=_UNIT_INTERVAL,
    help="The threshold of --labels threshold, or of right-share (default there: 0.5).",
)
@click.option("--data-source", help="Name by which verl chooses its reward function (default: the run's name).")
@click.option("--rescoring", metavar="NAME", help="Add the scores of this rescoring (see cordctl rescore).")
@click.option("--dataset-info", is_flag=True, help="Also add the file to the dataset_info.json beside it.")
@click.option("--failures", help="Also write failed problems and their reasons to this file (types as for --output).")
@publication_options
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
    from cord_worker.export.format import OptionError
    from cord_worker.operations.database import open_database
    from cord_worker.operations.exports import ExportOptions, export_to_files

    chosen = ExportOptions(form=form, **{**options, "teachers": _names(options["teachers"])})

    def on_written(report: ExportReport) -> None:
        # Printed before the push: if that fails, the user knows that the files are complete.
        if not as_json:
            click.echo(report.sentence(), err=True)

    try:
        exported = export_to_files(
            open_database(read_settings(state_dir)), run, output, chosen, failures=failures, on_written=on_written
        )
    except OptionError as error:
        raise click.UsageError(str(error)) from None
    if as_json:
        more = {} if exported.published is None else exported.published.to_json()
        print_json({**exported.report.to_json(), "output": output, **more})
    elif exported.published is not None:
        click.echo(exported.published.sentence(), err=True)


def _names(text: str | None) -> frozenset[str] | None:
    """The names in a list separated by commas."""
    return None if text is None else frozenset(name.strip() for name in text.split(",") if name.strip())
