"""`cordctl trim`."""

from __future__ import annotations

from pathlib import Path

import click

from cord_worker.cli.options import NumberRange, json_option, print_json, read_settings, run_argument, state_dir_option


@click.command()
@run_argument
@click.option(
    "--above",
    type=NumberRange(0.0, 1.0, max_open=True),
    required=True,
    metavar="SCORE",
    help="A winner ends at its first step from which every score is above this number, in [0, 1).",
)
@click.option("--name", help="Name of the new run (default: RUN-trim-SCORE).")
@click.option(
    "--wait/--no-wait",
    default=None,
    help="Wait until the new answers are written and checked (default: only on one machine, with embedded services).",
)
@state_dir_option
@json_option
def trim(run: str, above: float, name: str | None, wait: bool | None, state_dir: Path | None, as_json: bool) -> None:
    """Make a run of RUN's winners, each ended at the first step from which every score is above SCORE.

    The teacher of the last kept step writes a new final answer. Winners without such a step, and those that would keep
    all steps, are copied with their answer. RUN is not changed. Called again, it adds the problems that have become
    done. With embedded services this command starts the workers; otherwise running workers do the work.
    """
    from cord_worker.cli.interrupts import graceful_interrupts
    from cord_worker.errors import ConfigError
    from cord_worker.operations.trimming import Trim, queue_trim, trim_locally, wait_for_trim
    from cord_worker.progress import open_view, shown

    if name == "":
        raise ConfigError("--name must not be empty; leave it out for the default")
    settings = read_settings(state_dir)
    task = Trim(run, above, name)
    has_own_services = settings.database_url is not None and settings.broker_url is not None
    waits = not has_own_services if wait is None else wait
    if waits:
        work = wait_for_trim if has_own_services else trim_locally
        with graceful_interrupts("run the same command again to continue") as check:
            result = work(settings, task, open_view(as_json=as_json), check)
    else:
        result = queue_trim(settings, task)
    if as_json:
        print_json(result.to_json())
    else:
        for line in result.lines():
            click.echo(shown(line))
    if result.failed_altogether:
        raise SystemExit(1)
