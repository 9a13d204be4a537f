"""Tables for the terminal. Every text from outside goes through `shown`."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from cord_worker.display_text import counted
from cord_worker.progress import figure, money, percent, shown
from cord_worker.store.reports.base_scores import BY_HEART
from cord_worker.store.reports.sample_queries import problems_that_no_step_moves

if TYPE_CHECKING:
    from rich.console import Console

    from cord_worker.operations.comparison import Interval
    from cord_worker.operations.run_cost import Cost
    from cord_worker.operations.run_watch import Overview, TeacherSelection
    from cord_worker.store.reports.failure_causes import FailureCause
    from cord_worker.store.runs.processes import LiveProcess

_MOST_CHARACTERS = 120
"""Longest `--reason` in a printed command."""


def runs_table(overviews: Sequence[Overview]) -> Table:
    """One row per run."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    left_aligned = {"run", "state", "configuration", "created"}
    for title in (
        *("run", "state", "priority", "done", "failed", "problems"),
        *("accuracy", "undecided", "mean score", "configuration", "created"),
    ):
        table.add_column(
            title,
            justify="left" if title in left_aligned else "right",
            no_wrap=title != "run",
            overflow="fold",
        )
    for overview in overviews:
        table.add_row(
            Text(shown(overview.name)),
            overview.state if overview.pause_reason is None else f"{overview.state} (spending limit)",
            str(overview.priority),
            f"{overview.problems.get('done', 0):,}",
            f"{overview.problems.get('failed', 0):,}",
            f"{sum(overview.problems.values()):,}",
            percent(overview.results.accuracy),
            f"{overview.results.undecided:,}",
            figure(overview.results.mean_score),
            overview.config_fingerprint,
            overview.created_at.strftime("%Y-%m-%d %H:%M UTC"),
        )
    return table


def processes_table(processes: Sequence[LiveProcess], names: Mapping[str, str]) -> Table:
    """One row per living process; its first two columns are what `cordctl drain` accepts.

    `names` maps fingerprints of models to their names. The state of a process includes what keeps it from its work.
    """
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for title in ("process", "id", "role", "model", "state"):
        table.add_column(title, no_wrap=title not in {"model", "state"}, overflow="fold")
    for process in processes:
        table.add_row(
            Text(shown(process.address)),
            process.id[:8],
            process.kind,
            Text(shown(process.model(names) or "-")),
            Text(shown(_state(process))),
        )
    return table


def _state(process: LiveProcess) -> str:
    if process.condition is None:
        return process.state
    return process.condition if process.state == "degraded" else f"{process.state}: {process.condition}"


def selection_tables(selection: TeacherSelection) -> Iterator[Table]:
    """Three tables: totals by teacher (`shared`: proposals whose text another teacher also proposed in the step), hit
    rates by tenth of the decoding position, and prefix cache hits by model."""
    totals = Table(title=f"{shown(selection.run)}: teachers", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for title in ("teacher", "proposed", "shared", "kept", "winning", "share", "mean score", "tokens"):
        totals.add_column(title, justify="left" if title == "teacher" else "right")
    for teacher in selection.teachers:
        totals.add_row(
            Text(shown(teacher.name)),
            f"{teacher.proposed:,}",
            f"{teacher.shared:,}",
            f"{teacher.kept:,}",
            f"{teacher.winning:,}",
            percent(teacher.share),
            figure(teacher.mean_score),
            f"{teacher.tokens:,}",
        )
    yield totals
    rates = Table(
        title="hit rate by tenth of the decoding position (share of the winning steps there)",
        title_justify="left",
        box=None,
        padding=(0, 2, 0, 0),
    )
    rates.add_column("teacher")
    for tenth in range(1, 11):
        rates.add_column(str(tenth), justify="right")
    hits = {(row.teacher, row.tenth): row.hit_rate for row in selection.tenths}
    for teacher in selection.teachers:
        rates.add_row(
            Text(shown(teacher.name)), *(figure(hits.get((teacher.name, tenth)), 2) for tenth in range(1, 11))
        )
    yield rates
    caches = Table(
        title="prefix cache (at home: share served by the replica that served most of the problem)",
        title_justify="left",
        box=None,
        padding=(0, 2, 0, 0),
    )
    for title in ("model", "kind", "replicas", "requests", "at home", "prompt tokens", "cached", "hit rate"):
        caches.add_column(title, justify="left" if title in {"model", "kind"} else "right")
    for row in selection.caches:
        caches.add_row(
            Text(shown(row.model), overflow="fold"),
            row.kind,
            f"{row.workers:,}",
            f"{row.requests:,}",
            percent(row.at_home / row.requests),
            f"{row.prompt_tokens:,}",
            f"{row.cached_tokens:,}",
            percent(row.hit_rate),
        )
    yield caches


def base_scores_lines(selection: TeacherSelection) -> Iterator[str]:
    """A sentence about the base scores and the gains over them, and a query for the problems that no step moved.
    Nothing in a run without base scores."""
    found = selection.base_scores
    if not found.known:
        return
    missing = f" ({found.problems - found.known:,} without a base score)" if found.known < found.problems else ""
    yield (
        f"base score (of the answer before any step): mean {figure(found.mean_base_score)}, mean gain of the winners "
        f"{figure(found.mean_gain)}; of {counted(found.known, 'done problem')}{missing} the prover knows "
        f"{found.by_heart:,} by heart (base score {BY_HEART} or more), and no step moved {found.unmoved:,} (winner not "
        "above the base score)"
    )
    if found.unmoved:
        query = problems_that_no_step_moves(shown(selection.run))
        yield f"    cordctl db psql -c {shlex.quote(query)}"


def print_failures(screen: Console, causes: Sequence[FailureCause], count: int, run: str) -> None:
    """Prints the most frequent causes of failures, and how to continue problems whose cause can be fixed."""
    for cause in causes:
        others = f" and {cause.count - 1:,} more" if cause.count > 1 else ""
        screen.print(f"failed: {shown(cause.key)}{others}: {shown(cause.reason)}")
        if cause.is_technical:
            command = f"cordctl retry {shlex.quote(shown(run))} --reason {shlex.quote(_search_text(cause.reason))}"
            screen.print(f"    once that is fixed: {command}", soft_wrap=True)
        elif cause.repeats:
            hint = "even with --from-scratch" if cause.repeats_from_scratch else "--from-scratch draws new candidates"
            screen.print(f"    cordctl retry fails the same way; {hint}", soft_wrap=True)
    left = count - sum(cause.count for cause in causes)
    if left > 0:
        more = counted(left, "more failed problem")
        screen.print(f"… and {more} (cordctl export RUN -o … --failures FILE)")


def _search_text(reason: str) -> str:
    """The beginning of a reason, as far as it is printable."""
    return "".join(itertools.takewhile(str.isprintable, reason))[:_MOST_CHARACTERS].strip()


def money_titles(costs: Sequence[Cost]) -> list[str]:
    """The title of the column of money per problem: its currencies. No title if none of the runs has prices."""
    found = sorted(_currencies(costs))
    return [", ".join(map(shown, found))] if found else []


def money_cells(found: Cost, costs: Sequence[Cost]) -> list[str]:
    """What a problem of one of the runs cost in money, for the column of `money_titles`; no cell without the column."""
    currencies = _currencies(costs)
    if not currencies:
        return []
    if found.money is None or found.money_per_problem is None:
        return ["-"]
    return [money(found.money_per_problem, found.money.currency if len(currencies) > 1 else None)]


def _currencies(costs: Sequence[Cost]) -> set[str]:
    return {one.money.currency for one in costs if one.money is not None}


def percent_interval(interval: Interval | None) -> str:
    """A share in [0, 1] as a percentage with the bounds of its interval."""
    if interval is None:
        return "-"
    return f"{100 * interval.mean:.1f} % [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


def points_interval(interval: Interval | None) -> str:
    """A difference of shares in percentage points, with its bounds; marked * if its interval excludes 0."""
    if interval is None:
        return "-"
    mark = " *" if interval.excludes_zero else ""
    return f"{100 * interval.mean:+.1f} [{100 * interval.low:+.1f}, {100 * interval.high:+.1f}]{mark}"


def figure_interval(interval: Interval | None, *, signed: bool = False) -> str:
    """A figure with its bounds; `signed`: a difference, marked * if its interval excludes 0."""
    if interval is None:
        return "-"
    sign = "+" if signed else ""
    mark = " *" if signed and interval.excludes_zero else ""
    return f"{interval.mean:{sign}.3f} [{interval.low:{sign}.3f}, {interval.high:{sign}.3f}]{mark}"
