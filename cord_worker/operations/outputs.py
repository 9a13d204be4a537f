"""Refusing an output that would take the place of something else, before any work."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from pathlib import Path

from cord_worker.export.files import STANDARD_OUTPUT, ExportError
from cord_worker.export.forms import Form, check_output

_MARKS = frozenset({"trajectory", "completion", "reason"})
"""Fields of which every row that an export writes has one."""
_MOST_READ = 1 << 20


def check_run_output(output: str, dataset: Path, config: Path | None = None) -> None:
    """Raises ExportError where `output` cannot be written, or is one of the run's inputs: its dataset, a file of it,
    its rejects file, its configuration.

    Files are told apart by what they are, not by their names: `./rows.jsonl` and a link are `rows.jsonl`.
    """
    check_output(output)
    if output == STANDARD_OUTPUT:
        return
    target = Path(output)
    if is_same(target, dataset):
        raise ExportError(f"-o {output} is the dataset {dataset} itself, which it would take the place of: {_OTHER}")
    if dataset.is_dir() and target.resolve().is_relative_to(dataset.resolve()):
        raise ExportError(
            f"-o {output} lies in the dataset's folder {dataset}, whose files are read as its rows: name a place "
            "outside it."
        )
    named = dataset if dataset.name else dataset.resolve()
    if is_same(target, named.with_name(f"{named.name}.rejects.jsonl")):
        raise ExportError(f"-o {output} is the file that the dataset's bad rows are written to: {_OTHER}")
    if config is not None and is_same(target, config):
        raise ExportError(f"-o {output} is the configuration {config} itself: {_OTHER}")
    _check_no_dataset(output, "-o")


def check_export_outputs(outputs: Mapping[str, str | None]) -> None:
    """Raises ExportError where one of the outputs (by option) cannot be written, holds rows that no export wrote, such
    as a dataset, or is another one of them."""
    named = {option: output for option, output in outputs.items() if output is not None}
    for option, output in named.items():
        check_output(output)
        _check_no_dataset(output, option)
    options = list(named)
    for place, option in enumerate(options):
        for other in options[:place]:
            if is_same(Path(named[option]), Path(named[other])) or named[option] == named[other] == STANDARD_OUTPUT:
                raise ExportError(f"{option} {named[option]} and {other} {named[other]} are one file: {_OTHER}")


_OTHER = "name another file."


def is_same(one: Path, other: Path) -> bool:
    """Whether both name one file, through links too; also one that is still to be made."""
    try:
        return one.samefile(other)
    except OSError:
        return one.resolve() == other.resolve()


def _check_no_dataset(output: str, option: str) -> None:
    fields = None if output == STANDARD_OUTPUT else _fields_of_first_row(output)
    if fields is not None and fields.isdisjoint(_MARKS):
        shown = ", ".join(sorted(fields)[:6])
        raise ExportError(
            f"{option} {output} holds rows that no export wrote (fields {shown}), perhaps a dataset: name another "
            "file, or remove it first."
        )


def _fields_of_first_row(output: str) -> frozenset[str] | None:
    """Of a file that is there; None where it has no row that can be read as one."""
    form = check_output(output)
    path = Path(output)
    if not path.is_file() or not path.stat().st_size:
        return None
    try:
        if form is Form.PARQUET:
            import pyarrow.parquet as pq

            return frozenset(pq.read_schema(path).names)
        if form is Form.ZSTD_LINES:
            import pyarrow as pa

            with pa.input_stream(str(path), compression="zstd") as packed:
                first = packed.read(_MOST_READ).partition(b"\n")[0]
        else:
            with gzip.open(path) if form is Form.GZIP_LINES else path.open("rb") as file:
                first = file.readline(_MOST_READ)
        row = json.loads(first)
    except (OSError, ValueError, EOFError):
        return None
    return frozenset(row) if isinstance(row, dict) and row else None
