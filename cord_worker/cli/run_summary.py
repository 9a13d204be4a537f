"""The summary that `cordctl run` prints at its end."""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path
from typing import Any

import click
from rich.table import Table
from rich.text import Text

from cord_worker.cli.tables import print_failures
from cord_worker.display_text import counted
from cord_worker.export.report import ExportReport
from cord_worker.operations.local_run import LocalRunResult
from cord_worker.progress import console, duration, figure, invalid_by_teacher, percent, shown
from cord_worker.store.reports.status import Totals


def print_summary(outcome: LocalRunResult[ExportReport], output: str, *, as_json: bool) -> None:
    """Prints the table, or with `as_json` one last JSON line."""
    if as_json:
        click.echo(json.dumps(_document(outcome, output), ensure_ascii=False))
        return
    screen = console()
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    for title, value in _rows(outcome, output):
        table.add_row(title, Text(value))
    screen.print()
    screen.print(table)
    print_failures(screen, outcome.failures, outcome.result.failed, outcome.snapshot.run)
    screen.print()
    screen.print("Next:")
    for what, command in _next_commands(outcome):
        screen.print(f"  {command}", soft_wrap=True)
        screen.print(f"      {what}", soft_wrap=True, style="dim")


def _next_commands(outcome: LocalRunResult[ExportReport]) -> list[tuple[str, str]]:
    """What the user may do next, and the commands for it, with this run's name."""
    run = shlex.quote(shown(outcome.snapshot.run))
    cordctl = f"{_state_dir_prefix(outcome) if outcome.embedded else ''}{_program()}"
    failed = outcome.snapshot.counts.problems.get("failed", 0)
    # No retry is offered if every failed problem would fail the same way. For causes that are not listed, this is
    # unknown, so a retry is offered.
    can_change = failed > sum(cause.count for cause in outcome.failures if cause.repeats)
    totals = outcome.snapshot.totals
    qualities = ["of the highest score"] if totals.mean_score is not None else []
    qualities.append("correct" if totals.correct else "none was found correct")
    best = f"the search of the best problem, its steps and losers ({', '.join(qualities)})"
    has_results = bool(outcome.result.exported)
    return [
        *([(best, f"{cordctl} show best {run} --text")] if has_results else []),
        ("how often each teacher was selected, by position", f"{cordctl} stats {run}"),
        ("tokens and seconds by model", f"{cordctl} cost {run}"),
        ("every decision recomputed from the stored rows", f"{cordctl} replay {run}"),
        ("only the correct trajectories", f"{cordctl} export {run} --only-correct -o correct.jsonl"),
        *([("another attempt at the failed problems", f"{cordctl} retry {run}")] if can_change else []),
    ]


def _rows(outcome: LocalRunResult[ExportReport], output: str) -> list[tuple[str, str]]:
    counts, totals = outcome.snapshot.counts, outcome.snapshot.totals
    failed = counts.problems.get("failed", 0)
    cancelled = counts.problems.get("cancelled", 0)
    shares = ", ".join(f"{shown(teacher.name)} {percent(teacher.share)}" for teacher in totals.teachers)
    return [
        ("run", shown(outcome.snapshot.run)),
        (
            "problems",
            f"{counts.total:,}: {counts.problems.get('done', 0):,} done, {failed:,} failed"
            + (f", {cancelled:,} cancelled" if cancelled else ""),
        ),
        (
            "accuracy",
            f"{percent(totals.accuracy)} ({totals.correct:,} of {counted(totals.checked, 'decided answer')}"
            + (f"; {totals.undecided:,} undecided, left out)" if totals.undecided else ")"),
        ),
        ("mean score", figure(totals.mean_score)),
        ("mean steps", figure(totals.mean_steps, 1)),
        *_cut_short(totals),
        ("winning steps by", shares or "-"),
        ("candidates", ", ".join(f"{number:,} {state}" for state, number in totals.candidates.items() if number)),
        *([("invalid", "; ".join(invalid))] if (invalid := invalid_by_teacher(outcome.snapshot)) else []),
        ("tokens", f"{totals.tokens:,} generated, {totals.scored_tokens:,} read by the prover"),
        ("this command took", f"{duration(outcome.seconds)} ({outcome.seconds:.1f} s, including start and stop)"),
        ("trajectories", f"{shown(output)} ({outcome.result.exported:,})"),
        ("logs", shown(str(outcome.logs))),
    ]


def _cut_short(totals: Totals) -> list[tuple[str, str]]:
    """A row that counts the texts that were cut at a limit; none if there are none."""
    found = []
    if totals.cut_answers:
        found.append(f"{counted(totals.cut_answers, 'final answer')}, at search.answer_tokens")
    if totals.full_contexts:
        found.append(f"the thinking of {totals.full_contexts:,}, because no model's context has room for more")
    return [("cut short", "; ".join(found))] if found else []


def _program() -> str:
    """The path by which this command was called. Printed commands use it, so that they work without an activated
    environment."""
    return shown(sys.argv[0]) if Path(sys.argv[0]).name == "cordctl" else "cordctl"


def _state_dir_prefix(outcome: LocalRunResult[ExportReport]) -> str:
    state_dir = outcome.logs.parent
    default = os.environ.get("CORD_STATE_DIR", ".cord")
    return (
        "" if os.path.realpath(default) == str(state_dir) else f"CORD_STATE_DIR={shlex.quote(shown(str(state_dir)))} "
    )


def _document(outcome: LocalRunResult[ExportReport], output: str) -> dict[str, Any]:
    return {
        "summary": {
            **outcome.snapshot.to_json(),
            "enqueued": outcome.enqueued.to_json(),
            "exported": outcome.result.exported,
            "output": output,
            "logs": str(outcome.logs),
            "seconds": round(outcome.seconds, 2),
        }
    }
