"""`cordctl export`."""

from __future__ import annotations

from pathlib import Path

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


@click.command()
@newest_run_argument
@click.option("-o", "--output", required=True, help=OUTPUT_HELP)
@click.option(
    "--format",
    "form",
    type=NearChoice(["jsonl", "sft"]),
    default="jsonl",
    show_default=True,
    help="jsonl: everything known about each trajectory; sft: prompt and completion, for `trl sft`.",
)
@click.option(
    "--student", help="With sft: the model to train (folder, hub id or bundled:student), for its chat template."
)
@click.option("--only-correct", is_flag=True, help="Export only trajectories whose final answer was found correct.")
@click.option(
    "--min-score",
    type=click.FloatRange(0.0, 1.0),
    help="Export only trajectories with at least this score, in [0, 1] (default: all).",
)
@click.option(
    "--failures", help="Also write failed problems and their reasons to this file, in any format of --output."
)
@click.option(
    "--decontaminate",
    multiple=True,
    type=FilePath(path_type=Path),
    metavar="FILE",
    help="Leave out problems whose question this benchmark has (see cordctl contaminated); may be repeated.",
)
@click.option("--decontaminate-field", help="Field of the question in the benchmarks (default: question, problem, …).")
@state_dir_option
@json_option
def export(
    run: str | None,
    output: str,
    form: str,
    student: str | None,
    only_correct: bool,
    min_score: float | None,
    failures: str | None,
    decontaminate: tuple[Path, ...],
    decontaminate_field: str | None,
    state_dir: Path | None,
    as_json: bool,
) -> None:
    """Write the winning trajectory of each done problem of RUN, or all its samples.

    Rows are in dataset order. Without RUN, the newest run is exported.
    """
    if as_json and output == "-":
        raise click.UsageError("--json and -o - both write to standard output: give one of them")
    if decontaminate_field is not None and not decontaminate:
        raise click.UsageError("--decontaminate-field goes with --decontaminate FILE")
    if (form == "sft") != (student is not None):
        raise click.UsageError("--format sft and --student MODEL go together")
    from cord_worker.operations.outputs import check_export_outputs

    check_export_outputs({"-o": output, "--failures": failures})
    benchmark = None
    if decontaminate:
        from cord_worker.operations.contamination import benchmark_index

        benchmark = benchmark_index(decontaminate, decontaminate_field, "--decontaminate-field")
    from cord_worker.export.report import Filters
    from cord_worker.operations.database import open_database

    filters = Filters(only_correct, min_score)
    with open_database(read_settings(state_dir)) as database:
        if student is None:
            from cord_worker.export.jsonl import export_run

            report = export_run(database, run, output, filters=filters, failures=failures, benchmark=benchmark)
        else:
            from cord_worker.config import model_location
            from cord_worker.export.sft import Student, export_sft

            trained = Student(model_location(student))
            report = export_sft(database, run, output, trained, filters=filters, failures=failures, benchmark=benchmark)
    if as_json:
        print_json({**report.to_json(), "output": output})
    else:
        click.echo(report.sentence(output), err=True)
