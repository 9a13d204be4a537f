"""`cordctl replay` and `cordctl verify-db`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cord_worker.cli.options import (
    json_option,
    newest_run_argument,
    print_json,
    problem_option,
    read_settings,
    state_dir_option,
)

if TYPE_CHECKING:
    from cord_worker.operations.replaying import Verification


@click.command()
@newest_run_argument
@problem_option
@click.option("--all", "show_all", is_flag=True, help="Name the first difference of every problem, not only of one.")
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
    """Take every beam decision of RUN again from the stored rows, and compare.

    Seeds, ranks, beams, plans and winners are recomputed without any model. The newest run where none is named. Exits
    with 1 at a difference.
    """
    from cord_worker.operations.database import open_database
    from cord_worker.operations.replaying import Difference, replay_run
    from cord_worker.progress import shown

    def tell(difference: Difference) -> None:
        click.echo(shown(str(difference)))

    told = 0
    with open_database(read_settings(state_dir)) as database:
        for replayed in replay_run(database, run, problems):
            if replayed.differences and not show_all:
                break
            for difference in replayed.differences[told:] if not as_json else ():
                tell(difference)
            told = len(replayed.differences)
    if as_json:
        print_json(replayed.to_json())
    else:
        for difference in replayed.differences[told:]:
            tell(difference)
        done = (
            f"run {shown(replayed.run)}: {replayed.decisions:,} decisions of {replayed.problems:,} problems taken again"
        )
        if not replayed.differences:
            click.echo(f"{done}, no difference")
        elif show_all:
            click.echo(f"{done}, {len(replayed.differences):,} problems differ")
        else:
            click.echo(f"{done}, then stopped at the first difference (go on with --all)")
    context.exit(1 if replayed.differences else 0)


@click.command("verify-db")
@newest_run_argument
@click.option(
    "--examples",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="Most places named of each broken invariant.",
)
@click.option("--answers", is_flag=True, help="Also compare every final answer again (some milliseconds each).")
@state_dir_option
@json_option
@click.pass_context
def verify_db(
    context: click.Context, run: str | None, examples: int, answers: bool, state_dir: Path | None, as_json: bool
) -> None:
    """Check every invariant of the tables, of all runs or of RUN alone.

    Results are compared with the digests that were written with them, and what follows from them is computed again. It
    looks at one moment, at any time, also beside workers. Exits with 1 where one is broken.
    """
    from cord_worker.operations.database import open_database
    from cord_worker.operations.replaying import verify_tables
    from cord_worker.progress import shown

    with open_database(read_settings(state_dir)) as database:
        found = verify_tables(database, run, examples=examples, compare=answers)
    if as_json:
        print_json(found.to_json())
    else:
        for report in found.reports:
            mark = click.style("BROKEN", fg="red", bold=True) if report.violations else click.style("ok", fg="green")
            click.echo(f"{mark}  {report.invariant.name}: {report.invariant.says}")
            for violation in report.examples:
                place = "" if violation.problem is None else f"run {violation.run}, "
                click.echo(f"      {shown(f'{place}{violation}')}")
            if report.violations > len(report.examples):
                click.echo(f"      … {report.violations:,} in all")
        click.echo(f"{len(found.reports)} invariants, {len(found.broken)} broken")
        for line in _scope(found):
            click.echo(line)
    context.exit(1 if found.broken else 0)


def _scope(found: Verification) -> Iterator[str]:
    """What was computed again, and what was not."""
    yield f"computed again: reasons, states, lineages, seeds and token caps of {found.recomputed:,} candidates"
    again = found.compared
    if again is None:
        yield "not computed again: texts, scores, judgments, and if answers are right (--answers compares them)"
    else:
        yield (
            f"compared again: {again.compared:,} final answers; not {again.judged:,} that a judge decides, "
            f"{again.unchecked:,} that nothing checks and {again.kept:,} without a result"
        )
        yield "not computed again: texts, scores and judgments"
    old = found.undigested
    if old.problems or old.candidates or old.answers:
        yield (
            f"without a digest, of older versions: {old.problems:,} problems, {old.candidates:,} candidates, "
            f"{old.answers:,} final answers"
        )
