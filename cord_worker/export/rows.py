"""Writes rows as JSON lines or Parquet: the same rows give the same bytes. All rows have the same typed fields."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import IO, TYPE_CHECKING, Any

from cord_worker.dataset.jsontext import json_line
from cord_worker.export.formats import OutputFormat, format_of, output_file

if TYPE_CHECKING:
    import pyarrow

_ROW_GROUP = 1_000
"""Rows per Parquet row group; they are held in memory at once."""

Schema = str | list["Schema"] | Mapping[str, "Schema"]
"""Type of a value: `text`, `number`, `integer` or `flag`, a list of one type, or fields by name. All may be null."""


def write_rows(output: str, rows: Iterable[Mapping[str, Any]], schema: Mapping[str, Schema]) -> int:
    """Writes `rows` to `output` in the format that its name says; returns the number of rows. The file is written
    completely or stays unchanged.

    Raises:
        ExportError: the name or the folder of `output` is unusable.
    """
    is_table = format_of(output) is OutputFormat.PARQUET
    with output_file(output) as file:
        return write_parquet(file, rows, schema) if is_table else write_lines(file, rows)


def write_lines(file: IO[bytes], rows: Iterable[Mapping[str, Any]]) -> int:
    """Writes one JSON object per line; returns the number of lines."""
    count = 0
    for row in rows:
        file.write(json_line(row))
        count += 1
    return count


def write_parquet(file: IO[bytes], rows: Iterable[Mapping[str, Any]], schema: Mapping[str, Schema]) -> int:
    """Writes a Parquet file; returns its number of rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.schema([(name, _arrow(kind)) for name, kind in schema.items()])
    count = 0
    with pq.ParquetWriter(file, table) as writer:
        remaining = iter(rows)
        while group := list(islice(remaining, _ROW_GROUP)):
            writer.write_table(pa.Table.from_pylist(group, schema=table))
            count += len(group)
    return count


def _arrow(kind: Schema) -> pyarrow.DataType:
    import pyarrow as pa

    if isinstance(kind, str):
        plain = {"text": pa.string(), "number": pa.float64(), "integer": pa.int64(), "flag": pa.bool_()}
        return plain[kind]
    if isinstance(kind, list):
        return pa.list_(_arrow(kind[0]))
    return pa.struct([(name, _arrow(inner)) for name, inner in kind.items()])
