"""`cordctl export`."""

from __future__ import annotations

from pathlib import Path

import click

from cord_worker.cli.options import read_settings, state_dir_option


@click.command()
@click.argument("run")
@click.option("-o", "--output", required=True, help="JSON-lines file to write; - for standard output.")
@click.option("--only-correct", is_flag=True, help="Only trajectories whose final answer was found correct.")
@click.option("--failures", help="Also write failed problems with their reasons to this file.")
@state_dir_option
def export(run: str, output: str, only_correct: bool, failures: str | None, state_dir: Path | None) -> None:
    """Write the finished trajectories of RUN as JSON lines, in dataset order."""
    from cord_worker.export.jsonl import export_run
    from cord_worker.operations.database import open_database

    with open_database(read_settings(state_dir)) as database:
        report = export_run(database, run, output, only_correct=only_correct, failures=failures)
    click.echo(report.sentence(output), err=True)
