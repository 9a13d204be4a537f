"""Renders a snapshot as one line or as a panel of several tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from cord_worker.display_text import counted, money, shown
from cord_worker.progress.number_format import duration, figure, percent
from cord_worker.progress.snapshot import Snapshot

if TYPE_CHECKING:
    from rich.console import RenderableType

    from cord_worker.store.reports.status import Totals
    from cord_worker.store.runs.spending import Spending

SILENCE_SECONDS = 60.0
"""After this time without a result, the display says what the run waits for."""


def line(snapshot: Snapshot) -> str:
    """The snapshot as one line."""
    counts, totals = snapshot.counts, snapshot.totals
    failed = counts.problems.get("failed", 0)
    parts = [
        f"{counts.problems.get('done', 0)}/{counts.total} done",
        f"{counts.active} active",
        *([f"{failed} failed"] if failed else []),
    ]
    if totals.proposed:
        parts += [
            counted(counts.steps, "step"),
            f"{counted(totals.proposed, 'candidate')} ({counts.steps_per_second:.1f}/s)",
            f"{counted(totals.tokens, 'token')} ({counts.tokens_per_second:.0f}/s)",
            f"score {figure(totals.mean_score)}",
            f"accuracy {percent(totals.accuracy)}" + _undecided(totals),
            *([] if snapshot.is_final else [f"ETA {duration(snapshot.eta_seconds)}"]),
        ]
    if snapshot.spending is not None:
        parts.append(spent(snapshot.spending))
    if snapshot.state != "active":
        parts.insert(0, snapshot.state)
    return ", ".join(parts) + "".join(f"; {remark}" for remark in _remarks(snapshot))


def panel(snapshot: Snapshot, seconds: float | None) -> RenderableType:
    """The snapshot as a panel; `seconds` is the elapsed time to show, None for a dash."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    counts, totals = snapshot.counts, snapshot.totals
    head = Text(f"{shown(snapshot.run)}  ", style="bold")
    head.append("" if snapshot.state == "active" else f"{snapshot.state}  ", style="bold yellow")
    eta = "" if snapshot.is_final else f"  ETA {duration(snapshot.eta_seconds)}"
    head.append(f"{duration(seconds)}{eta}", style="dim")
    facts = Table.grid(padding=(0, 3))
    for row in _facts(snapshot):
        facts.add_row(*(Text(cell) for cell in row))
    teachers = Table(box=None, padding=(0, 2), header_style="dim")
    for title in ("teacher", "on winning paths", "proposed", "invalid", "mean score", "tokens"):
        teachers.add_column(title, justify="left" if title == "teacher" else "right")
    for teacher in totals.teachers:
        teachers.add_row(
            Text(shown(teacher.name)),
            percent(teacher.share),
            f"{teacher.proposed:,}",
            f"{teacher.invalid:,}",
            figure(teacher.mean_score),
            f"{teacher.tokens:,}",
        )
    # The bar is in its own grid, because it does not end its line.
    bar = Table.grid()
    bar.add_row(ProgressBar(total=max(1, counts.total), completed=counts.final, width=60))
    workers = ", ".join(f"{shown(name)} x{count}" for name, count in snapshot.workers.items()) or "none yet"
    return Group(
        head,
        bar,
        facts,
        teachers,
        *(Text(f"invalid: {reasons}") for reasons in invalid_by_teacher(snapshot)),
        *([] if snapshot.spending is None else [Text(spent(snapshot.spending))]),
        Text(f"workers: {workers}", style="dim"),
        *(Text(remark, style="bold yellow") for remark in _remarks(snapshot)),
    )


def invalid_by_teacher(snapshot: Snapshot) -> list[str]:
    """Why candidates are invalid: `planner 40 engine_fault, 19 too_long`, for each teacher that has any."""
    return [
        f"{shown(teacher)} " + ", ".join(f"{number:,} {shown(reason)}" for reason, number in reasons.items())
        for teacher, reasons in snapshot.invalid_reasons.items()
    ]


def spent(spending: Spending) -> str:
    """What is spent of each limit: `spent 1,012 of 2,000 tokens, 0.12 of 5 USD`."""
    parts = []
    if spending.max_tokens is not None:
        parts.append(f"{spending.tokens:,} of {counted(spending.max_tokens, 'token')}")
    if spending.max_cost is not None and spending.cost is not None:
        parts.append(f"{money(spending.cost)} of {money(spending.max_cost, spending.currency)}")
    return f"spent {', '.join(parts)}"


def no_workers_sentence(missing: Sequence[str]) -> str:
    """A sentence that names the roles and models of a run without a process."""
    names = ", ".join(shown(name) for name in missing)
    return f"NO WORKER for {names}: start one with cordctl up or cordctl worker"


def _remarks(snapshot: Snapshot) -> list[str]:
    """What delays the run: missing workers, what the run waits for, and conditions of workers."""
    idle = snapshot.counts.idle_seconds
    since = f"nothing for {duration(idle)}: " if idle >= SILENCE_SECONDS else ""
    remarks = []
    if snapshot.pause_reason is not None:
        # The reason has the figures at the pause. Leased work is still finished, so the run may have spent more by now.
        remarks.append(f"paused by its spending limit; found at the pause: {shown(snapshot.pause_reason)}")
    if snapshot.missing:
        remarks.append(f"{since}{no_workers_sentence(snapshot.missing)}")
    waiting: Mapping[str, str] = {}
    if since or snapshot.awaits_first_result:
        waiting = {name: text for name, text in snapshot.waiting.items() if name not in snapshot.missing}
    if waiting and since:
        names = ", ".join(map(shown, waiting))
        what = "; ".join(f"{shown(name)} {text}" for name, text in waiting.items())
        remarks.append(f"{'' if remarks else since}waiting for {names}: {what}")
    elif waiting:
        remarks.append(f"waiting for {_grouped(waiting)}")
    already_said = {one for one in snapshot.conditions if waiting.get(one.model, "").startswith(shown(one.text))}
    return [*remarks, *(str(one) for one in snapshot.conditions if one not in already_said)]


def _grouped(waiting: Mapping[str, str]) -> str:
    """The names that the run waits for, grouped by reason: `planner, closer (is being started)`. The amounts in the
    reasons are shown only for a name with a reason of its own."""
    groups: dict[str, list[str]] = {}
    for name, text in waiting.items():
        groups.setdefault(text.partition(" (")[0], []).append(name)
    parts = []
    for what, names in groups.items():
        reason = waiting[names[0]] if len(names) == 1 else what
        parts.append(f"{', '.join(map(shown, names))} ({shown(reason).replace(' (', ', ').rstrip(')')})")
    return "; ".join(parts)


def _facts(snapshot: Snapshot) -> list[tuple[str, str, str]]:
    counts, totals = snapshot.counts, snapshot.totals
    problems = counts.problems
    return [
        (
            f"problems: {problems.get('done', 0):,} done",
            f"{counts.active:,} active, {problems.get('queued', 0):,} queued",
            f"{problems.get('failed', 0):,} failed of {counts.total:,}",
        ),
        (
            f"{counted(counts.steps, 'step')}, {counted(totals.proposed, 'candidate')}",
            f"{counted(totals.tokens, 'token')} generated",
            f"{totals.scored_tokens:,} read by the prover",
        ),
        (
            f"{counts.steps_per_second:.1f} candidates/s",
            f"{counts.tokens_per_second:.0f} tokens/s",
            f"{counts.scores_per_second:.1f} scores/s",
        ),
        (
            f"mean score {figure(totals.mean_score)}",
            f"accuracy {percent(totals.accuracy)} of {totals.checked:,} decided" + _undecided(totals),
            f"mean steps {figure(totals.mean_steps, 1)}",
        ),
    ]


def _undecided(totals: Totals) -> str:
    """`, N undecided`, because the accuracy leaves these answers out; empty if there are none."""
    if not totals.undecided:
        return ""
    again = f" ({totals.without_result:,} without a result: cordctl recheck)" if totals.without_result else ""
    return f", {totals.undecided:,} undecided{again}"
