"""`cordctl pause`, `resume`, `cancel`, `retry`, `rm`, `priority`: commands that change a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cord_worker.cli.options import (
    FilePath,
    confirm,
    json_option,
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
    """Pause RUN: start no new work of it. Results of begun work are still written."""
    from cord_worker.operations import run_control
    from cord_worker.operations.database import open_database

    with open_database(read_settings(state_dir)) as database:
        paused = run_control.pause(database, run)
    print_result("\n".join(paused.lines()), paused.to_json(), as_json=as_json)


class _Limit(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.3
    """A positive number of the given type, or `none`."""

    def __init__(self, kind: type[int] | type[float]) -> None:
        self._kind = kind
        self.name = "N" if kind is int else "AMOUNT"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number, or `none`. Raises BadParameter."""
        if value == "none":
            return value
        try:
            number = self._kind(value)
        except ValueError:
            number = self._kind(0)
        if not 0 < number < float("inf"):
            what = "a positive whole number" if self._kind is int else "a positive number"
            self.fail(f"{value!r} must be {what}, or none", param, ctx)
        return number


@click.command()
@run_argument
@click.option("--max-tokens", type=_Limit(int), help="New limit of generated tokens, or none (run.max_tokens).")
@click.option("--max-cost", type=_Limit(float), help="New limit of the cost, or none (run.max_cost).")
@click.option(
    "--prices",
    "prices_path",
    type=FilePath(path_type=Path, dir_okay=False),
    help="TOML file with new prices for --max-cost (default: those of the run).",
)
@state_dir_option
@json_option
def resume(
    run: str,
    max_tokens: Any,
    max_cost: Any,
    prices_path: Path | None,
    state_dir: Path | None,
    as_json: bool,
) -> None:
    """Continue a paused RUN.

    If a spending limit has paused it, give a higher one.
    """
    from cord_worker.config import Prices
    from cord_worker.operations import run_control
    from cord_worker.operations.database import open_database
    from cord_worker.store.runs.spending import NewLimits

    prices = None if prices_path is None else Prices.load(prices_path)
    limits, settings = NewLimits(max_tokens, max_cost, prices), read_settings(state_dir)
    with open_database(settings) as database:
        resumed = run_control.resume(
            database, run, limits=limits, worker_timeout_seconds=settings.worker_timeout_seconds
        )
    print_result("\n".join(resumed.lines()), resumed.to_json(), as_json=as_json)


@click.command()
@run_argument
@yes_option
@state_dir_option
@json_option
def cancel(run: str, yes: bool, state_dir: Path | None, as_json: bool) -> None:
    """End RUN for good; finished problems stay and can be exported."""
    from cord_worker.operations import run_control
    from cord_worker.operations.database import open_database

    if not yes:
        confirm(f"Cancel run {run} for good?")
    with open_database(read_settings(state_dir)) as database:
        cancelled = run_control.cancel(database, run)
    print_result("\n".join(cancelled.lines()), cancelled.to_json(), as_json=as_json)


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
    from cord_worker.operations import run_control
    from cord_worker.operations.database import open_database

    if (failed, bool(problems), reason is not None).count(True) > 1:
        raise click.UsageError(
            "--failed means all failed problems, --problem only these problems, --reason those with that reason: give "
            "one of them"
        )
    if reason is not None and not reason.strip():
        raise click.UsageError("--reason is empty: give the text of a reason, as cordctl status shows it")
    if from_scratch and not yes:
        confirm(f"Delete the results of the failed problems of run {run}, and start them over?")
    settings = read_settings(state_dir)
    with open_database(settings) as database:
        retried = run_control.retry(
            database,
            run,
            problems=problems,
            reason=reason,
            from_scratch=from_scratch,
            worker_timeout_seconds=settings.worker_timeout_seconds,
        )
    print_result("\n".join(retried.lines()), retried.to_json(), as_json=as_json)


@click.command("rm")
@run_argument
@yes_option
@state_dir_option
@json_option
def remove(run: str, yes: bool, state_dir: Path | None, as_json: bool) -> None:
    """Delete RUN with its problems, candidates, trajectories and rescorings.

    Runs that were trimmed from it stay. They are named, because what they copied can no longer be compared with RUN.
    """
    from cord_worker.display_text import counted
    from cord_worker.operations.database import open_database
    from cord_worker.store.runs.removal import remove_run

    if not yes:
        confirm(f"Delete run {run} with its problems, candidates, trajectories and rescorings?")
    with open_database(read_settings(state_dir)) as database:
        removed = remove_run(database, run)
    document = {
        "run": removed.run,
        "problems": removed.problems,
        "candidates": removed.candidates,
        "rescorings": removed.rescorings,
        "trimmed": list(removed.trimmed),
    }
    counts = [counted(removed.problems, "problem"), counted(removed.candidates, "candidate")]
    if removed.rescorings:
        counts.append(counted(removed.rescorings, "rescoring"))
    sentence = f"run {run} is deleted: {', '.join(counts)}"
    if removed.trimmed:
        sentence += f"; trimmed from it, and still there: {', '.join(removed.trimmed)}"
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
