"""Datasets that a Python program holds: written to a file, so that they are read and checked like any other.

Rows (mappings) become JSON lines; tables (Arrow, pandas, polars, `datasets`) become Parquet, batch by batch.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cord_worker.dataset import HubSnapshot
from cord_worker.dataset.hub import download, named_dataset
from cord_worker.errors import CordError, DatasetError

_BATCH = 1_000
_STEM = "rows"
"""Name of the file without its ending. Errors and rejected rows contain it: `rows.jsonl:17` is the 17th row."""

_ACCEPTED = (
    "give the path of a file or folder, a dataset of the hub (ORG/NAME), an iterable of mappings, a table of pyarrow, "
    "pandas or polars, or a datasets.Dataset"
)


def is_path(dataset: object) -> bool:
    """Whether the dataset is named by a path or hub id, and not given as rows."""
    return isinstance(dataset, str | os.PathLike)


@contextmanager
def dataset_path(dataset: object, split: str | None = None) -> Iterator[Path | HubSnapshot]:
    """The dataset on this machine: its own path, or the downloaded `split` of a dataset of the hub. Rows are written to
    a file in a temporary folder, which is removed after the `with`.

    Errors in the `with` name rows by the file's name alone, without the temporary folder.

    Raises:
        DatasetError: it is not a dataset, or holds values that no file can hold.
        HubError: the hub cannot be reached, or has no such dataset.
    """
    if is_path(dataset):
        path = _checked_path(os.fspath(dataset))  # type: ignore[call-overload]
        named = named_dataset(dataset) if isinstance(dataset, str) and "/" in dataset else path
        yield named if isinstance(named, Path) else download(named, split)
        return
    if isinstance(dataset, Mapping) and _library(dataset) == "datasets":
        raise DatasetError(f"{type(dataset).__name__} holds several splits: give one of them.")
    is_table = hasattr(dataset, "__arrow_c_stream__")
    if isinstance(dataset, bytes | Mapping) or not (is_table or isinstance(dataset, Iterable)):
        raise DatasetError(f"{type(dataset).__name__} is not a dataset: {_ACCEPTED}.")
    with tempfile.TemporaryDirectory(prefix="cord-") as folder:
        try:
            yield _write(dataset, Path(folder))
        except CordError as error:
            # The program does not know the temporary folder, which is removed before it reads the error.
            error.args = tuple(one.replace(f"{folder}/", "") if isinstance(one, str) else one for one in error.args)
            raise


def _checked_path(path: str | bytes) -> Path:
    if isinstance(path, bytes):
        path = os.fsdecode(path)
    if not path:
        raise DatasetError("the dataset's path is empty: name a file or folder.")
    if "://" in path:
        raise DatasetError(f"{path!r} is a URL: download the file and name that.")
    return Path(path)


def _write(dataset: Any, folder: Path) -> Path:
    library = _library(dataset)
    if library == "datasets" and hasattr(dataset, "with_format"):
        # The dataset's underlying table would be wrong: it has all rows in the original order, without the selection.
        return _write_table(dataset.with_format("arrow").iter(batch_size=_BATCH), folder)
    if library != "pandas" and not hasattr(dataset, "__arrow_c_stream__"):
        return _write_lines(dataset, folder)
    import pyarrow as pa

    try:
        if library == "pandas":
            # Without the index, which is not a field.
            return _write_table(pa.Table.from_pandas(dataset, preserve_index=False).to_reader(_BATCH), folder)
        return _write_table(pa.RecordBatchReader.from_stream(dataset), folder)
    except (pa.ArrowException, TypeError, ValueError, AttributeError) as error:
        first = str(error).partition("\n")[0]
        raise DatasetError(f"{type(dataset).__name__} cannot be read as a table ({first}): {_ACCEPTED}.") from error


def _write_table(batches: Iterable[Any], folder: Path) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / f"{_STEM}.parquet"
    writer: Any = None
    try:
        for batch in batches:
            table = batch if isinstance(batch, pa.Table) else pa.Table.from_batches([batch])
            writer = writer or pq.ParquetWriter(path, table.schema)
            writer.write_table(table)
    finally:
        if writer is not None:
            writer.close()
    if writer is None:
        raise DatasetError("the dataset holds no rows.")
    return path


def _write_lines(rows: Iterable[Any], folder: Path) -> Path:
    path = folder / f"{_STEM}.jsonl"
    number = 0
    with path.open("w", encoding="ascii") as file:
        for number, row in enumerate(rows, start=1):
            if not isinstance(row, Mapping):
                raise DatasetError(
                    f"row {number} of the dataset is of the type {type(row).__name__}, not a mapping: {_ACCEPTED}."
                )
            file.write(_line(number, row) + "\n")
    if not number:
        raise DatasetError("the dataset holds no rows.")
    return path


def _line(number: int, row: Mapping[Any, Any]) -> str:
    for name, value in row.items():
        if not isinstance(name, str):
            raise DatasetError(f"row {number} of the dataset: the name of the field {name!r} is not text.")
        try:
            json.dumps(value, default=_plain)
        except (TypeError, ValueError, RecursionError) as error:
            raise DatasetError(
                f"row {number} of the dataset: field {name!r} cannot be written as JSON: {error}."
            ) from error
    # ASCII, because half a surrogate pair cannot be written as UTF-8. Reading rejects a row that contains one.
    return json.dumps(dict(row), default=_plain)


def _plain(value: Any) -> Any:
    """Converts NumPy's numbers and arrays to Python's."""
    if _library(value) == "numpy" and hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"a value of the type {type(value).__name__} has no form in JSON")


def _library(value: object) -> str:
    """The package of the value's type, found without importing the package."""
    return type(value).__module__.partition(".")[0]
