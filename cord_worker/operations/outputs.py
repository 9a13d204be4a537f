"""Rejects, before any work, an output file that would replace something else."""

from __future__ import annotations

import datetime
import gzip
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from cord_worker.dataset import HubDataset, HubSnapshot, rejects_file
from cord_worker.export.file_types import FileType, check_output
from cord_worker.export.files import STANDARD_OUTPUT, ExportError
from cord_worker.export.format import Choices, Facts, Scope
from cord_worker.export.formats import FORMATS
from cord_worker.export.jsonl import FAILURE_FIELDS
from cord_worker.export.metadata import Metadata
from cord_worker.prompting.trajectory import PROMPTED

_MAX_READ_BYTES = 1 << 20


def check_run_output(output: str, dataset: Path | HubDataset, config: Path | None = None) -> None:
    """Raises ExportError if `output` cannot be written, holds rows that no export wrote, or is one of the run's files:
    its dataset, a file of the dataset, its rejects file, its configuration.

    Files are compared by identity, not by name: a link to `rows.jsonl` counts as `rows.jsonl`.
    """
    check_outside_datasets(output, [dataset])
    if output == STANDARD_OUTPUT:
        return
    target = Path(output)
    if is_same(target, rejects_file(dataset)):
        raise ExportError(f"-o {output} is the file to which the dataset's bad rows are written: {_ADVICE}")
    if config is not None and is_same(target, config):
        raise ExportError(f"-o {output} is the configuration {config} itself: {_ADVICE}")
    _check_no_dataset(output, "-o")


def check_outside_datasets(
    output: str,
    datasets: Iterable[Path | HubDataset | HubSnapshot],
    kind: str = "dataset",
    *,
    option: str = "-o",
) -> None:
    """Raises ExportError if `output` cannot be written, is one of these datasets (files or folders), or is inside one.

    Messages call the datasets `kind`, and name the output by its `option`.
    """
    check_output(output)
    if output == STANDARD_OUTPUT:
        return
    target = Path(output)
    for dataset in datasets:
        if not isinstance(dataset, Path):
            continue
        if is_same(target, dataset):
            raise ExportError(f"{option} {output} is the {kind} {dataset} itself, which it would replace: {_ADVICE}")
        if dataset.is_dir() and target.resolve().is_relative_to(dataset.resolve()):
            raise ExportError(
                f"{option} {output} is in the {kind}'s folder {dataset}, whose files are read as its rows: name a "
                "place outside it."
            )


def check_export_outputs(outputs: Sequence[tuple[str, str | None]], benchmarks: Sequence[Path] = ()) -> None:
    """Checks `outputs`, pairs of option and output. Raises ExportError if one cannot be written, holds rows that no
    export wrote (such as a dataset), or is a benchmark or inside one; also if two are the same file."""
    named = [(option, output) for option, output in outputs if output is not None]
    for option, output in named:
        check_outside_datasets(output, benchmarks, "benchmark", option=option)
        _check_no_dataset(output, option)
    for place, (option, output) in enumerate(named):
        for earlier_option, earlier in named[:place]:
            if is_same(Path(output), Path(earlier)) or output == earlier == STANDARD_OUTPUT:
                raise ExportError(f"{option} {output} and {earlier_option} {earlier} are the same file: {_ADVICE}")


_ADVICE = "name another file."


def is_same(one: Path, other: Path) -> bool:
    """Whether both paths name the same file, even through links, and even if the file does not exist yet."""
    try:
        return one.samefile(other)
    except OSError:
        return one.resolve() == other.resolve()


def _check_no_dataset(output: str, option: str) -> None:
    fields = None if output == STANDARD_OUTPUT else _fields_of_first_row(output)
    if fields is not None and not _is_row_of_export(fields):
        shown = ", ".join(sorted(fields)[:6])
        raise ExportError(
            f"{option} {output} holds rows that no export wrote (fields {shown}), perhaps a dataset: name another "
            "file, or remove it first."
        )


def _fields_of_first_row(output: str) -> list[str] | None:
    """Fields of the first row of an existing file, in their order; None if there is no such file or row."""
    file_type = check_output(output)
    path = Path(output)
    if not path.is_file() or not path.stat().st_size:
        return None
    try:
        if file_type is FileType.PARQUET:
            import pyarrow.parquet as pq

            return list(pq.read_schema(path).names)
        if file_type is FileType.ZSTD_LINES:
            import pyarrow as pa

            with pa.input_stream(str(path), compression="zstd") as packed:
                first = packed.read(_MAX_READ_BYTES).partition(b"\n")[0]
        else:
            with gzip.open(path) if file_type is FileType.GZIP_LINES else path.open("rb") as file:
                first = file.readline(_MAX_READ_BYTES)
        row = json.loads(first)
    except (OSError, ValueError, EOFError):
        return None
    return list(row) if isinstance(row, dict) and row else None


def _is_row_of_export(names: Sequence[str]) -> bool:
    """Whether some format, or the file of failures, writes rows with these fields in this order."""
    known = [list(FAILURE_FIELDS)]
    for fields in (one.fields(_ANY) for one in FORMATS.values()):
        known += [list(fields), [name for name in fields if name not in _ADDED]]
    return any(list(names)[: len(fields)] == fields for fields in known)


_ADDED = frozenset({"base_score", "mean_probability"})
"""Fields that the rows of earlier versions lack."""


_ANY = Scope(
    run="",
    segmentation=PROMPTED,
    today=datetime.date.min,
    choices=Choices(),
    student=None,
    facts=lambda: Facts({}, Metadata({}), has_samples=False, has_passages=False),
)
"""A scope that is enough to list the names of a format's fields. The fields that some runs have in addition come
last."""
