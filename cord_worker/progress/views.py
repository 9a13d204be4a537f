"""The views that show snapshots: JSON for scripts, plain lines, or a live table in a terminal."""

from __future__ import annotations

import json
import math
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from cord_worker.display_text import shown_lines
from cord_worker.progress.number_format import duration
from cord_worker.progress.rendering import SILENCE_SECONDS, line, panel
from cord_worker.progress.snapshot import Snapshot
from cord_worker.progress.terminal import console

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live

LINE_SECONDS = 10.0
"""Pause between two plain lines."""


class ProgressView(Protocol):
    """A context manager that shows snapshots."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def show(self, snapshot: Snapshot) -> None:
        """Shows the newest snapshot. It may be called often."""
        ...

    def say(self, message: str) -> None:
        """Shows a message in addition to the progress."""
        ...


class JsonView:
    """Prints one JSON object per line to standard output, every `seconds` and at the end; messages go to stderr."""

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
        """Prints the message to standard error."""
        print(shown_lines(message), file=sys.stderr, flush=True)


class LineView:
    """Prints plain lines to standard error.

    A line is printed every `seconds` if something has changed, else every minute. Before the first result, a change is
    printed within a second. The last line is printed at the end.
    """

    def __init__(self, seconds: float = LINE_SECONDS) -> None:
        self._seconds = seconds
        self._started = time.monotonic()
        self._printed_at = -math.inf
        self._printed: tuple[object, ...] = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def show(self, snapshot: Snapshot) -> None:
        """Prints the snapshot when it is due or final."""
        now = time.monotonic()
        facts = _changing_facts(snapshot)
        pause = max(self._seconds, SILENCE_SECONDS)
        if facts != self._printed:
            pause = 1.0 if snapshot.awaits_first_result else self._seconds
        if now >= self._printed_at + pause or snapshot.is_final:
            self._printed_at, self._printed = now, facts
            self.say(f"[{duration(now - self._started)}] {line(snapshot)}")

    def say(self, message: str) -> None:
        """Prints the message at once."""
        print(shown_lines(message), file=sys.stderr, flush=True)


def _changing_facts(snapshot: Snapshot) -> tuple[object, ...]:
    """The facts whose change is worth a line; times and rates are not among them."""
    counts = snapshot.counts
    conditions = tuple((one.model, one.process, one.text) for one in snapshot.conditions)
    waiting = tuple(text.partition(" (")[0] for text in snapshot.waiting.values())
    is_silent = counts.idle_seconds >= SILENCE_SECONDS
    return (
        snapshot.state,
        tuple(counts.problems.items()),
        counts.steps,
        snapshot.totals.proposed,
        conditions,
        waiting,
        is_silent,
    )


class LiveView:
    """A live table in a terminal, redrawn in place."""

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
        """Redraws the table."""
        self._live.update(panel(snapshot, time.monotonic() - self._started))

    def say(self, message: str) -> None:
        """Prints the message above the table."""
        self._live.console.print(shown_lines(message))


def open_view(*, as_json: bool) -> ProgressView:
    """JSON with `as_json`, else a live table in a terminal, else plain lines."""
    if as_json:
        return JsonView()
    screen = console(stderr=True)
    return LiveView(screen) if screen.is_terminal and not screen.is_dumb_terminal else LineView()
