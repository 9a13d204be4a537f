"""What `cordctl run` says at its end."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import click
from rich.table import Table
from rich.text import Text

from cord_worker.cli.tables import print_failures
from cord_worker.export.report import ExportReport
from cord_worker.operations.session import Worked
from cord_worker.progress import console, duration, figure, percent, shown


def print_summary(outcome: Worked[ExportReport], output: str, *, as_json: bool) -> None:
    """The table, or with `as_json` one last JSON line."""
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
    print_failures(screen, outcome.failures, outcome.result.failed)
    screen.print()
    prefix = "" if not outcome.embedded else _state_dir_prefix(outcome)
    screen.print("Look further:")
    screen.print(f"  head -n 1 {shown(output)} | python3 -m json.tool", soft_wrap=True)
    screen.print(f"  {prefix}{_program()} stats {outcome.snapshot.run}", soft_wrap=True)


def _rows(outcome: Worked[ExportReport], output: str) -> list[tuple[str, str]]:
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
            f"{percent(totals.accuracy)} ({totals.correct:,} of {totals.checked:,} decided answers"
            + (f"; {totals.undecided:,} undecided, left out)" if totals.undecided else ")"),
        ),
        ("mean score", figure(totals.mean_score)),
        ("mean steps", figure(totals.mean_steps, 1)),
        ("winning steps by", shares or "-"),
        ("candidates", ", ".join(f"{number:,} {state}" for state, number in totals.candidates.items() if number)),
        ("tokens", f"{totals.tokens:,} generated, {totals.scored_tokens:,} read by the prover"),
        ("time", f"{duration(outcome.seconds)} ({outcome.seconds:.1f} s)"),
        ("trajectories", f"{shown(output)} ({outcome.result.exported:,})"),
        ("logs", shown(str(outcome.logs))),
    ]


def _program() -> str:
    """How this command was called, so that what is printed can be pasted: perhaps no environment is activated."""
    return shown(sys.argv[0]) if Path(sys.argv[0]).name == "cordctl" else "cordctl"


def _state_dir_prefix(outcome: Worked[ExportReport]) -> str:
    state_dir = outcome.logs.parent
    default = os.environ.get("CORD_STATE_DIR", ".cord")
    return "" if os.path.realpath(default) == str(state_dir) else f"CORD_STATE_DIR={shown(str(state_dir))} "


def _document(outcome: Worked[ExportReport], output: str) -> dict[str, Any]:
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
