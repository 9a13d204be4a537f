"""`cordctl retry`, `rm`, `priority`, `drain`."""

from __future__ import annotations

from pathlib import Path

import click

from cord_worker.cli.options import (
    confirm,
    json_option,
    print_json,
    print_result,
    problem_option,
    read_settings,
    run_argument,
    state_dir_option,
    yes_option,
)


@click.command()
@run_argument
@click.option("--failed", is_flag=True, help="Go on with all failed problems (the default).")
@problem_option
@click.option(
    "--reason",
    metavar="TEXT",
    help="Only those whose reason holds this text, as cordctl status shows it; figures in it stand for any.",
)
@click.option(
    "--anew", is_flag=True, help="Begin them from the beginning: what the problems came to so far is deleted."
)
@yes_option
@state_dir_option
@json_option
def retry(
    run: str,
    failed: bool,
    problems: tuple[str, ...],
    reason: str | None,
    anew: bool,
    yes: bool,
    state_dir: Path | None,
    as_json: bool,
) -> None:
    """Go on with failed problems of RUN where they stopped.

    Nothing that was committed is computed again. So a problem whose candidates were all invalid fails the same way
    again, which is said; --anew draws them again.
    """
    from cord_worker.errors import StoreError
    from cord_worker.operations.database import open_database
    from cord_worker.operations.watching import missing_workers
    from cord_worker.progress import shown, without_workers
    from cord_worker.showing import counted
    from cord_worker.store.retrying import begin_failed_anew, retry_failed

    if (failed, bool(problems), reason is not None).count(True) > 1:
        raise click.UsageError(
            "--failed means all failed problems, --problem only those, --reason those that failed for it: give one of "
            "them"
        )
    if reason is not None and not reason.strip():
        raise click.UsageError("--reason is empty: give the text of a reason, as cordctl status shows it")
    if anew and not yes:
        confirm(f"Delete what the failed problems of run {run} came to, and begin them anew?")
    work = begin_failed_anew if anew else retry_failed
    settings = read_settings(state_dir)
    with open_database(settings) as database:
        retried = database.run(lambda connection: work(connection, run, problems, reason))
        if reason is not None and not retried.count:
            raise StoreError(
                f"run {run} has no failed problem whose reason holds {shown(reason)!r}: see cordctl status {run}"
            )
        missing = database.run(lambda c: missing_workers(c, run, settings.worker_timeout_seconds))
    if as_json:
        print_json(
            {
                "run": retried.run,
                "state": retried.run_state,
                "retried": retried.count,
                "problems": retried.problems,
                "left_alone": retried.left_alone,
                "will_fail_again": retried.repeating,
                "will_fail_again_anew": retried.hopeless,
                "missing_workers": missing,
            }
        )
        return
    for key, state in retried.left_alone.items():
        click.echo(f"problem {shown(key)} has not failed, it is {state}: left alone")
    if retried.count:
        states = ", ".join(f"{count} {state}" for state, count in sorted(retried.problems.items()))
        goes = "goes" if retried.count == 1 else "go"
        click.echo(f"run {run}: {counted(retried.count, 'failed problem')} {goes} on ({states})")
    elif not problems:
        click.echo(f"run {run} has no failed problems")
    if retried.repeating > retried.hopeless:
        click.echo(
            f"{counted(retried.repeating - retried.hopeless, 'problem')} will fail the same way again: the same "
            "candidates lead to the same decision (--anew draws them again)"
        )
    if retried.hopeless:
        click.echo(
            f"{counted(retried.hopeless, 'problem')} will fail the same way again, with --anew too: no teacher has "
            "room for a step after the question. Change cord.toml as the reason says, and run under another name"
        )
    if retried.count and retried.run_state == "paused":
        click.echo(f"run {run} is paused. Go on with: cordctl resume {run}")
    elif retried.count and missing:
        click.echo(without_workers(missing))


@click.command("rm")
@run_argument
@yes_option
@state_dir_option
@json_option
def remove(run: str, yes: bool, state_dir: Path | None, as_json: bool) -> None:
    """Delete RUN with everything of it: problems, candidates, trajectories."""
    from cord_worker.operations.database import open_database
    from cord_worker.showing import counted
    from cord_worker.store.removal import remove_run

    if not yes:
        confirm(f"Delete run {run} with everything that it came to?")
    with open_database(read_settings(state_dir)) as database:
        removed = remove_run(database, run)
    document = {"run": removed.run, "problems": removed.problems, "candidates": removed.candidates}
    what = f"{counted(removed.problems, 'problem')}, {counted(removed.candidates, 'candidate')}"
    sentence = f"run {run} is deleted: {what}"
    print_result(sentence, document, as_json=as_json)


@click.command(context_settings={"ignore_unknown_options": True})
@run_argument
@click.argument("number", type=click.IntRange(-1000, 1000))
@state_dir_option
@json_option
def priority(run: str, number: int, state_dir: Path | None, as_json: bool) -> None:
    """Have problems of RUN begin before those of runs with a lower NUMBER.

    It matters between runs that share a model; 0 is the default.
    """
    from cord_worker.operations.database import open_database
    from cord_worker.store.lifecycle import prioritise_run

    with open_database(read_settings(state_dir)) as database:
        before = database.run(lambda connection: prioritise_run(connection, run, number))
    document = {"run": run, "priority": number, "before": before}
    print_result(f"run {run} has priority {number} (before: {before})", document, as_json=as_json)


@click.command()
@click.argument("worker")
@state_dir_option
@json_option
def drain(worker: str, state_dir: Path | None, as_json: bool) -> None:
    """Have WORKER finish what it holds, take no new work and leave.

    WORKER is host:pid, or the beginning of its id, as cordctl status shows them. However long it takes, it ends with
    exit code 0.
    """
    from cord_worker.operations.database import open_database
    from cord_worker.store.fleet import request_drain

    settings = read_settings(state_dir)
    with open_database(settings) as database:
        asked = database.run(
            lambda connection: request_drain(connection, worker, timeout_seconds=settings.worker_timeout_seconds)
        )
    again = "was asked before to finish" if asked.was_draining else "finishes"
    document = {"process": asked.address, "id": asked.id, "role": asked.kind, "was_draining": asked.was_draining}
    sentence = f"{asked.kind} {asked.address} {again} what it holds and leaves; see cordctl status"
    print_result(sentence, document, as_json=as_json)
