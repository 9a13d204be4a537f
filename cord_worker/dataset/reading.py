"""`read_problems`: reads a dataset of any kind as checked problems."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain, islice
from pathlib import Path

from cord_worker.dataset import fields
from cord_worker.dataset.hub import HubSnapshot
from cord_worker.dataset.problems import ProblemBuilder
from cord_worker.dataset.records import FieldMapping, ProblemRecord, ReadOptions, RejectedRecord
from cord_worker.dataset.rows import Row, Rows
from cord_worker.dataset.streams import COMPRESSED, PARQUET, head_of, refuse_foreign
from cord_worker.errors import DatasetError

_FIND_ALL = FieldMapping()
_AS_USUAL = ReadOptions()

TEXT_KINDS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv")
KINDS = (*TEXT_KINDS, ".parquet")
"""Endings of dataset files; text formats may have one of `COMPRESSED` after their own."""

_PEEK = 32
"""Rows that are examined to learn the columns: a text format has no schema, and its first row may be bad."""


def read_problems(
    path: str | Path | HubSnapshot,
    *,
    mapping: FieldMapping = _FIND_ALL,
    split: str | None = None,
    limit: int | None = None,
    options: ReadOptions = _AS_USUAL,
    on_fields: Callable[[FieldMapping], None] | None = None,
) -> Iterator[ProblemRecord | RejectedRecord]:
    """The problems of a dataset in its order, with a rejected row in place of each bad one; memory stays constant.

    Nothing is opened before the first item is asked for. Equal ids are not detected, because all of them
    would have to be held in memory.

    Args:
        path: .jsonl, .ndjson, .json, .csv, .tsv (also .gz and .zst), .parquet, a folder that `datasets.save_to_disk`
            wrote, a folder of files in the hub's layout, or a dataset of the hub that was downloaded.
        mapping: the names of the fields; None for those to be detected.
        split: the split, for a folder that holds several; that of a dataset of the hub is chosen already.
        limit: reads only the first `limit` rows, good or bad.
        options: how rows are interpreted.
        on_fields: called with the fields that were found, before the first problem.

    Raises:
        DatasetError: the file as a whole cannot be used.
    """
    path = Path(path) if isinstance(path, str) else path
    if limit is not None and limit < 0:
        raise DatasetError(f"{path}: a limit of {limit} rows is impossible: give 0 or more (--limit).")
    rows = _open(path, split, repair_latex=options.repair_latex)
    head = list(islice(rows, _PEEK))
    if not head:
        raise DatasetError(f"{path} holds no rows.")
    known = [row.value for row in head if isinstance(row, Row) and row.value]
    if not known:
        bad = next((row for row in head if isinstance(row, RejectedRecord)), None)
        field = f"field {bad.field!r} " if bad is not None and bad.field else ""
        why = f"{bad.location}: {field}{bad.reason}" if bad is not None else "its rows have no fields"
        raise DatasetError(f"{path} holds no readable row. {why}.")
    # Decided before the first problem is yielded: a file with unclear columns yields none.
    resolve = fields.resolve_question if options.question_alone else fields.resolve
    found = resolve(mapping, known, str(path))
    if on_fields is not None:
        on_fields(found.mapping())
    builder = ProblemBuilder(found, options)
    for row in islice(chain(head, rows), limit):
        yield row if isinstance(row, RejectedRecord) else builder.problem(row)


def _open(path: Path | HubSnapshot, split: str | None, *, repair_latex: bool) -> Rows:
    from cord_worker.dataset import folders, tables

    if isinstance(path, HubSnapshot):
        return chain.from_iterable(open_file(file.path, file.name, repair_latex=repair_latex) for file in path.files)
    if path.is_dir():
        if folders.is_saved(path):
            return tables.read_saved(path, split)
        files = folders.files_of(path, split)
        base = path.resolve().parent
        return chain.from_iterable(
            open_file(file, str(file.resolve().relative_to(base)), repair_latex=repair_latex)
            if file.resolve().is_relative_to(base)
            else open_file(file, file.name, repair_latex=repair_latex)
            for file in files
        )
    if not path.exists():
        raise DatasetError(
            f"{path} does not exist. (A dataset of the hub is named org/name or org/name@REVISION, without a file's "
            "ending.)"
        )
    if split is not None:
        raise DatasetError(f"{path} is a file, which has no splits: leave out --split.")
    return open_file(path, path.name, repair_latex=repair_latex)


def kind_of(path: Path) -> str | None:
    """The kind of file that the name says, such as `.jsonl`; None if datasets have no such kind."""
    compressed = path.suffix.lower() in COMPRESSED
    kind = (Path(path.stem).suffix if compressed else path.suffix).lower()
    return kind if kind in (TEXT_KINDS if compressed else KINDS) else None


def open_file(path: Path, name: str, *, repair_latex: bool) -> Rows:
    """The rows of one file; locations call it `name`. Raises DatasetError."""
    from cord_worker.dataset import jsonfile, lines, tables

    kind = kind_of(path)
    if kind is None:
        raise DatasetError(
            f"{path}: unknown kind of file {''.join(path.suffixes[-2:]) or '(no extension)'!r}. "
            f"Known are {', '.join(KINDS)} (text also {' and '.join(COMPRESSED)}) and folders of them."
        )
    if not path.is_file():
        raise DatasetError(f"{path} is not a plain file (a pipe, a device?): write the dataset to a file first.")
    if path.stat().st_size == 0:
        raise DatasetError(f"{path} is empty.")
    head = head_of(path)
    refuse_foreign(path, head)
    if kind != ".parquet" and head.startswith(PARQUET):
        raise DatasetError(f"{path} is a Parquet file: name it .parquet.")
    readers: dict[str, Callable[[Path, str], Rows]] = {
        ".jsonl": partial(lines.read_jsonl, repair_latex=repair_latex),
        ".ndjson": partial(lines.read_jsonl, repair_latex=repair_latex),
        ".json": partial(jsonfile.read_json, repair_latex=repair_latex),
        ".csv": lines.read_csv,
        ".tsv": lines.read_csv,
        ".parquet": tables.read_parquet,
    }
    return readers[kind](path, name)
