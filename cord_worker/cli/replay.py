"""`cordctl replay`."""

from __future__ import annotations

from pathlib import Path

import click

from cord_worker.cli.exit_codes import FOUND_SOMETHING
from cord_worker.cli.options import (
    json_option,
    newest_run_argument,
    print_json,
    problem_option,
    read_settings,
    state_dir_option,
)


@click.command()
@newest_run_argument
@problem_option
@click.option(
    "--all",
    "show_all",
    is_flag=True,
    help="Report the differences of all problems (default: stop at the first).",
)
@state_dir_option
@json_option
@click.pass_context
def replay(
    context: click.Context,
    run: str | None,
    problems: tuple[str, ...],
    show_all: bool,
    state_dir: Path | None,
    as_json: bool,
) -> None:
    """Recompute every beam decision of RUN from the stored rows, and compare.

    Seeds, ranks, beams, plans and winners are recomputed without any model. Default: the newest run. Exits with 4 if
    anything differs.
    """
    from cord_worker.display_text import counted
    from cord_worker.operations.database import open_database
    from cord_worker.operations.replaying import Difference, replay_run
    from cord_worker.progress import shown

    def report(difference: Difference) -> None:
        click.echo(shown(str(difference)))

    reported = 0
    with open_database(read_settings(state_dir)) as database:
        for replayed in replay_run(database, run, problems):
            if replayed.differences and not show_all:
                break
            for difference in replayed.differences[reported:] if not as_json else ():
                report(difference)
            reported = len(replayed.differences)
    if as_json:
        print_json(replayed.to_json())
    else:
        for difference in replayed.differences[reported:]:
            report(difference)
        of = f"{counted(replayed.decisions, 'decision')} of {counted(replayed.problems, 'problem')}"
        done = f"run {shown(replayed.run)}: {of} recomputed"
        if not replayed.differences:
            click.echo(f"{done}, no difference")
        elif show_all:
            click.echo(f"{done}, {counted(len(replayed.differences), 'difference')}")
        else:
            click.echo(f"{done}, then stopped at the first difference (--all continues)")
        if replayed.is_without_source:
            click.echo("the run that it was trimmed from was removed, so its copies could not be compared")
    context.exit(FOUND_SOMETHING if replayed.differences else 0)
