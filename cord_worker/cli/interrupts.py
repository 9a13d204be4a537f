"""Ctrl-C and SIGTERM: the command cleans up and tells the user how to continue."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import click

_EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}


@contextmanager
def graceful_interrupts(advice: str) -> Iterator[Callable[[], None]]:
    """Ends with exit code 130 after Ctrl-C and 143 after SIGTERM, once the body has cleaned up.

    Yields a function to call from time to time. After a signal it raises KeyboardInterrupt again, because a library may
    have swallowed the first one while it cleaned up, or turned it into another error.
    """
    received: list[signal.Signals] = []

    def on_signal(number: int, _frame: FrameType | None) -> None:
        received.append(signal.Signals(number))
        raise KeyboardInterrupt

    def check() -> None:
        if received:
            raise KeyboardInterrupt

    before = {number: signal.signal(number, on_signal) for number in _EXIT_CODES}
    try:
        yield check
    except (Exception, KeyboardInterrupt):
        if not received:
            raise
        click.echo(f"interrupted; nothing that was committed is lost: {advice}", err=True)
        raise SystemExit(_EXIT_CODES[received[0]]) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
