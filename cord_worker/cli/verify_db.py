"""`cordctl verify-db`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cord_worker.cli.exit_codes import FOUND_SOMETHING
from cord_worker.cli.options import json_option, newest_run_argument, print_json, read_settings, state_dir_option
from cord_worker.display_text import counted

if TYPE_CHECKING:
    from cord_worker.operations.table_verification import Verification


@click.command("verify-db")
@newest_run_argument
@click.option(
    "--examples",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="Maximum number of violations to show for each broken invariant.",
)
@click.option("--answers", is_flag=True, help="Also check every final answer again (some milliseconds each).")
@state_dir_option
@json_option
@click.pass_context
def verify_db(
    context: click.Context, run: str | None, examples: int, answers: bool, state_dir: Path | None, as_json: bool
) -> None:
    """Check every invariant of the tables, for all runs or for RUN alone.

    Results are compared with the digests that were written with them. Columns that follow from the results are computed
    again. The command reads one snapshot of the tables, so workers may run meanwhile. Exits with 4 if an invariant is
    broken.
    """
    from cord_worker.operations.database import open_database
    from cord_worker.operations.table_verification import verify_tables
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
        for line in _scope_lines(found):
            click.echo(line)
    context.exit(FOUND_SOMETHING if found.broken else 0)


def _scope_lines(found: Verification) -> Iterator[str]:
    """Lines that say what was recomputed, and what was not."""
    candidates = counted(found.recomputed, "candidate")
    yield f"recomputed: states, reasons for invalidity, lineages, seeds and token caps of {candidates}"
    compared = found.compared
    if compared is None:
        yield "not recomputed: texts, scores, judgments, and whether answers are right (--answers checks them)"
    else:
        yield (
            f"checked again: {counted(compared.compared, 'final answer')}; left out: {compared.judged:,} that a judge "
            f"decides, {compared.unchecked:,} that nothing checks, {compared.kept:,} without a result"
        )
        yield "not recomputed: texts, scores and judgments"
    if found.without_source:
        names = ", ".join(found.without_source)
        yield f"trimmed runs not compared with their source, because it was removed: {names}"
    old = found.undigested
    if old.problems or old.candidates or old.answers:
        yield (
            f"without a digest, written by older versions: {counted(old.problems, 'problem')}, "
            f"{counted(old.candidates, 'candidate')}, {counted(old.answers, 'final answer')}"
        )
