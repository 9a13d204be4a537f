"""A terminal, or a file, that tables are printed to."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

_FILE_COLUMNS = 400


def console(*, stderr: bool = False) -> Console:
    """A console that reads nothing as markup."""
    from rich.console import Console

    made = Console(stderr=stderr, markup=False, emoji=False, highlight=False)
    if not made.is_terminal:
        # A file or a pipe has no width that tables would have to fit.
        made.width = max(made.width, _FILE_COLUMNS)
    return made
