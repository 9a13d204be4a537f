"""Writing a file whole or not at all."""

from __future__ import annotations

import errno
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from cord_worker.errors import CordError

STANDARD_OUTPUT = "-"


class ExportError(CordError):
    """An output file cannot be written."""


@contextmanager
def replaced_file(output: str) -> Iterator[IO[bytes]]:
    """A file to write that takes the place of `output` in one rename at the end; `-` is standard output.

    Where the body raises, what was there before stays. Raises ExportError where the folder cannot be written.
    """
    if output == STANDARD_OUTPUT:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    target = Path(output)
    check_writable(output)
    if target.exists() and not target.is_file():
        with target.open("wb") as file:  # a device or pipe: a file in its place would be another thing
            yield file
        return
    temporary: Path | None = None
    try:
        with tempfile.NamedTemporaryFile("wb", dir=target.parent, prefix=f".{target.name}.", delete=False) as file:
            temporary = Path(file.name)
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~_umask())
        temporary.replace(target)
    except OSError as error:
        raise ExportError(f"{target} cannot be written: {error.strerror or error}.") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def check_writable(output: str) -> None:
    """Raises ExportError where `output` cannot be written, before anything costs time."""
    if output == STANDARD_OUTPUT:
        return
    target = Path(output)
    folder = target.parent
    if target.is_dir():
        raise ExportError(f"{target} is a folder: name a file in it.")
    if not folder.is_dir():
        raise ExportError(f"{target} cannot be written: the folder {folder} does not exist. Make it first.")
    if target.exists() and not target.is_file():
        return
    try:
        # Tried, not asked for: root may write anywhere but in /proc, on a full disk or a mount that is read-only.
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        if error.errno in {errno.EACCES, errno.EPERM}:
            raise ExportError(
                f"{target} cannot be written: the folder {folder} is not yours to write in. Name another one."
            ) from None
        raise ExportError(f"{target} cannot be written: {error.strerror or error}. Name another folder.") from None


def _umask() -> int:
    # Reading it means setting it; files that other users may read are what a plain open() would have made.
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
