"""Parquet files and Hugging Face dataset folders, read with pyarrow in batches.

A folder that `datasets.save_to_disk` wrote is Arrow streams plus `state.json`, which lists them in order; selections
are already applied in them. pyarrow reads these, so that the heavy `datasets` library is not needed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cord_worker.dataset.records import RejectedRecord
from cord_worker.dataset.rows import Row, Rows
from cord_worker.dataset.values import jsonable
from cord_worker.errors import DatasetError

if TYPE_CHECKING:
    import pyarrow

_BATCH = 1024
_END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"


def read_parquet(path: Path) -> Rows:
    """The rows of a Parquet file, a batch of them in memory at a time."""
    arrow = _pyarrow(path)
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            _check_columns(path, file.schema_arrow.names)
            # One iteration over all groups, or a memory map, would hold what was read until its end.
            groups = range(file.num_row_groups)
            batches = (file.iter_batches(_BATCH, row_groups=[group], use_threads=False) for group in groups)
            yield from _rows(path.name, chain.from_iterable(batches))
    except (arrow.ArrowException, OSError) as error:
        raise _unreadable(path, error) from error


def read_folder(path: Path, split: str | None) -> Rows:
    """The rows of a folder that `datasets.save_to_disk` wrote, of one split where it holds several."""
    folder = _choose_split(path, split)
    for file in _arrow_files(folder):
        location = str(file.relative_to(path.parent))
        yield from _read_stream(file, location)


def _read_stream(file: Path, location: str) -> Rows:
    arrow = _pyarrow(file)
    try:
        _check_end(file)
        # Not memory mapped: the pages that were read would count as this process's memory until the end.
        with arrow.OSFile(str(file), "rb") as source, arrow.ipc.open_stream(source) as stream:
            _check_columns(file, stream.schema.names)
            yield from _rows(location, stream)
    except (arrow.ArrowException, OSError) as error:
        raise _unreadable(file, error) from error


def _check_end(file: Path) -> None:
    """Arrow reads a stream that was cut between two batches without a word."""
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
    try:
        values = batch.to_pylist()
    except ValueError:
        # One bad cell fails the whole batch: only then is each row converted by itself.
        values = [None] * batch.num_rows
    for index, value in enumerate(values):
        location = f"{name}:{before + index + 1}"
        try:
            row = batch.slice(index, 1).to_pylist()[0] if value is None else value
            yield Row(location, {str(key): jsonable(cell) for key, cell in row.items()}, trusted=False)
        except UnicodeDecodeError as error:
            reason = f"a text of the row is not valid UTF-8 (byte {error.start}): write the file again"
            yield RejectedRecord(location, None, reason)
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            yield RejectedRecord(location, None, f"a cell of the row cannot be read: {error}")


def _choose_split(path: Path, split: str | None) -> Path:
    if (path / "dataset_dict.json").is_file():
        splits = _load_json(path / "dataset_dict.json").get("splits", [])
        if split is None and len(splits) == 1:
            split = splits[0]
        if split is None or split not in splits:
            wrong = "holds several splits" if split is None else f"has no split {split!r}"
            raise DatasetError(f"{path} {wrong}: choose one with --split: {', '.join(splits) or 'none is there'}.")
        return path / split
    if not (path / "state.json").is_file():
        raise DatasetError(
            f"{path} is a folder but no saved dataset (it holds neither state.json nor dataset_dict.json): "
            "give a file in it, or save the dataset with `save_to_disk`."
        )
    if split is not None:
        raise DatasetError(f"{path} is a single dataset without splits: leave out --split.")
    return path


def _arrow_files(folder: Path) -> list[Path]:
    state = _load_json(folder / "state.json")
    if state.get("_indices_files") or state.get("_indices_data_files"):
        raise DatasetError(f"{folder} was saved by an old version of `datasets`: load and save it again.")
    names = [str(entry["filename"]) for entry in state.get("_data_files", [])]
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise DatasetError(f"{folder} is not whole, {', '.join(missing)} is missing: copy or save it again.")
    return [folder / name for name in names]


def _load_json(path: Path) -> dict[str, Any]:
    try:
        loaded = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path} cannot be read ({error}): copy or save the dataset again.") from error
    if not isinstance(loaded, dict):
        raise DatasetError(f"{path} is no JSON object: copy or save the dataset again.")
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
