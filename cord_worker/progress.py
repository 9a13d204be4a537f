"""Showing where a run stands: a live table in a terminal, a line now and then elsewhere, JSON for scripts.

Names, ids and reasons come from datasets and models, so they are hostile text: everything that is shown goes through
`shown`, and nothing is ever read as markup.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from cord_worker.showing import shown as shown

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live

    from cord_worker.store.status import Counts, LiveWorkers, Totals, WorkerCondition

LINE_SECONDS = 10.0
"""Pause between two plain lines."""
SILENCE_SECONDS = 60.0
"""Without a result for so long, what is waited for is said."""

_FILE_COLUMNS = 400


def shown_lines(text: str) -> str:
    """Like `shown`, but line ends stay: for messages of several lines."""
    return "\n".join(shown(line.replace("\t", "    ")) for line in text.split("\n"))


@dataclass(frozen=True, slots=True)
class Condition:
    """What keeps one process of the run's from its work; `model` is its name in cord.toml."""

    model: str
    process: str
    text: str
    since: datetime
    seconds: float

    def __str__(self) -> str:
        return f"{shown(self.model)} {shown(self.text)} (for {duration(self.seconds)})"

    def to_json(self) -> dict[str, Any]:
        """For scripts; keys are stable."""
        return {
            "model": self.model,
            "process": self.process,
            "condition": self.text,
            "since": self.since.isoformat(),
            "seconds": round(self.seconds, 1),
        }


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A run at one moment; `workers` maps what is shown of a role or model to its processes, `missing` are those that
    it needs and has none of, while problems are waited for; `conditions` are what keeps workers from their work. While
    there are no results, `waiting` says what is waited for and why: sentences by their subject. `is_beginning`: nothing
    has come since this command began to watch, though the run may be older."""

    run: str
    state: str
    counts: Counts
    totals: Totals
    workers: Mapping[str, int]
    missing: Sequence[str]
    eta_seconds: float | None
    conditions: Sequence[Condition] = ()
    waiting: Mapping[str, str] = field(default_factory=dict)
    is_beginning: bool = False

    @property
    def begins(self) -> bool:
        """True before the first proposal, of the run or of this command's part of it."""
        return self.is_beginning or not self.totals.proposed

    @property
    def is_final(self) -> bool:
        """True when no problem of the run is waited for."""
        return self.counts.final == self.counts.total

    def seconds_since_start(self) -> float | None:
        """From the first admitted problem to the last finished one, or to now while problems are waited for."""
        first, last = self.totals.first_admitted_at, self.totals.last_finished_at
        if first is None:
            return None
        end = last if self.is_final and last is not None else datetime.now(UTC)
        return (end - first).total_seconds()

    def to_json(self) -> dict[str, Any]:
        """For scripts; keys are stable."""
        counts, totals = self.counts, self.totals
        return {
            "run": self.run,
            "state": self.state,
            "problems": {"total": counts.total, "active": counts.active, **counts.problems},
            "candidates": {**totals.candidates, **counts.working},
            "steps": counts.steps,
            "proposed": totals.proposed,
            "steps_per_second": round(counts.steps_per_second, 3),
            "tokens_per_second": round(counts.tokens_per_second, 3),
            "scores_per_second": round(counts.scores_per_second, 3),
            "mean_score": totals.mean_score,
            "accuracy": totals.accuracy,
            "checked": totals.checked,
            "correct": totals.correct,
            "wrong": totals.checked - totals.correct,
            "undecided": totals.undecided,
            "without_result": totals.without_result,
            "mean_steps": totals.mean_steps,
            "cut_answers": totals.cut_answers,
            "full_contexts": totals.full_contexts,
            "tokens": totals.tokens,
            "teachers": {
                teacher.name: {
                    "share": teacher.share,
                    "proposed": teacher.proposed,
                    "invalid": teacher.invalid,
                    "shared": teacher.shared,
                    "kept": teacher.kept,
                    "winning": teacher.winning,
                    "mean_score": teacher.mean_score,
                    "tokens": teacher.tokens,
                    "request_seconds": round(teacher.request_seconds, 3),
                }
                for teacher in totals.teachers
            },
            "prover": {"tokens": totals.scored_tokens, "request_seconds": round(totals.prover_seconds, 3)},
            "engine_seconds": round(totals.engine_seconds, 3),
            "workers": dict(self.workers),
            "missing_workers": list(self.missing),
            "conditions": [condition.to_json() for condition in self.conditions],
            "idle_seconds": round(counts.idle_seconds, 1),
            "waiting_for": dict(self.waiting),
            "eta_seconds": None if self.eta_seconds is None else round(self.eta_seconds, 1),
        }


def named_workers(workers: Sequence[LiveWorkers], names: Mapping[str, str]) -> dict[str, int]:
    """Processes by what a user calls them: the model's name in cord.toml (`names`, by fingerprint), else its path."""
    named: dict[str, int] = {}
    for worker in workers:
        name = worker.role if worker.model is None else names.get(worker.model, worker.path or worker.model)
        named[name] = named.get(name, 0) + worker.count
    return named


def named_conditions(conditions: Sequence[WorkerCondition], names: Mapping[str, str]) -> list[Condition]:
    """What keeps the run's workers from their work, by `names` as in `named_workers`; without names, all of them."""
    return [
        Condition(
            model=names.get(found.model or "", found.path or "coordinator"),
            process=found.process,
            text=found.text,
            since=found.since,
            seconds=found.seconds,
        )
        for found in conditions
        if not names or found.model is None or found.model in names
    ]


class ProgressView(Protocol):
    """Somewhere to show snapshots, as a context manager."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def show(self, snapshot: Snapshot) -> None:
        """Shows the newest state; cheap to call often."""
        ...

    def say(self, message: str) -> None:
        """Shows an event beside the progress."""
        ...


class JsonView:
    """One JSON object a line on standard output, every `seconds` and at the end; events go to standard error."""

    def __init__(self, seconds: float = 1.0) -> None:
        self._seconds = seconds
        self._due = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def show(self, snapshot: Snapshot) -> None:
        """Prints the snapshot when it is due or final."""
        now = time.monotonic()
        if now >= self._due or snapshot.is_final:
            self._due = now + self._seconds
            print(json.dumps(snapshot.to_json(), ensure_ascii=False), flush=True)

    def say(self, message: str) -> None:
        """Prints to standard error."""
        print(shown_lines(message), file=sys.stderr, flush=True)


class LineView:
    """Plain lines on standard error: every 10 s where something changed, else every minute; at once while a run
    begins and what it waits for changes; and at the end."""

    def __init__(self, seconds: float = LINE_SECONDS) -> None:
        self._seconds = seconds
        self._started = time.monotonic()
        self._said_at = -math.inf
        self._said: tuple[object, ...] = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def show(self, snapshot: Snapshot) -> None:
        """Prints the snapshot when it is due or final."""
        now = time.monotonic()
        news = _news(snapshot)
        begins = snapshot.begins and news != self._said
        pause = 1.0 if begins else self._seconds if news != self._said else max(self._seconds, SILENCE_SECONDS)
        if now >= self._said_at + pause or snapshot.is_final:
            self._said_at, self._said = now, news
            self.say(f"[{duration(now - self._started)}] {line(snapshot)}")

    def say(self, message: str) -> None:
        """Prints at once."""
        print(shown_lines(message), file=sys.stderr, flush=True)


def _news(snapshot: Snapshot) -> tuple[object, ...]:
    """What is new when it differs from before, unlike times and rates."""
    counts = snapshot.counts
    kept = tuple((one.model, one.process, one.text) for one in snapshot.conditions)
    waiting = tuple(text.partition(" (")[0] for text in snapshot.waiting.values())
    is_still = counts.idle_seconds >= SILENCE_SECONDS
    return (
        snapshot.state,
        tuple(counts.problems.items()),
        counts.steps,
        snapshot.totals.proposed,
        kept,
        waiting,
        is_still,
    )


class LiveView:
    """A table that is drawn over in a terminal."""

    def __init__(self, console: Console) -> None:
        from rich.live import Live

        self._started = time.monotonic()
        self._live: Live = Live(console=console, refresh_per_second=4, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, snapshot: Snapshot) -> None:
        """Draws the snapshot."""
        self._live.update(panel(snapshot, time.monotonic() - self._started))

    def say(self, message: str) -> None:
        """Prints above the table."""
        self._live.console.print(shown_lines(message))


def open_view(*, as_json: bool) -> ProgressView:
    """The view that fits: JSON where asked, live in a terminal, plain lines elsewhere."""
    if as_json:
        return JsonView()
    screen = console(stderr=True)
    return LiveView(screen) if screen.is_terminal and not screen.is_dumb_terminal else LineView()


def console(*, stderr: bool = False) -> Console:
    """A console that reads nothing as markup."""
    from rich.console import Console

    made = Console(stderr=stderr, markup=False, emoji=False, highlight=False)
    if not made.is_terminal:
        # A file or a pipe has no width that tables would have to fit.
        made.width = max(made.width, _FILE_COLUMNS)
    return made


def line(snapshot: Snapshot) -> str:
    """The snapshot in one line."""
    counts, totals = snapshot.counts, snapshot.totals
    failed = counts.problems.get("failed", 0)
    parts = [
        f"{counts.problems.get('done', 0)}/{counts.total} done",
        f"{counts.active} active",
        *([f"{failed} failed"] if failed else []),
    ]
    if totals.proposed:
        parts += [
            f"{counts.steps:,} steps",
            f"{totals.proposed:,} candidates ({counts.steps_per_second:.1f}/s)",
            f"{totals.tokens:,} tokens ({counts.tokens_per_second:.0f}/s)",
            f"score {figure(totals.mean_score)}",
            f"accuracy {percent(totals.accuracy)}" + _undecided(totals),
            *([] if snapshot.is_final else [f"ETA {duration(snapshot.eta_seconds)}"]),
        ]
    if snapshot.state != "active":
        parts.insert(0, snapshot.state)
    return ", ".join(parts) + "".join(f"; {remark}" for remark in _remarks(snapshot))


def panel(snapshot: Snapshot, seconds: float | None) -> RenderableType:
    """The snapshot as a small screen."""
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
    # In a grid of its own, because a bar does not end its line.
    bar = Table.grid()
    bar.add_row(ProgressBar(total=max(1, counts.total), completed=counts.final, width=60))
    workers = ", ".join(f"{shown(name)} x{count}" for name, count in snapshot.workers.items()) or "none yet"
    return Group(
        head,
        bar,
        facts,
        teachers,
        Text(f"workers: {workers}", style="dim"),
        *(Text(remark, style="bold yellow") for remark in _remarks(snapshot)),
    )


def without_workers(missing: Sequence[str]) -> str:
    """For people: which roles and models of a run have no process."""
    names = ", ".join(shown(name) for name in missing)
    return f"NO WORKER for {names}: what needs it waits (cordctl up, or cordctl worker)"


def _remarks(snapshot: Snapshot) -> list[str]:
    """What keeps the run from going on: workers that are missing, what is waited for, what keeps workers."""
    idle = snapshot.counts.idle_seconds
    since = f"nothing for {duration(idle)}: " if idle >= SILENCE_SECONDS else ""
    remarks = []
    if snapshot.missing:
        remarks.append(f"{since}{without_workers(snapshot.missing)}")
    waiting = {name: text for name, text in snapshot.waiting.items() if name not in snapshot.missing}
    if waiting and snapshot.begins and not since:
        remarks.append(f"waiting for {_grouped(waiting)}")
    elif waiting and since:
        names = ", ".join(map(shown, waiting))
        what = "; ".join(f"{shown(name)} {text}" for name, text in waiting.items())
        remarks.append(f"{'' if remarks else since}waiting for {names}: {what}")
    return [*remarks, *(str(one) for one in snapshot.conditions if one.model not in waiting)]


def _grouped(waiting: Mapping[str, str]) -> str:
    """Who is waited for, with what they share said once: `planner, closer (is being started)`."""
    groups: dict[str, list[str]] = {}
    for name, text in waiting.items():
        groups.setdefault(text.partition(" (")[0], []).append(name)
    parts = []
    for what, names in groups.items():
        longest = max((waiting[name] for name in names), key=len)
        said = longest if len(names) == 1 else what
        parts.append(f"{', '.join(map(shown, names))} ({shown(said).replace(' (', ', ').rstrip(')')})")
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
            f"{counts.steps:,} steps, {totals.proposed:,} candidates",
            f"{totals.tokens:,} tokens generated",
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
    """Answers that are in no accuracy, where there are some."""
    if not totals.undecided:
        return ""
    again = f" ({totals.without_result:,} without a result: cordctl recheck)" if totals.without_result else ""
    return f", {totals.undecided:,} undecided{again}"


def figure(value: float | None, digits: int = 3) -> str:
    """A number, or a dash where there is none."""
    return "-" if value is None else f"{value:.{digits}f}"


def percent(value: float | None) -> str:
    """A share as a percentage, or a dash where there is none."""
    return "-" if value is None else f"{100 * value:.1f} %"


def duration(seconds: float | None) -> str:
    """Seconds as h:mm:ss or m:ss, or a dash where there is no estimate."""
    if seconds is None:
        return "-"
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"
