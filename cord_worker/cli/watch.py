"""`cordctl watch`: a run on the whole terminal."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from cord_worker.cli.options import NumberRange, newest_run_argument, read_settings, state_dir_option


@click.command()
@newest_run_argument
@click.option(
    "--interval",
    type=NumberRange(min=0.2),
    default=1.0,
    show_default=True,
    help="Seconds between two updates.",
)
@state_dir_option
def watch(run: str | None, interval: float, state_dir: Path | None) -> None:
    """Watch RUN on the whole terminal, and pause it, resume it or set its priority by a key.

    Default: the newest run. Shows trajectories, candidates and tokens per minute as curves; workers, backlog, leases
    and cached share by model; what keeps workers from their work; the newest failures; and the time left. It reads only
    the database, so it runs on any machine that reaches it. Quitting changes nothing; every change is confirmed first.
    """
    if not all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)):
        raise click.UsageError(
            "cordctl watch draws on a terminal, and there is none. For lines or JSON in a file or a pipe: "
            "cordctl status --watch [--json]"
        )
    from cord_worker.operations.database import open_database
    from cord_worker.operations.live_watch import LiveWatch

    settings = read_settings(state_dir)
    with open_database(settings) as database:
        watched = LiveWatch(database, run, worker_timeout_seconds=settings.worker_timeout_seconds)
        # Imported only once the run is found, because the import takes longest.
        from cord_worker.cli.watch_app import WatchApp

        error = WatchApp(watched, interval_seconds=interval).run()
    if error is not None:
        raise error
