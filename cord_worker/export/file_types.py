"""The type of an output file by its name: JSON lines, plain or compressed, or Parquet; other names are rejected."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import IO, cast

from cord_worker.display_text import shown
from cord_worker.export.files import STANDARD_OUTPUT, ExportError, check_writable, replaced_file

_MOST_CHARACTERS = 100
"""A longer name is shortened in an error message."""


class FileType(Enum):
    """The type of an output file; the value is the ending of its name."""

    LINES = ".jsonl"
    GZIP_LINES = ".jsonl.gz"
    ZSTD_LINES = ".jsonl.zst"
    PARQUET = ".parquet"


def file_type_of(output: str) -> FileType:
    """The type of a file with this name; JSON lines for standard output (`-`), a device or a pipe.

    Raises:
        ExportError: the name is empty, names a folder, or has another ending.
    """
    if output == STANDARD_OUTPUT:
        return FileType.LINES
    if not output:
        raise ExportError("the output file has no name: give one, or - for standard output.")
    try:
        if output.endswith("/") or Path(output).is_dir():
            raise ExportError(f"{output} is a folder: name a file in it.")
        if Path(output).exists() and not Path(output).is_file():
            return FileType.LINES
    except OSError as error:
        raise ExportError(f"{shown(output, _MOST_CHARACTERS)} cannot be written: {error.strerror or error}.") from None
    if "\0" in output:
        raise ExportError(f"{shown(output)} cannot be written: a file name cannot hold a zero character.")
    name = Path(output).name.lower()
    for file_type in FileType:
        if name.endswith(file_type.value) and name != file_type.value:
            return file_type
    known = ", ".join(file_type.value for file_type in FileType)
    raise ExportError(
        f"{output}: the name does not say which type of file to write: end it in {known}, or give - for standard "
        "output."
    )


def check_output(output: str) -> FileType:
    """The type of `output`. Raises ExportError if its name or folder is unusable, before any work."""
    file_type = file_type_of(output)
    check_writable(output)
    return file_type


@contextmanager
def output_file(output: str) -> Iterator[IO[bytes]]:
    """A file for rows, compressed if the name says so; it replaces `output` in one rename at the end of the block."""
    file_type = file_type_of(output)
    with replaced_file(output) as file:
        if file_type is FileType.GZIP_LINES:
            # Neither name nor time in the header: the same rows give the same bytes.
            with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed:
                yield cast("IO[bytes]", packed)
        elif file_type is FileType.ZSTD_LINES:
            import pyarrow as pa

            with pa.CompressedOutputStream(pa.PythonFile(_UnclosedFile(file), mode="w"), "zstd") as packed:
                yield cast("IO[bytes]", packed)
        else:
            yield file


class _UnclosedFile:
    """A file that its writer cannot close, because it must still be synced."""

    closed = False

    def __init__(self, file: IO[bytes]) -> None:
        self.write = file.write
        self.flush = file.flush

    def close(self) -> None:
        """Does nothing: the owner closes the file."""
