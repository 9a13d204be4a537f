"""`cordctl logs`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cord_worker.cli.options import json_option, print_json, read_settings, state_dir_option

if TYPE_CHECKING:
    from cord_worker.local.logs import LastLines, Log

_PAUSE_SECONDS = 0.3
_ELSEWHERE = (
    "Only `cordctl run` and `cordctl up` write logs here. A worker or coordinator that was started in another way (by "
    "`cordctl worker`, systemd or a container, on this machine or another one) logs to its standard error: see "
    "journalctl or docker logs there. `cordctl status` shows on which machine each process runs."
)


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option(
    "--lines", type=click.IntRange(min=0), default=20, show_default=True, help="Last lines of each log to show first."
)
@click.option("--follow", is_flag=True, help="Continue with new lines until Ctrl-C.")
@state_dir_option
@json_option
def logs(names: tuple[str, ...], lines: int, follow: bool, state_dir: Path | None, as_json: bool) -> None:
    """Show the logs of the processes that `run` and `up` started here.

    NAME is a model (all its workers), one worker (`planner-2`), `coordinator`, `daemon` (of `up`), `postgres`, `redis`
    or `watchdog` (of the embedded servers). Default: coordinator, workers and daemon.

    Processes that were started in another way, and those of other machines, log to their standard error there.
    """
    from cord_worker.display_text import shown
    from cord_worker.errors import LocalServiceError
    from cord_worker.local.logs import LogFollower, find_logs, last_lines

    if follow and as_json:
        raise click.UsageError("--follow does not end, and --json prints one object at the end: give one of them")
    folder = read_settings(state_dir).state_dir
    found = _chosen(find_logs(folder), names)
    if not found and not follow:
        raise LocalServiceError(f"there are no logs in {folder / 'logs'}. {_ELSEWHERE}")
    texts = {log.path: last_lines(log.path, lines) for log in found}
    if as_json:
        documents = [{"name": log.name, "path": str(log.path), "lines": _lines(texts[log.path])} for log in found]
        print_json({"logs": documents})
        return
    for log in found:
        click.echo(f"==> {shown(log.name)}: {shown(str(log.path))}")
        for line in texts[log.path].lines if follow else _lines(texts[log.path]):
            click.echo(shown(line.rstrip()))
    follower = LogFollower(folder, names, {path: text.end for path, text in texts.items()})
    while follow:
        for log, line in follower.new_lines():
            click.echo(f"{shown(log.name)}: {shown(line.rstrip())}")
        time.sleep(_PAUSE_SECONDS)


def _lines(found: LastLines) -> list[str]:
    """All lines, including an incomplete last one: one that is being written, or that a killed process left."""
    return [*found.lines, found.rest] if found.rest else found.lines


def _chosen(found: Sequence[Log], names: Sequence[str]) -> list[Log]:
    """The logs of these names. Raises LocalServiceError for a name that no log has."""
    from cord_worker.errors import LocalServiceError
    from cord_worker.local.logs import select_logs
    from cord_worker.name_suggestions import unknown

    for name in names:
        if found and not select_logs(found, [name]):
            raise LocalServiceError(f"{unknown('log', name, [log.name for log in found])}. {_ELSEWHERE}")
    return select_logs(found, names)
