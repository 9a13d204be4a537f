"""`cordctl rescore`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cord_worker.cli.options import (
    config_option,
    confirm,
    json_option,
    print_json,
    print_result,
    read_settings,
    run_argument,
    state_dir_option,
    yes_option,
)

if TYPE_CHECKING:
    from cord_worker.operations.rescoring import RescoreOutcome, RescoreTask


@click.command()
@run_argument
@config_option
@click.option("--prover", metavar="MODEL", help="The model in [models] of the configuration file that scores.")
@click.option("--name", help="Name of the rescoring (default: MODEL).")
@click.option("--retry", is_flag=True, help="Also retry candidates that were given up.")
@click.option(
    "--wait/--no-wait",
    default=None,
    help="Wait for the scores, or only queue the candidates (default: wait if a server is embedded).",
)
@click.option("--remove", metavar="NAME", help="Delete the rescoring NAME and its scores instead.")
@yes_option
@state_dir_option
@json_option
@click.pass_context
def rescore(
    context: click.Context,
    run: str,
    config_path: Path,
    prover: str | None,
    name: str | None,
    retry: bool,
    wait: bool | None,
    remove: str | None,
    yes: bool,
    state_dir: Path | None,
    as_json: bool,
) -> None:
    """Score the stored candidates of RUN with another prover, in addition to their present scores.

    Scores the candidates of finished problems that have a score; in a run of samples, all of them. Nothing that is
    stored changes: the new scores are a second set, RUN@NAME, which cordctl compare shows. Called again, the command
    adds only new candidates, and continues what was interrupted.

    With embedded servers it starts what is needed and waits. With your own services it queues the candidates, and a
    coordinator and a worker of MODEL (cordctl worker MODEL) do the work. Exits with 1 if candidates were given up.
    """
    settings = read_settings(state_dir)
    if remove is not None:
        if prover is not None or name is not None or retry or wait is not None:
            raise click.UsageError("--remove takes only the name of a rescoring: leave the other options out")
        _remove(run, remove, state_dir, yes=yes, as_json=as_json)
        return
    if prover is None:
        raise click.UsageError("--prover MODEL is missing: the model in [models] of the configuration file that scores")
    from cord_worker.cli.interrupts import graceful_interrupts
    from cord_worker.operations.rescoring import read_task, rescore_run

    task = read_task(run, prover, name, config_path, settings, retry=retry)
    with graceful_interrupts("run the same command again to continue") as check:
        outcome = rescore_run(
            task, wait=wait, say=lambda sentence: click.echo(sentence, err=True), check_interrupted=check
        )
    if as_json:
        print_json({**outcome.to_json(), "worker_command": task.worker_command})
    else:
        _print(outcome, task)
    context.exit(1 if outcome.counts.given_up else 0)


def _remove(run: str, name: str, state_dir: Path | None, *, yes: bool, as_json: bool) -> None:
    from cord_worker.display_text import counted
    from cord_worker.operations.database import open_database
    from cord_worker.store.runs.rescorings import remove_rescoring

    if not yes:
        confirm(f"Delete the rescoring {name} of run {run} with its scores?")
    with open_database(read_settings(state_dir)) as database:
        count = database.run(lambda connection: remove_rescoring(connection, run, name))
    sentence = f"{run}@{name} is deleted: {counted(count, 'candidate')}"
    print_result(sentence, {"run": run, "rescoring": name, "removed": count}, as_json=as_json)


def _print(outcome: RescoreOutcome, task: RescoreTask) -> None:
    from cord_worker.display_text import counted
    from cord_worker.progress import shown

    counts, run = outcome.counts, shown(outcome.begun.run.name)
    added = f"{outcome.begun.added:,} new, " if outcome.begun.added else ""
    click.echo(
        f"{shown(outcome.label)}: {counted(counts.total, 'candidate')} ({added}{counts.scored:,} scored, "
        f"{counts.invalid:,} invalid, {counts.left:,} left)"
    )
    if counts.given_up:
        click.echo(
            f"{counted(counts.given_up, 'candidate')} given up: the worker was lost or failed each time; see its log. "
            "Try again with --retry"
        )
    if counts.left and outcome.begun.run.state == "paused":
        click.echo(f"run {run} is paused. Continue with: cordctl resume {run}")
    elif counts.left and outcome.missing:
        without = ", or leave --no-wait out" if task.is_embedded else ""
        click.echo(f"no living process: {', '.join(outcome.missing)}. Start: {_commands(outcome, task)}{without}")
    elif counts.left:
        click.echo(f"the workers do the rest; see cordctl compare {run}")
    else:
        click.echo(f"next: cordctl compare {run}")


def _commands(outcome: RescoreOutcome, task: RescoreTask) -> str:
    commands = {"coordinator": "cordctl coordinator", task.model_name: task.worker_command}
    return "; ".join(commands[name] for name in outcome.missing)
