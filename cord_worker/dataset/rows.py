"""What every reader yields, and what bounds it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from cord_worker.dataset.records import Json, RejectedRecord

MAX_ROW_BYTES = 16 * 1024 * 1024
"""Longest line, CSV row or array element (bytes of text); bounds the memory of reading, whatever the file."""


class Row(NamedTuple):
    """A decoded row; `trusted` where the reader already knows that nothing in it is unstorable, `damaged` is a
    LaTeX command whose backslash had to be restored to decode it."""

    location: str
    value: dict[str, Json]
    trusted: bool
    damaged: str | None = None


Rows = Iterator[Row | RejectedRecord]
