"""The console that tables are printed to: a terminal, a file or a pipe."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

_FILE_COLUMNS = 400
"""Least width of tables that are not printed to a terminal."""


def console(*, stderr: bool = False) -> Console:
    """A console that reads nothing as markup."""
    from rich.console import Console

    made = Console(stderr=stderr, markup=False, emoji=False, highlight=False)
    if not made.is_terminal:
        # Tables need not fit a width in a file or a pipe.
        made.width = max(made.width, _FILE_COLUMNS)
    return made
