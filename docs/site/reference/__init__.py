"""The pages of docs/reference, each written by one module from the code: `python -m docs.site.reference` writes them.

The page of the tables needs a migrated database; without one in CORD_DATABASE_URL, a temporary one is made. Tests
compare the committed pages with what is written here.
"""

from __future__ import annotations

from collections.abc import Callable

import sqlalchemy as sa

from docs.site.reference import (
    command_line,
    configuration_file,
    environment,
    exit_codes,
    messages,
    metrics,
    python_client,
    tables,
)

FROM_CODE: dict[str, Callable[[], str]] = {
    "command-line.md": command_line.page,
    "cord-toml.md": configuration_file.page,
    "environment.md": environment.page,
    "exit-codes.md": exit_codes.page,
    "messages.md": messages.page,
    "metrics.md": metrics.page,
    "python-api.md": python_client.page,
}
"""The pages that need nothing but the package, by their file names in docs/reference."""

FROM_DATABASE: dict[str, Callable[[sa.Connection], str]] = {"tables.md": tables.page}
"""The pages that need a database with the newest schema."""
