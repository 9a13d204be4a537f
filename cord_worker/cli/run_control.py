"""`cordctl pause`, `resume`, `cancel`, `retry`, `rm`, `priority`: commands that change a run."""

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
@state_dir_option
@json_option
def pause(run: str, state_dir: Path | None, as_json: bool) -> None:
    """Start no new work of RUN; results of work in progress are still written."""
    from cord_worker.operations.database import open_database
    from cord_worker.store.runs.lifecycle import pause_run

    with open_database(read_settings(state_dir)) as database:
        changed = database.run(lambda connection: pause_run(connection, run))
    sentence = (
        f"run {run} is paused. Continue with: cordctl resume {run}" if changed else f"run {run} was already paused"
    )
    print_result(sentence, {"run": run, "state": "paused", "changed": changed}, as_json=as_json)


@click.command()
@run_argument
@state_dir_option
@json_option
def resume(run: str, state_dir: Path | None, as_json: bool) -> None:
    """Continue a paused RUN."""
    from cord_worker.operations.database import open_database
    from cord_worker.operations.run_watch import missing_workers
    from cord_worker.progress import without_workers
    from cord_worker.store.runs.lifecycle import resume_run

    settings = read_settings(state_dir)
    with open_database(settings) as database:
        changed = database.run(lambda connection: resume_run(connection, run))
        missing = database.run(lambda c: missing_workers(c, run, settings.worker_timeout_seconds))
    sentence = f"run {run} continues" if changed else f"run {run} was already active"
    document = {"run": run, "state": "active", "changed": changed, "missing_workers": missing}
    print_result(f"{sentence}\n{without_workers(missing)}" if missing else sentence, document, as_json=as_json)


@click.command()
@run_argument
@yes_option
@state_dir_option
@json_option
def cancel(run: str, yes: bool, state_dir: Path | None, as_json: bool) -> None:
    """End RUN for good; finished problems stay and can be exported."""
    from cord_worker.operations.database import open_database
    from cord_worker.store.runs.lifecycle import cancel_run

    if not yes:
        confirm(f"Cancel run {run} for good?")
    with open_database(read_settings(state_dir)) as database:
        count = database.run(lambda connection: cancel_run(connection, run))
    document = {"run": run, "state": "cancelled", "cancelled": count}
    unfinished = f"{count:,} {'problem was' if count == 1 else 'problems were'} not finished"
    print_result(f"run {run} is cancelled: {unfinished}", document, as_json=as_json)


@click.command()
@run_argument
@click.option("--failed", is_flag=True, help="Retry all failed problems (the default).")
@problem_option
@click.option(
    "--reason",
    metavar="TEXT",
    help="Retry only problems whose reason contains this text, as cordctl status shows it; its numbers are ignored.",
)
@click.option("--from-scratch", is_flag=True, help="Start the problems over: their results so far are deleted.")
@yes_option
@state_dir_option
@json_option
def retry(
    run: str,
    failed: bool,
    problems: tuple[str, ...],
    reason: str | None,
    from_scratch: bool,
    yes: bool,
    state_dir: Path | None,
    as_json: bool,
) -> None:
    """Continue failed problems of RUN where they stopped.

    Nothing that was committed is computed again. So a problem whose candidates were all invalid fails the same way
    again, and the command says so; --from-scratch draws new candidates.
    """
    from cord_worker.display_text import counted
    from cord_worker.errors import StoreError
    from cord_worker.operations.database import open_database
    from cord_worker.operations.run_watch import missing_workers
    from cord_worker.progress import shown, without_workers
    from cord_worker.store.runs.retry import restart_failed, retry_failed

    if (failed, bool(problems), reason is not None).count(True) > 1:
        raise click.UsageError(
            "--failed means all failed problems, --problem only these problems, --reason those with that reason: give "
            "one of them"
        )
    if reason is not None and not reason.strip():
        raise click.UsageError("--reason is empty: give the text of a reason, as cordctl status shows it")
    if from_scratch and not yes:
        confirm(f"Delete the results of the failed problems of run {run}, and start them over?")
    retry_them = restart_failed if from_scratch else retry_failed
    settings = read_settings(state_dir)
    with open_database(settings) as database:
        retried = database.run(lambda connection: retry_them(connection, run, problems, reason))
        if reason is not None and not retried.count:
            raise StoreError(
                f"run {run} has no failed problem whose reason contains {shown(reason)!r}: see cordctl status {run}"
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
                "will_fail_again_from_scratch": retried.hopeless,
                "missing_workers": missing,
            }
        )
        return
    for key, state in retried.left_alone.items():
        click.echo(f"problem {shown(key)} has not failed, it is {state}: left as it is")
    if retried.count:
        states = ", ".join(f"{count} {state}" for state, count in sorted(retried.problems.items()))
        continues = "continues" if retried.count == 1 else "continue"
        click.echo(f"run {run}: {counted(retried.count, 'failed problem')} {continues} ({states})")
    elif not problems:
        click.echo(f"run {run} has no failed problems")
    if retried.repeating > retried.hopeless:
        click.echo(
            f"{counted(retried.repeating - retried.hopeless, 'problem')} will fail the same way again: the same "
            "candidates lead to the same decision (--from-scratch draws new ones)"
        )
    if retried.hopeless:
        click.echo(
            f"{counted(retried.hopeless, 'problem')} will fail the same way again, even with --from-scratch: no "
            "teacher has room for a step after the question. Change cord.toml as the reason says, and run under "
            "another name"
        )
    if retried.count and retried.run_state == "paused":
        click.echo(f"run {run} is paused. Continue with: cordctl resume {run}")
    elif retried.count and missing:
        click.echo(without_workers(missing))


@click.command("rm")
@run_argument
@yes_option
@state_dir_option
@json_option
def remove(run: str, yes: bool, state_dir: Path | None, as_json: bool) -> None:
    """Delete RUN with its problems, candidates and trajectories."""
    from cord_worker.display_text import counted
    from cord_worker.operations.database import open_database
    from cord_worker.store.runs.removal import remove_run

    if not yes:
        confirm(f"Delete run {run} with its problems, candidates and trajectories?")
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
    """Set the priority of RUN to NUMBER, from -1000 to 1000.

    Among runs that share a model, problems of the run with the higher number start first; 0 is the default.
    """
    from cord_worker.operations.database import open_database
    from cord_worker.store.runs.lifecycle import prioritise_run

    with open_database(read_settings(state_dir)) as database:
        before = database.run(lambda connection: prioritise_run(connection, run, number))
    document = {"run": run, "priority": number, "before": before}
    print_result(f"run {run} has priority {number} (before: {before})", document, as_json=as_json)
