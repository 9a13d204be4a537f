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

    If the block raises, the old file stays. A link stays a link: the file that it names is replaced. Raises ExportError
    if the folder cannot be written.
    """
    if output == STANDARD_OUTPUT:
        with _explaining("standard output"):
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
        return
    check_writable(output)
    target = _linked(output)
    if target.exists() and not target.is_file():
        with _explaining(target), target.open("wb") as file:  # a device or pipe must not be replaced by a file
            yield file
        return
    temporary: Path | None = None
    try:
        with _explaining(target):
            _remove_leftovers(target)
            prefix = f"{_prefix(target)}{os.getpid()}."
            with tempfile.NamedTemporaryFile(
                "wb", dir=target.parent, prefix=prefix, suffix=_PART, delete=False
            ) as file:
                temporary = Path(file.name)
                fcntl.flock(file, fcntl.LOCK_EX)
                yield file
                file.flush()
                os.fsync(file.fileno())
            # The permissions of the old file, or those that a plain open() would give.
            temporary.chmod(target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~_umask())
            temporary.replace(target)
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


@contextmanager
def _explaining(target: str | Path) -> Iterator[None]:
    """Turns an OSError of the block into an ExportError that names the target. A BrokenPipeError passes unchanged: the
    reader has gone away (`| head`), which is not a fault."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        reason = limits.limit_that_caused(error) or str(error.strerror or error)
        raise ExportError(f"{target} cannot be written: {reason}.") from error


def _prefix(target: Path) -> str:
    # A long name is cut, so that the name of the temporary file does not become too long.
    return f".{target.name[:_MAX_PREFIX]}."


def _remove_leftovers(target: Path) -> None:
    """Removes temporary files that killed writers of `target` have left: the writer's process is gone, and no process
    locks the file."""
    for left in target.parent.glob(f"{glob.escape(_prefix(target))}*{_PART}"):
        writer = left.name.removeprefix(_prefix(target)).partition(".")[0]
        if not writer.isdigit() or processes.identify(int(writer)) is not None:
            continue
        with contextlib.suppress(OSError), left.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            left.unlink()


@contextmanager
def held_folder(folder: Path) -> Iterator[None]:
    """Locks the folder during the block, because two concurrent exports with cards could leave the rows of one and the
    card of the other in it. Raises ExportError if another export holds the lock. On a file system without locks,
    nothing is locked."""
    with _explaining(folder):
        descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ExportError(
                f"another export with a card writes to the folder {folder} now: wait until it has ended, or name "
                "another folder."
            ) from None
        except OSError:
            pass
        yield
    finally:
        os.close(descriptor)


def check_writable(output: str) -> None:
    """Raises ExportError if `output` cannot be written, before any work takes time."""
    if output == STANDARD_OUTPUT:
        return
    if not output:
        raise ExportError("the output file has no name: give one, or - for standard output.")
    target = _linked(output)
    folder = target.parent
    if target.is_dir():
        raise ExportError(f"{target} is a folder: name a file in it.")
    check_folder(target)
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


def check_folder(target: Path) -> None:
    """Raises ExportError if the folder of `target` does not exist or is not a folder."""
    nearest = next(one for one in (target.parent, *target.parent.parents) if one.exists() or one == one.parent)
    if not nearest.is_dir():
        raise ExportError(f"{target} cannot be written: {nearest} is not a folder. Name another place.")
    if nearest != target.parent:
        raise ExportError(f"{target} cannot be written: the folder {target.parent} does not exist. Make it first.")


def _linked(output: str) -> Path:
    """The file that a link names; a path that is no link stays as it is."""
    return Path(os.path.realpath(output)) if Path(output).is_symlink() else Path(output)


def _umask() -> int:
    # The mask can only be read by setting it.
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
