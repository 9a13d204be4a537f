"""`cordctl retry`, `rm`, `priority`, `drain`."""

from __future__ import annotations

from pathlib import Path

import click

from cord_worker.cli.options import confirm, json_option, print_json, read_settings, state_dir_option


@click.command()
@click.argument("run")
@click.option("--failed", is_flag=True, help="All failed problems (the default).")
@click.option("--problem", "keys", multiple=True, metavar="ID", help="Only this one; may be given several times.")
@click.option("--anew", is_flag=True, help="From the beginning: what the problems came to so far is deleted.")
@click.option("--yes", is_flag=True, help="Do not ask before deleting.")
@state_dir_option
@json_option
def retry(
    run: str, failed: bool, keys: tuple[str, ...], anew: bool, yes: bool, state_dir: Path | None, as_json: bool
) -> None:
    """Go on with failed problems of RUN where they stopped; nothing that was committed is computed again."""
    from cord_worker.operations.database import open_database
    from cord_worker.progress import shown
    from cord_worker.store.retrying import begin_failed_anew, retry_failed

    if failed and keys:
        raise click.UsageError("--failed means all failed problems, --problem only those: give one of them")
    if anew and not yes:
        confirm(f"Delete what the failed problems of run {run} came to, and begin them anew?")
    work = begin_failed_anew if anew else retry_failed
    with open_database(read_settings(state_dir)) as database:
        retried = database.run(lambda connection: work(connection, run, keys))
    if as_json:
        print_json(
            {
                "run": retried.run,
                "state": retried.run_state,
                "retried": retried.count,
                "problems": retried.problems,
                "left_alone": retried.left_alone,
            }
        )
        return
    for key, state in retried.left_alone.items():
        click.echo(f"problem {shown(key)} has not failed, it is {state}: left alone")
    if retried.count:
        states = ", ".join(f"{count} {state}" for state, count in sorted(retried.problems.items()))
        click.echo(f"run {run}: {retried.count} failed problems go on ({states})")
    elif not keys:
        click.echo(f"run {run} has no failed problems")
    if retried.count and retried.run_state == "paused":
        click.echo(f"run {run} is paused. Go on with: cordctl resume {run}")


@click.command("rm")
@click.argument("run")
@click.option("--yes", is_flag=True, help="Do not ask.")
@state_dir_option
@json_option
def remove(run: str, yes: bool, state_dir: Path | None, as_json: bool) -> None:
    """Delete RUN with everything of it: problems, candidates, trajectories."""
    from cord_worker.operations.database import open_database
    from cord_worker.store.removal import remove_run

    if not yes:
        confirm(f"Delete run {run} with everything that it came to?")
    with open_database(read_settings(state_dir)) as database:
        removed = remove_run(database, run)
    if as_json:
        print_json({"run": removed.run, "problems": removed.problems, "candidates": removed.candidates})
        return
    click.echo(f"run {run} is deleted: {removed.problems} problems, {removed.candidates} candidates")


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("run")
@click.argument("number", type=click.IntRange(-1000, 1000))
@state_dir_option
def priority(run: str, number: int, state_dir: Path | None) -> None:
    """Have problems of RUN begin before those of runs with a lower NUMBER that share a model with it (0 by default)."""
    from cord_worker.operations.database import open_database
    from cord_worker.store.lifecycle import prioritise_run

    with open_database(read_settings(state_dir)) as database:
        before = database.run(lambda connection: prioritise_run(connection, run, number))
    click.echo(f"run {run} has priority {number} (before: {before})")


@click.command()
@click.argument("worker")
@state_dir_option
def drain(worker: str, state_dir: Path | None) -> None:
    """Have WORKER (host:pid, or the beginning of its id, as cordctl status shows them) take no new work.

    It finishes what it holds, however long that takes, and ends with exit code 0.
    """
    from cord_worker.operations.database import open_database
    from cord_worker.store.fleet import request_drain

    settings = read_settings(state_dir)
    with open_database(settings) as database:
        asked = database.run(
            lambda connection: request_drain(connection, worker, timeout_seconds=settings.worker_timeout_seconds)
        )
    again = "was asked before to finish" if asked.was_draining else "finishes"
    click.echo(f"{asked.kind} {asked.address} {again} what it holds and leaves; see cordctl status")
