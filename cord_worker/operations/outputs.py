"""Rejects an output file that would replace something else, before any work."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from pathlib import Path

from cord_worker.export.files import STANDARD_OUTPUT, ExportError
from cord_worker.export.formats import OutputFormat, check_output

_EXPORT_FIELDS = frozenset({"trajectory", "completion", "reason"})
"""Every row that an export writes has one of these fields."""
_MAX_READ_BYTES = 1 << 20


def check_run_output(output: str, dataset: Path, config: Path | None = None) -> None:
    """Raises ExportError if `output` cannot be written, holds rows that no export wrote, or is one of the run's files:
    its dataset, a file of it, its rejects file, its configuration.

    Files are compared by identity, not by name: `./rows.jsonl` and a link to it are `rows.jsonl`.
    """
    check_output(output)
    if output == STANDARD_OUTPUT:
        return
    target = Path(output)
    if is_same(target, dataset):
        raise ExportError(f"-o {output} is the dataset {dataset} itself, which it would replace: {_ADVICE}")
    if dataset.is_dir() and target.resolve().is_relative_to(dataset.resolve()):
        raise ExportError(
            f"-o {output} is in the dataset's folder {dataset}, whose files are read as its rows: name a place "
            "outside it."
        )
    named = dataset if dataset.name else dataset.resolve()
    if is_same(target, named.with_name(f"{named.name}.rejects.jsonl")):
        raise ExportError(f"-o {output} is the file to which the dataset's bad rows are written: {_ADVICE}")
    if config is not None and is_same(target, config):
        raise ExportError(f"-o {output} is the configuration {config} itself: {_ADVICE}")
    _check_no_dataset(output, "-o")


def check_export_outputs(outputs: Mapping[str, str | None]) -> None:
    """Raises ExportError if one of the outputs (by option) cannot be written, holds rows that no export wrote, such as
    a dataset, or if two of them are one file."""
    named = {option: output for option, output in outputs.items() if output is not None}
    for option, output in named.items():
        check_output(output)
        _check_no_dataset(output, option)
    options = list(named)
    for place, option in enumerate(options):
        for other in options[:place]:
            if is_same(Path(named[option]), Path(named[other])) or named[option] == named[other] == STANDARD_OUTPUT:
                raise ExportError(f"{option} {named[option]} and {other} {named[other]} are one file: {_ADVICE}")


_ADVICE = "name another file."


def is_same(one: Path, other: Path) -> bool:
    """Whether both paths name one file, also through links, and also if the file does not exist yet."""
    try:
        return one.samefile(other)
    except OSError:
        return one.resolve() == other.resolve()


def _check_no_dataset(output: str, option: str) -> None:
    fields = None if output == STANDARD_OUTPUT else _fields_of_first_row(output)
    if fields is not None and fields.isdisjoint(_EXPORT_FIELDS):
        shown = ", ".join(sorted(fields)[:6])
        raise ExportError(
            f"{option} {output} holds rows that no export wrote (fields {shown}), perhaps a dataset: name another "
            "file, or remove it first."
        )


def _fields_of_first_row(output: str) -> frozenset[str] | None:
    """Fields of the first row of an existing file; None if there is no such file or row."""
    output_format = check_output(output)
    path = Path(output)
    if not path.is_file() or not path.stat().st_size:
        return None
    try:
        if output_format is OutputFormat.PARQUET:
            import pyarrow.parquet as pq

            return frozenset(pq.read_schema(path).names)
        if output_format is OutputFormat.ZSTD_LINES:
            import pyarrow as pa

            with pa.input_stream(str(path), compression="zstd") as packed:
                first = packed.read(_MAX_READ_BYTES).partition(b"\n")[0]
        else:
            with gzip.open(path) if output_format is OutputFormat.GZIP_LINES else path.open("rb") as file:
                first = file.readline(_MAX_READ_BYTES)
        row = json.loads(first)
    except (OSError, ValueError, EOFError):
        return None
    return frozenset(row) if isinstance(row, dict) and row else None
