"""Writes rows as JSON lines or Parquet. The same rows give the same bytes. All rows have the same typed fields."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, Protocol

from cord_worker.dataset.jsontext import json_line
from cord_worker.export.file_types import FileType, file_type_of, output_file
from cord_worker.export.schema import Fields, Row, Schema

if TYPE_CHECKING:
    import pyarrow

_CHUNK_ROWS = 1_000
"""Rows that are held as Python objects before they become an Arrow table."""
_GROUP_BYTES = 16 << 20
"""Bytes of Arrow tables after which they are written as a row group of Parquet. The writer keeps about 65 kB of
metadata for each group until the end of the file, so small groups would let memory grow with the rows."""


class RowWriter(Protocol):
    """Writes rows to one file; `count` is the number of rows written."""

    count: int

    def write(self, row: Row) -> None:
        """Writes one row."""
        ...


@contextmanager
def row_writer(output: str, fields: Fields) -> Iterator[RowWriter]:
    """Writes rows to `output`, in the file type that its name says. The complete file replaces `output` in one rename
    at the end of the block; if the block raises, `output` stays unchanged.

    Raises:
        ExportError: the name or the folder of `output` is unusable.
    """
    is_table = file_type_of(output) is FileType.PARQUET
    with output_file(output) as file:
        if not is_table:
            yield _LineWriter(file)
            return
        table = _TableWriter(file, fields)
        try:
            yield table
            table.flush()
        finally:
            table.close()


def write_rows(output: str, rows: Iterable[Row], fields: Fields) -> int:
    """Writes `rows` to `output`, see `row_writer`; returns their number."""
    with row_writer(output, fields) as writer:
        for row in rows:
            writer.write(row)
        return writer.count


class _LineWriter:
    """One JSON object per line."""

    def __init__(self, file: IO[bytes]) -> None:
        self.count = 0
        self._file = file

    def write(self, row: Row) -> None:
        self._file.write(json_line(row))
        self.count += 1


class _TableWriter:
    """A Parquet file."""

    def __init__(self, file: IO[bytes], fields: Fields) -> None:
        import pyarrow.parquet as pq

        self.count = 0
        self._chunk: list[Row] = []
        self._tables: list[pyarrow.Table] = []
        self._schema = arrow_schema(fields)
        self._writer: Any = pq.ParquetWriter(file, self._schema)

    def write(self, row: Row) -> None:
        self._chunk.append(row)
        self.count += 1
        if len(self._chunk) == _CHUNK_ROWS:
            self._convert()
            if sum(table.nbytes for table in self._tables) >= _GROUP_BYTES:
                self._write_group()

    def flush(self) -> None:
        """Writes the rows that are held."""
        self._convert()
        self._write_group()

    def _convert(self) -> None:
        import pyarrow as pa

        if self._chunk:
            self._tables.append(pa.Table.from_pylist(self._chunk, schema=self._schema))
            self._chunk = []

    def _write_group(self) -> None:
        import pyarrow as pa

        if self._tables:
            group = pa.concat_tables(self._tables)
            self._tables = []
            self._writer.write_table(group, row_group_size=group.num_rows)

    def close(self) -> None:
        """Writes the end of the file."""
        self._writer.close()


def arrow_schema(fields: Fields) -> pyarrow.Schema:
    """The types of rows as those of an Arrow table; all values may be null."""
    import pyarrow as pa

    return pa.schema([(name, _arrow(kind)) for name, kind in fields.items()])


def _arrow(kind: Schema) -> pyarrow.DataType:
    import pyarrow as pa

    if isinstance(kind, str):
        plain = {"text": pa.string(), "number": pa.float64(), "integer": pa.int64(), "flag": pa.bool_()}
        return plain[kind]
    if isinstance(kind, list):
        return pa.list_(_arrow(kind[0]))
    return pa.struct([(name, _arrow(inner)) for name, inner in kind.items()])
