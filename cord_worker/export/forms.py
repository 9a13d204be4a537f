"""The form of an output file by its name: JSON lines, plain or compressed, or Parquet; other names are rejected."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import IO, cast

from cord_worker.export.files import STANDARD_OUTPUT, ExportError, check_writable, replaced_file


class Form(Enum):
    """The form of the output; the value is the ending of the name."""

    LINES = ".jsonl"
    GZIP_LINES = ".jsonl.gz"
    ZSTD_LINES = ".jsonl.zst"
    PARQUET = ".parquet"


def form_of(output: str) -> Form:
    """The form of a file with this name; JSON lines on standard output (`-`), to a device and to a pipe.

    Raises:
        ExportError: there is no name, it is a folder's, or it has another ending.
    """
    if output == STANDARD_OUTPUT:
        return Form.LINES
    if not output:
        raise ExportError("the output file has no name: give one, or - for standard output.")
    if output.endswith("/") or Path(output).is_dir():
        raise ExportError(f"{output} is a folder: name a file in it.")
    if Path(output).exists() and not Path(output).is_file():
        return Form.LINES
    name = Path(output).name.lower()
    for form in Form:
        if name.endswith(form.value) and name != form.value:
            return form
    known = ", ".join(form.value for form in Form)
    raise ExportError(
        f"{output}: its name does not say what to write: end it in {known}, or give - for standard output."
    )


def check_output(output: str) -> Form:
    """The form of `output`. Raises ExportError if its name or folder is unusable, before any work."""
    form = form_of(output)
    check_writable(output)
    return form


@contextmanager
def output_file(output: str) -> Iterator[IO[bytes]]:
    """A file for rows; at the end it replaces `output` in one rename, compressed if its name says so."""
    form = form_of(output)
    with replaced_file(output) as file:
        if form is Form.GZIP_LINES:
            # Neither name nor time in the header: the same rows give the same bytes.
            with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed:
                yield cast("IO[bytes]", packed)
        elif form is Form.ZSTD_LINES:
            import pyarrow as pa

            with pa.CompressedOutputStream(pa.PythonFile(_LeftOpen(file), mode="w"), "zstd") as packed:
                yield cast("IO[bytes]", packed)
        else:
            yield file


class _LeftOpen:
    """A file that stays open when its writer is closed, because it must still be synced."""

    closed = False

    def __init__(self, file: IO[bytes]) -> None:
        self.write = file.write
        self.flush = file.flush

    def close(self) -> None:
        """Does nothing: the owner closes the file."""
