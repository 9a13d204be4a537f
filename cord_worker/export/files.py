"""Writes a file completely or not at all."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from cord_worker.errors import CordError
from cord_worker.local import limits, processes

STANDARD_OUTPUT = "-"
_PART = ".part"
_MAX_PREFIX = 50


class ExportError(CordError):
    """An output file cannot be written."""


@contextmanager
def replaced_file(output: str) -> Iterator[IO[bytes]]:
    """A file to write, which replaces `output` in one rename at the end of the block; `-` is standard output.

    If the block raises, the old file stays. Raises ExportError if the folder cannot be written.
    """
    if output == STANDARD_OUTPUT:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    target = Path(output)
    check_writable(output)
    if target.exists() and not target.is_file():
        with target.open("wb") as file:  # a device or pipe must not be replaced by a file
            yield file
        return
    temporary: Path | None = None
    try:
        _remove_leftovers(target)
        prefix = f"{_prefix(target)}{os.getpid()}."
        with tempfile.NamedTemporaryFile("wb", dir=target.parent, prefix=prefix, suffix=_PART, delete=False) as file:
            temporary = Path(file.name)
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~_umask())
        temporary.replace(target)
    except OSError as error:
        reason = limits.explained(error) or str(error.strerror or error)
        raise ExportError(f"{target} cannot be written: {reason}.") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _prefix(target: Path) -> str:
    # The addition must not make a long name too long.
    return f".{target.name[:_MAX_PREFIX]}."


def _remove_leftovers(target: Path) -> None:
    """Removes temporary files of killed writers of `target`: their processes are gone and no process locks them."""
    for left in target.parent.glob(f"{glob.escape(_prefix(target))}*{_PART}"):
        writer = left.name.removeprefix(_prefix(target)).partition(".")[0]
        if not writer.isdigit() or processes.identify(int(writer)) is not None:
            continue
        with contextlib.suppress(OSError), left.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            left.unlink()


def check_writable(output: str) -> None:
    """Raises ExportError if `output` cannot be written, before any work takes time."""
    if output == STANDARD_OUTPUT:
        return
    if not output:
        raise ExportError("the output file has no name: give one, or - for standard output.")
    target = Path(output)
    folder = target.parent
    if target.is_dir():
        raise ExportError(f"{target} is a folder: name a file in it.")
    if not folder.is_dir():
        raise ExportError(f"{target} cannot be written: the folder {folder} does not exist. Make it first.")
    if target.exists() and not target.is_file():
        return
    try:
        # Writing is tried, because permissions say too little: root may write anywhere except in /proc, on a full disk
        # or on a read-only mount.
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        if error.errno in {errno.EACCES, errno.EPERM}:
            raise ExportError(
                f"{target} cannot be written: the folder {folder} is not yours to write in. Name another one."
            ) from None
        raise ExportError(f"{target} cannot be written: {error.strerror or error}. Name another folder.") from None


def _umask() -> int:
    # The mask can only be read by setting it; the file gets the permissions that a plain open() would give.
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
