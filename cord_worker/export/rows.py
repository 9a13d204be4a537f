"""Rows as JSON lines or Parquet, the same bytes for the same rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import IO, Any

_ROW_GROUP = 1_000
"""Rows of a Parquet row group: what is held in memory at once."""


def write_lines(file: IO[bytes], rows: Iterable[dict[str, Any]]) -> int:
    """Writes one JSON object a line; returns how many."""
    encode: Callable[[dict[str, Any]], str] = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
    count = 0
    for row in rows:
        file.write(encode(row).encode() + b"\n")
        count += 1
    return count


def write_parquet(file: IO[bytes], rows: Iterable[dict[str, str]], columns: Sequence[str]) -> int:
    """Writes a Parquet file of text columns; returns its number of rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([(column, pa.string()) for column in columns])
    count = 0
    with pq.ParquetWriter(file, schema) as writer:
        remaining = iter(rows)
        while group := list(islice(remaining, _ROW_GROUP)):
            writer.write_table(pa.Table.from_pylist(group, schema=schema))
            count += len(group)
    return count
