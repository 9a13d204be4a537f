"""`cordctl report`."""

from __future__ import annotations

from pathlib import Path

import click

from cord_worker.cli.options import (
    FilePath,
    NumberRange,
    json_option,
    newest_run_argument,
    print_result,
    problem_option,
    read_settings,
    state_dir_option,
)


@click.command()
@newest_run_argument
@click.option("-o", "--output", type=FilePath(), help="HTML file to write; it needs no network.")
@click.option("--bundle", type=FilePath(), metavar="DIR", help="Write a folder instead, with one file per problem.")
@click.option(
    "--trees",
    type=click.IntRange(min=0),
    help="In a file: number of problems with their whole search (default: 20). They are chosen in turn from those with "
    "wrong answers, the largest gains, the narrowest leads, the lowest scores, and the first of the dataset.",
)
@problem_option
@click.option(
    "--budget",
    type=NumberRange(min=0, min_open=True),
    metavar="MIB",
    help="Maximum size of the file, in MiB (default: 20). What does not fit is left out, and the file says so.",
)
@state_dir_option
@json_option
def report(
    run: str | None,
    output: str | None,
    bundle: str | None,
    trees: int | None,
    problems: tuple[str, ...],
    budget: float | None,
    state_dir: Path | None,
    as_json: bool,
) -> None:
    """Write RUN as a report to look at, in one HTML file or a folder.

    Default: the newest run. A file holds everything about the run, the list of its problems, the winners, and the whole
    search of some problems: as many as --trees says, or those that --problem names. A folder holds the whole search of
    all problems, or of those that --problem names.
    """
    from cord_worker.operations.database import open_database
    from cord_worker.web import bundle as bundles
    from cord_worker.web import report as reports

    if (output is None) == (bundle is None):
        raise click.UsageError("give either -o FILE or --bundle DIR")
    if bundle is not None and (trees is not None or budget is not None):
        raise click.UsageError("--trees and --budget belong to -o FILE: a bundle has everything")
    if trees is not None and problems:
        raise click.UsageError("give either --trees or --problem")
    written: bundles.Bundle | reports.Report
    if bundle is not None:
        bundles.check_bundle_folder(bundle)
        with open_database(read_settings(state_dir)) as database:
            written = bundles.write_bundle(database, run, bundle, keys=problems)
    else:
        assert output is not None
        reports.check_report_output(output)
        with open_database(read_settings(state_dir)) as database:
            written = reports.write_report(
                database,
                run,
                output,
                keys=problems,
                trees=reports.DEFAULT_TREES if trees is None else trees,
                budget_mib=reports.DEFAULT_BUDGET_MIB if budget is None else budget,
            )
    print_result(written.sentence(), written.to_json(), as_json=as_json)
