"""Where snapshots are shown: a terminal, plain lines, or JSON for scripts."""

from __future__ import annotations

import json
import math
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from cord_worker.progress.drawing import SILENCE_SECONDS, line, panel
from cord_worker.progress.format import duration
from cord_worker.progress.snapshot import Snapshot
from cord_worker.progress.terminal import console
from cord_worker.progress.text import shown_lines

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live

LINE_SECONDS = 10.0
"""Pause between two plain lines."""


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
