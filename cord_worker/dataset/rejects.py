"""Stores rejected rows for the user, and describes one."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from cord_worker.dataset.jsontext import json_line
from cord_worker.dataset.records import RejectedRecord
from cord_worker.errors import DatasetError


def write_rejects(path: str | Path, rejected: Iterable[RejectedRecord]) -> Path:
    """Appends one JSON line `{location, field, reason, raw}` for each row to `<dataset>.rejects.jsonl`.

    The file is replaced in one rename, so that no reader ever sees a part of the addition. Two writers must not run
    concurrently. Returns the file's path; without rows the file is unchanged.

    Raises:
        DatasetError: the folder of the dataset is not writable.
    """
    path = Path(path)
    path = path if path.name else path.resolve()
    target = path.with_name(f"{path.name}.rejects.jsonl")
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


def rejection_error(rejected: RejectedRecord) -> DatasetError:
    """The error for a row that may not be skipped: file, line, field, and what to do."""
    what = f"field {rejected.field!r} {rejected.reason}" if rejected.field else rejected.reason
    return DatasetError(
        f"{rejected.location}: {what}. Correct the row, or skip such rows with --skip-invalid; nothing was enqueued."
    )
