"""Writes rejected rows to a file for the user; `flaw_of` and `rejection_error` make a sentence and an error of one."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from cord_worker.dataset.hub import HubDataset, HubSnapshot
from cord_worker.dataset.jsontext import json_line
from cord_worker.dataset.records import RejectedRecord
from cord_worker.errors import DatasetError


def rejects_file(dataset: Path | HubDataset | HubSnapshot) -> Path:
    """The file for rejected rows: next to a file or folder; in the current folder for a dataset of the hub."""
    if not isinstance(dataset, Path):
        return Path(f"{dataset.name}.rejects.jsonl")
    named = dataset if dataset.name else dataset.resolve()
    return named.with_name(f"{named.name}.rejects.jsonl")


def write_rejects(path: str | Path | HubSnapshot, rejected: Iterable[RejectedRecord]) -> Path:
    """Appends one JSON line `{location, field, reason, raw}` for each row to the dataset's `rejects_file`.

    Returns the file's path; without rows the file is unchanged. The file is replaced in one rename, so that no reader
    ever sees a part of the addition. Two writers must not run concurrently.

    Raises:
        DatasetError: the file cannot be written.
    """
    target = rejects_file(Path(path) if isinstance(path, str) else path)
    temporary: Path | None = None
    try:
        with tempfile.NamedTemporaryFile("wb", dir=target.parent, prefix=f".{target.name}.", delete=False) as out:
            temporary = Path(out.name)
            if target.exists():
                with target.open("rb") as old:
                    shutil.copyfileobj(old, out)
            before = out.tell()
            for row in rejected:
                line = {"location": row.location, "field": row.field, "reason": row.reason, "raw": row.raw}
                out.write(json_line(line))
            out.flush()
            os.fsync(out.fileno())
            added = out.tell() > before
        if added:
            temporary.chmod(0o644)
            temporary.replace(target)
    except OSError as error:
        raise DatasetError(f"{target} cannot be written: {error.strerror or error}.") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
    return target


def flaw_of(rejected: RejectedRecord) -> str:
    """File, line, field, and what is wrong there; without a full stop."""
    what = f"field {rejected.field!r} {rejected.reason}" if rejected.field else rejected.reason
    return f"{rejected.location}: {what}"


def rejection_error(rejected: RejectedRecord, otherwise: str | None = None) -> DatasetError:
    """The error for a row that may not be skipped. `otherwise` says what else than correcting the row is
    possible in the command that reads, and what that command has not done."""
    rest = "" if otherwise is None else f", or {otherwise}"
    return DatasetError(f"{flaw_of(rejected)}. Correct the row{rest}.")
