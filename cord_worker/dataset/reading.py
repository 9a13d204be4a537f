"""`read_problems`: from a file of any kind to checked problems."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path

from cord_worker.dataset import fields
from cord_worker.dataset.records import FieldMapping, Json, ProblemRecord, RejectedRecord
from cord_worker.dataset.rows import Row, Rows
from cord_worker.dataset.values import Flaw, keep_raw, row_flaw
from cord_worker.errors import DatasetError

MAX_KEY = 512
"""Characters of an id; a B-tree index of PostgreSQL holds no value beyond 2,704 bytes."""

_FIND_ALL = FieldMapping()

_PEEK = 32
"""Rows looked at to learn the columns: a text format has no schema, and its first row may be the bad one."""


def read_problems(
    path: str | Path,
    *,
    mapping: FieldMapping = _FIND_ALL,
    split: str | None = None,
    limit: int | None = None,
) -> Iterator[ProblemRecord | RejectedRecord]:
    """The problems of a dataset in its order, a refused row in the place of each bad one; memory stays flat.

    Nothing is opened before the first item is asked for. Equal ids are not looked for: that needs all of them.

    Args:
        path: .jsonl, .ndjson (also .gz), .json, .csv, .parquet, or a folder that `datasets.save_to_disk` wrote.
        mapping: the names of the fields, found by themselves where None.
        split: the split of a folder that holds several.
        limit: read only the first so many rows, good or bad.

    Raises:
        DatasetError: the file as a whole cannot be used.
    """
    path = Path(path)
    if limit is not None and limit < 0:
        raise DatasetError(f"{path}: a limit of {limit} rows is impossible: give 0 or more (--limit).")
    rows = _open(path, split)
    head = list(islice(rows, _PEEK))
    if not head:
        raise DatasetError(f"{path} holds no rows.")
    columns = dict.fromkeys(column for row in head if isinstance(row, Row) for column in row.value)
    if not columns:
        bad = next(row for row in head if isinstance(row, RejectedRecord))
        raise DatasetError(f"{path} holds no readable row. {bad.location}: {bad.reason}.")
    # Fixed before the first problem is given out: a file whose columns are not clear gives none.
    found = fields.resolve(mapping, list(columns), str(path))
    for row in islice(chain(head, rows), limit):
        yield row if isinstance(row, RejectedRecord) else _problem(row, found)


def _open(path: Path, split: str | None) -> Rows:
    from cord_worker.dataset import jsonfile, lines, tables

    if path.is_dir():
        return tables.read_folder(path, split)
    if not path.exists():
        raise DatasetError(f"{path} does not exist.")
    if split is not None:
        raise DatasetError(f"{path} is a file, which has no splits: leave out --split.")
    readers = {
        ".jsonl": lines.read_jsonl,
        ".ndjson": lines.read_jsonl,
        ".json": jsonfile.read_json,
        ".csv": lines.read_csv,
        ".parquet": tables.read_parquet,
    }
    kind = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    reader = readers.get(kind.lower())
    if reader is None or (path.suffix == ".gz" and kind == ".parquet"):
        raise DatasetError(
            f"{path}: unknown kind of file {''.join(path.suffixes[-2:]) or '(no extension)'!r}. "
            f"Known are {', '.join(readers)} (text also .gz) and folders saved with `save_to_disk`."
        )
    if path.is_file() and path.stat().st_size == 0:
        raise DatasetError(f"{path} is empty.")
    return reader(path)


def _problem(row: Row, found: FieldMapping) -> ProblemRecord | RejectedRecord:
    value = row.value
    if not row.trusted and (flaw := row_flaw(value)):
        reason = f"the row {flaw.reason}" if flaw.field is None else flaw.reason
        return RejectedRecord(row.location, flaw.field, reason, keep_raw(value))
    # Looked up before any is taken out: one field may serve two roles (`--id-field question`).
    parts: tuple[tuple[str | None, str | Flaw | None], ...] = (
        (found.question, _question(value.get(found.question or ""))),
        (found.answer, _answer(value.get(found.answer or ""))),
        (found.passage, _passage(value.get(found.passage)) if found.passage else None),
        (found.id, _key(value.get(found.id)) if found.id else None),
    )
    for field, part in parts:
        if isinstance(part, Flaw):
            return RejectedRecord(row.location, field, part.reason, keep_raw(value))
    question, answer, passage, key = (part for _, part in parts)
    used = {field for field, _ in parts}
    rest = {name: cell for name, cell in value.items() if name not in used}
    if not found.id:
        key = hashlib.sha256(f"{question}\0{answer}".encode()).hexdigest()[:16]
    return ProblemRecord(key, question, answer, passage, rest, row.location)  # type: ignore[arg-type]


def _question(value: Json) -> str | Flaw:
    if isinstance(value, str):
        return value.strip() or Flaw(None, "is empty: write the question, or take the row out")
    if value is None:
        return Flaw(None, "is missing: write the question, or take the row out")
    return Flaw(None, f"is of type {type(value).__name__}: write the question as text")


def _answer(value: Json) -> str | Flaw:
    """Numbers take their shortest text: 72.0 becomes 72."""
    if isinstance(value, str):
        return value.strip() or Flaw(None, "is empty: every problem needs its reference answer")
    if value is None:
        return Flaw(None, "is missing: every problem needs its reference answer")
    if isinstance(value, bool):
        # True, true and yes are different answers to a model that is scored on their tokens
        return Flaw(None, "is a boolean: write the answer as the text that is expected, such as 'yes'")
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    return Flaw(None, f"is of type {type(value).__name__}: write the answer as text or as a number")


def _passage(value: Json) -> str | Flaw | None:
    """A list of paragraphs is joined by blank lines."""
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        value = "\n\n".join(str(part) for part in value)
    if value is None or isinstance(value, str):
        return value.strip() or None if value else None
    return Flaw(None, f"is of type {type(value).__name__}: write the passage as text or as a list of texts")


def _key(value: Json) -> str | Flaw:
    if isinstance(value, bool) or not isinstance(value, str | int | None):
        return Flaw(None, f"is of type {type(value).__name__}: write the id as text or as an integer")
    key = "" if value is None else str(value).strip()
    if not key:
        return Flaw(None, "is missing: give every row its id, or take the field out for ids made from the content")
    if len(key) > MAX_KEY:
        return Flaw(None, f"is {len(key)} characters long, at most {MAX_KEY} are allowed: shorten the id")
    return key
