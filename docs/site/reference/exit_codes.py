"""The page of exit codes."""

from __future__ import annotations

from cord_worker.cli.exit_codes import EXIT_CODES
from docs.site.reference import markdown


def page() -> str:
    """The page."""
    introduction = (
        "The exit codes of all commands and processes. [Errors](../errors-and-exit-codes.md) says what is tried again, "
        "and what a message looks like."
    )
    rows = [(str(code), markdown.cell(meaning)) for code, meaning in EXIT_CODES.items()]
    return "\n".join([markdown.head("Exit codes", introduction), markdown.table(("exit code", "means"), rows)])
