"""Parquet files and folders that `datasets.save_to_disk` wrote, read with pyarrow in batches.

Such a folder holds Arrow streams plus `state.json`, which lists them in order; selections are already applied. pyarrow
reads these, so the heavy `datasets` library is not needed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cord_worker.dataset.records import Json, RejectedRecord
from cord_worker.dataset.rows import Row, Rows
from cord_worker.dataset.values import as_json, with_shortest_text
from cord_worker.errors import DatasetError

if TYPE_CHECKING:
    import pyarrow

_BATCH = 1024
_END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"

Convert = Callable[[Any], Json]


def read_parquet(path: Path, name: str) -> Rows:
    """The rows of a Parquet file, with one batch in memory at a time."""
    arrow = _pyarrow(path)
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            _check_columns(path, file.schema_arrow.names)
            # One iteration over all groups, or a memory map, would keep all data in memory until its end.
            groups = range(file.num_row_groups)
            batches = (file.iter_batches(_BATCH, row_groups=[group], use_threads=False) for group in groups)
            yield from _rows(name, chain.from_iterable(batches))
    except (arrow.ArrowException, OSError) as error:
        raise _unreadable(path, error) from error


def read_saved(path: Path, split: str | None) -> Rows:
    """The rows of a folder that `datasets.save_to_disk` wrote, of one split if it holds several."""
    folder = _choose_split(path, split)
    base = path.resolve().parent
    for file in _arrow_files(folder):
        yield from _read_stream(file, str(file.resolve().relative_to(base)))


def _read_stream(file: Path, location: str) -> Rows:
    arrow = _pyarrow(file)
    try:
        _check_end(file)
        # Not memory mapped: pages already read would count as this process's memory until the end.
        with arrow.OSFile(str(file), "rb") as source, arrow.ipc.open_stream(source) as stream:
            _check_columns(file, stream.schema.names)
            yield from _rows(location, stream)
    except (arrow.ArrowException, OSError) as error:
        raise _unreadable(file, error) from error


def _check_end(file: Path) -> None:
    """Raises DatasetError if the stream was cut between two batches, which Arrow reads silently."""
    with file.open("rb") as stream:
        stream.seek(max(0, file.stat().st_size - len(_END_OF_STREAM)))
        if stream.read() != _END_OF_STREAM:
            raise DatasetError(f"{file} is cut off: copy or save the dataset again.")


def _rows(name: str, batches: Iterator[Any]) -> Rows:
    number = 0
    for batch in batches:
        for start in range(0, batch.num_rows, _BATCH):
            for row in _batch_rows(name, number, batch.slice(start, _BATCH)):
                number += 1
                yield row


def _batch_rows(name: str, before: int, batch: pyarrow.RecordBatch) -> Rows:
    columns = [(str(field.name), _cells(batch.column(at), field.type)) for at, field in enumerate(batch.schema)]
    for index in range(batch.num_rows):
        location = f"{name}:{before + index + 1}"
        row = {column: cells[index] for column, cells in columns}
        bad = next(((column, cell) for column, cell in row.items() if isinstance(cell, _BadCell)), None)
        if bad is not None:
            yield RejectedRecord(location, bad[0], bad[1].reason)
        else:
            yield Row(location, row, trusted=False)


class _BadCell:
    """A cell that cannot be read, and the reason."""

    def __init__(self, error: Exception) -> None:
        self.reason = f"cannot be read: {error}"
        if isinstance(error, UnicodeDecodeError):
            self.reason = f"is not valid UTF-8 (byte {error.start}): write the file again"


def _cells(column: pyarrow.Array, kind: pyarrow.DataType) -> list[Any]:
    """The cells of a column; an unreadable cell does not affect the others."""
    import pyarrow as pa

    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        # Python's own times end at microseconds.
        return list(map(_time, column.cast(pa.string()).to_pylist()))
    if (pa.types.is_list(kind) or pa.types.is_large_list(kind)) and pa.types.is_timestamp(kind.value_type):
        lists = column.cast(pa.large_list(pa.string())).to_pylist()
        return [None if items is None else list(map(_time, items)) for items in lists]
    convert = _converter(kind)
    try:
        values = column.to_pylist()
        return values if convert is None else [None if value is None else convert(value) for value in values]
    except _UNREADABLE:
        return [_cell(scalar, convert) for scalar in column]


def _time(text: str | None) -> str | None:
    """A timestamp as Arrow writes it, in ISO 8601."""
    if text is None:
        return None
    moment, _, fraction = text.replace(" ", "T").partition(".")
    # A fraction of zeros is dropped, a time zone after it is not.
    digits = fraction[: len(fraction) - len(fraction.lstrip("0123456789"))]
    zone = fraction[len(digits) :]
    return f"{moment}.{digits}{zone}" if digits.strip("0") else f"{moment}{zone}"


_UNREADABLE = (ValueError, TypeError, OverflowError, RecursionError)


def _cell(scalar: pyarrow.Scalar, convert: Convert | None) -> Any:
    try:
        value = scalar.as_py()
        return value if convert is None or value is None else convert(value)
    except _UNREADABLE as error:
        return _BadCell(error)


def _converter(kind: pyarrow.DataType) -> Convert | None:
    """The function that converts a Python value of this type to JSON; None if the value already is JSON."""
    import pyarrow as pa

    types = pa.types
    if types.is_dictionary(kind):
        return _converter(kind.value_type)
    if types.is_string(kind) or types.is_large_string(kind) or types.is_boolean(kind) or types.is_integer(kind):
        return None
    if types.is_float16(kind) or types.is_float32(kind):
        narrow = np.float16 if types.is_float16(kind) else np.float32
        # The text of the number as stored, not of the wider one that Python holds.
        return lambda value: with_shortest_text(float(value), str(narrow(value)))
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        inner = _converter(kind.value_type)
        return inner if inner is None else lambda value: [None if item is None else inner(item) for item in value]
    if types.is_struct(kind):
        members = {str(kind.field(at).name): _converter(kind.field(at).type) for at in range(kind.num_fields)}
        return lambda value: {
            name: item if item is None or members.get(name) is None else members[name](item)  # type: ignore[misc]
            for name, item in value.items()
        }
    return as_json


def _choose_split(path: Path, split: str | None) -> Path:
    if (path / "dataset_dict.json").is_file():
        splits = _load_json(path / "dataset_dict.json").get("splits", [])
        if split is None and len(splits) == 1:
            split = splits[0]
        if split is None or split not in splits:
            wrong = "holds several splits" if split is None else f"has no split {split!r}"
            raise DatasetError(f"{path} {wrong}: choose one with --split: {', '.join(splits) or 'none is there'}.")
        return path / split
    if split is not None:
        raise DatasetError(f"{path} is a single dataset without splits: leave out --split.")
    return path


def _arrow_files(folder: Path) -> list[Path]:
    state = _load_json(folder / "state.json")
    if state.get("_indices_files") or state.get("_indices_data_files"):
        raise DatasetError(f"{folder} was saved by an old version of `datasets`: load and save it again.")
    names = [str(entry["filename"]) for entry in state.get("_data_files", [])]
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise DatasetError(f"{folder} is incomplete, {', '.join(missing)} is missing: copy or save it again.")
    return [folder / name for name in names]


def _load_json(path: Path) -> dict[str, Any]:
    try:
        loaded = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path} cannot be read ({error}): copy or save the dataset again.") from error
    if not isinstance(loaded, dict):
        raise DatasetError(f"{path} is not a JSON object: copy or save the dataset again.")
    return loaded


def _check_columns(path: Path, names: Sequence[str]) -> None:
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DatasetError(f"{path} has the column {', '.join(map(repr, twice))} twice: rename one.")


def _unreadable(path: Path, error: Exception) -> DatasetError:
    first = str(error).partition("\n")[0].rstrip(".")
    return DatasetError(f"{path} cannot be read, is it cut off or another format? ({first}) Copy or write it again.")


def _pyarrow(path: Path) -> Any:
    try:
        import pyarrow
    except ImportError as error:
        raise DatasetError(f"{path} needs pyarrow to be read: `pip install pyarrow`.") from error
    return pyarrow
