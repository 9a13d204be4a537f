"""`cordctl up` and `cordctl down`."""

from __future__ import annotations

from pathlib import Path

import click

from cord_worker.cli.options import (
    NumberRange,
    config_option,
    json_option,
    print_json,
    print_result,
    read_settings,
    state_dir_option,
)


@click.command()
@config_option
@state_dir_option
@click.option("--wait/--no-wait", default=True, show_default=True, help="Wait until every model is loaded.")
@click.option("--timeout", type=NumberRange(min=1), default=600.0, show_default=True, help="Seconds to wait.")
@json_option
def up(config_path: Path, state_dir: Path | None, wait: bool, timeout: float, as_json: bool) -> None:
    """Start services and workers in the background.

    enqueue, status, export and the other commands find them through the state folder. If they already run, up restarts
    those that stopped.
    """
    from cord_worker.cli.interrupts import graceful_interrupts
    from cord_worker.config import RunConfig
    from cord_worker.operations.background import bring_up, wait_until_ready
    from cord_worker.operations.services import known_endpoints
    from cord_worker.progress import shown_lines

    def say(message: str) -> None:
        click.echo(message, err=as_json)

    config = RunConfig.load(config_path)
    settings = read_settings(state_dir)
    with graceful_interrupts("what was started keeps running in the background; stop it with cordctl down"):
        running, is_new = bring_up(config, config_path, settings, say)
        say(f"{'started' if is_new else 'already running'} (pid {running.pid}), state in {running.state_dir}")
        for worker in running.workers:
            pid = f", pid {worker.pid}" if worker.pid else ""
            say(f"  {worker.name}: {worker.state}{pid}, log {running.state_dir / 'logs' / worker.name}.log")
            if worker.error:
                click.echo(shown_lines(worker.error), err=True)
        ready = not wait or wait_until_ready(config, settings, known_endpoints(settings), timeout, say)
    if as_json:
        print_json(
            {
                "started": is_new,
                "pid": running.pid,
                "state_dir": str(running.state_dir),
                "processes": [
                    {"name": one.name, "state": one.state, "pid": one.pid, "error": one.error}
                    for one in running.workers
                ],
                "ready": ready if wait else None,
            }
        )
    if not ready:
        click.echo(
            f"not every model is loaded after {timeout:g} s; loading continues: see cordctl status and the logs",
            err=True,
        )
        raise SystemExit(1)
    say("next: cordctl enqueue DATASET; cordctl status --watch; cordctl down")


@click.command()
@state_dir_option
@json_option
def down(state_dir: Path | None, as_json: bool) -> None:
    """Stop what cordctl up started.

    Nothing that was committed is lost; work continues after the next up.
    """
    from cord_worker.operations.background import bring_down

    settings = read_settings(state_dir)
    stopped = bring_down(settings)
    sentence = "stopped" if stopped else f"nothing runs in the background of {settings.state_dir}"
    print_result(sentence, {"stopped": stopped, "state_dir": str(settings.state_dir)}, as_json=as_json)
