"""`cordctl validate` and `cordctl enqueue`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cord_worker.cli.exit_codes import FOUND_SOMETHING
from cord_worker.cli.options import (
    FilePath,
    check_dataset,
    config_option,
    dataset_argument,
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
    from cord_worker.dataset import HubDataset, HubSnapshot
    from cord_worker.operations.enqueue import Validation


@click.command()
@dataset_argument
@click.option(
    "--config",
    "config_path",
    type=FilePath(path_type=Path, dir_okay=False),
    help="Also check rows against this cord.toml: fields named in its verify table, and the contexts of its models.",
)
@dataset_options
@json_option
def validate(dataset: Path | HubDataset, config_path: Path | None, as_json: bool, **options: Any) -> None:
    """Read DATASET and report what is wrong with it.

    Nothing is enqueued. Exits with 4 if a row is bad or does not fit.
    """
    from cord_worker.config import RunConfig
    from cord_worker.operations.enqueue import validate_dataset

    config = None if config_path is None else RunConfig.load(config_path)
    local = fetch_dataset(dataset, options["split"])
    found = validate_dataset(dataset_source(local, options), config)
    if as_json:
        print_json(found.to_json())
    else:
        _print_validation(local, found)
    if not found.is_sound:
        raise SystemExit(FOUND_SOMETHING)


def _print_validation(dataset: Path | HubSnapshot, found: Validation) -> None:
    from cord_worker.display_text import counted
    from cord_worker.progress import shown

    fits = found.fitting.fits if found.fitting is not None else []
    for flaw in found.flaws:
        click.echo(shown(flaw), err=True)
    if found.bad > len(found.flaws):
        click.echo(f"… and {found.bad - len(found.flaws)} more", err=True)
    for line in (line for fit in fits for line in fit.misfit_lines()):
        click.echo(shown(line), err=True)
    click.echo(f"{dataset}: {counted(found.good, 'problem')}, {counted(found.bad, 'invalid row')}")
    click.echo(shown(found.notes.fields_line()))
    for line in found.notes.lines():
        click.echo(shown(line))
    for line in (fit.line() for fit in fits):
        click.echo(shown(line))
    for line in found.fitting.skipped if found.fitting is not None else []:
        click.echo(f"not checked: {shown(line)}")
    if found.first is not None:
        first = found.first
        click.echo(f"first: id {shown(first.key)}, answer {shown(first.answer):.60}")
        click.echo(f"       {shown(first.question):.200}")


@click.command()
@dataset_argument
@config_option
@run_name_option
@dataset_options
@skip_invalid_option
@state_dir_option
@click.option("--dry-run", is_flag=True, help="Check everything against the database, but write nothing.")
@json_option
def enqueue(
    dataset: Path | HubDataset,
    config_path: Path,
    run_name: str | None,
    state_dir: Path | None,
    dry_run: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Add the problems of DATASET to a run.

    Called again, it adds only new problems. Workers and a coordinator, wherever they run, do the work.
    """
    from cord_worker.config import RunConfig

    config = RunConfig.load(config_path)
    local = fetch_dataset(dataset, options["split"])
    check_dataset(local, options)
    from cord_worker.operations.database import open_database
    from cord_worker.operations.enqueue import enqueue_dataset
    from cord_worker.progress import shown

    with open_database(read_settings(state_dir)) as database:
        enqueued = enqueue_dataset(database, dataset_source(local, options), config, run_name, dry_run=dry_run)
    if as_json:
        print_json(enqueued.to_json())
    else:
        click.echo(enqueued.sentence())
        for line in enqueued.lines():
            click.echo(shown(line))
