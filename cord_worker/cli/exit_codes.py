"""Exit codes that several commands share (docs/errors-and-exit-codes.md)."""

from __future__ import annotations

FOUND_SOMETHING = 4
"""A check was made and found something. Another code than that of an error (1), after which nothing is known."""
