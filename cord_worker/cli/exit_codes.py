"""Exit codes that several commands share (docs/errors-and-exit-codes.md)."""

from __future__ import annotations

FOUND_SOMETHING = 4
"""A check was made and found something. Exit code 1 means instead that the command failed, so nothing is known."""
