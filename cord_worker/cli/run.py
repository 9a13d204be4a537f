"""`cordctl run`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cord_worker.cli.options import (
    OUTPUT_HELP,
    check_dataset,
    config_option,
    dataset_argument,
    dataset_options,
    dataset_source,
    fetch_dataset,
    json_option,
    read_settings,
    run_name_option,
    skip_invalid_option,
    state_dir_option,
)

if TYPE_CHECKING:
    from cord_worker.dataset import HubDataset


@click.command()
@dataset_argument
@config_option
@click.option("-o", "--output", required=True, help=OUTPUT_HELP)
@run_name_option
@dataset_options
@skip_invalid_option
@state_dir_option
@json_option
def run(
    dataset: Path | HubDataset,
    config_path: Path,
    output: str,
    run_name: str | None,
    state_dir: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Turn DATASET into trajectories on this machine: start everything, search, export.

    If it is interrupted (Ctrl-C) or killed, the same command continues where it stopped. Exits with 1 if problems
    failed and no trajectory was exported.
    """
    from cord_worker.cli.interrupts import graceful_interrupts
    from cord_worker.operations.outputs import check_run_output

    check_run_output(output, dataset, config_path)
    # Printed first, because the imports below take seconds.
    click.echo(f"reading {dataset} and {config_path}", err=True)
    local = fetch_dataset(dataset, options["split"])
    check_dataset(local, options)
    from cord_worker.config import RunConfig
    from cord_worker.operations.preload import preloading

    config, settings = RunConfig.load(config_path), read_settings(state_dir)
    # Start the fork server first: the workers' imports take longer than everything else before the first step.
    with preloading(config, settings) as fork_server:
        from cord_worker.cli.run_summary import print_summary
        from cord_worker.operations.local_run import LocalRun, run_locally
        from cord_worker.progress import open_view

        task = LocalRun(
            source=dataset_source(local, options),
            config=config,
            config_path=config_path,
            run_name=run_name,
            settings=settings,
        )
        with graceful_interrupts("run the same command again to continue") as check:
            outcome = run_locally(task, output, open_view(as_json=as_json), check, fork_server)
    print_summary(outcome, output, as_json=as_json)
    if not outcome.result.exported and outcome.result.failed:
        raise SystemExit(1)
