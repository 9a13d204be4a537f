"""The rows that every reader yields, and their bound."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from cord_worker.dataset.records import Json, RejectedRecord

MAX_ROW_BYTES = 16 * 1024 * 1024
"""Longest line, CSV row or array element, in bytes; bounds the memory of reading for any file."""


class Row(NamedTuple):
    """A decoded row. `trusted`: its reader already knows that all of it can be stored. `damaged`: a LaTeX command whose
    backslash had to be restored to decode the row."""

    location: str
    value: dict[str, Json]
    trusted: bool
    damaged: str | None = None


Rows = Iterator[Row | RejectedRecord]
