"""The console that tables are printed to: a terminal, a file or a pipe."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

_FILE_COLUMNS = 400
"""Least width of tables that are printed to a file or a pipe, where they need not fit a screen."""


def console(*, stderr: bool = False) -> Console:
    """A console that reads nothing as markup; tables in a file or pipe are at least `_FILE_COLUMNS` wide."""
    from rich.console import Console

    class PipedConsole(Console):
        def on_broken_pipe(self) -> None:
            """Leaves the error to the command, because rich would end the process with exit code 1."""
            raise

    made = PipedConsole(stderr=stderr, markup=False, emoji=False, highlight=False)
    if not made.is_terminal:
        made.width = max(made.width, _FILE_COLUMNS)
    return made
