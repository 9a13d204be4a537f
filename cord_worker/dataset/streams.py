"""Opens a text file by its content, whatever its name: decompresses it, converts it to UTF-8, or says what is wrong."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from cord_worker.errors import DatasetError

COMPRESSED = (".gz", ".zst")
"""Endings that a text format may have after its own."""

_GZIP, _ZSTD, PARQUET = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PAR1"
_FOREIGN = {
    b"PK\x03\x04": "is a zip archive (or a spreadsheet): unpack it, or save the table as CSV",
    b"BZh": "is compressed with bzip2: unpack it (bunzip2)",
    b"\xfd7zXZ": "is compressed with xz: unpack it (unxz)",
    b"7z\xbc\xaf": "is a 7-Zip archive: unpack it",
    b"SQLite format 3": "is an SQLite database: write its table as CSV or JSON lines",
    b"ARROW1": "is an Arrow file: write it as Parquet, or save the dataset with `save_to_disk`",
    b"Obj\x01": "is an Avro file: write it as Parquet or JSON lines",
    b"ORC": "is an ORC file: write it as Parquet",
    b"\x80\x04\x95": "is a Python pickle, which is never opened: write it as JSON lines",
    b"%PDF": "is a PDF, not a dataset: download the file itself",
    b"Entry not found": "holds a server's message that there is no such file: download the dataset again",
    b"version https://git-lfs": "is a Git LFS pointer, not the data: fetch it with `git lfs pull`",
}
_UTF32 = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)
_UTF16 = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
_HEAD = 512
_CHUNK = 1 << 16


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Opens `path` for reading as UTF-8 text: gzip and zstd are decompressed, UTF-16 with a byte order mark is
    converted.

    Raises:
        DatasetError: it cannot be read, is not text, or its compressed data is torn; also raised while it is read.
    """
    try:
        with path.open("rb") as plain, _decompressed(path, plain) as stream:
            yield _as_utf8(path, stream)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DatasetError(f"{path} is not a complete gzip file ({error}): copy or compress it again.") from error
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path} is not valid {error.encoding} ({error.reason}): convert it to UTF-8.") from error
    except OSError as error:
        reason = str(error.strerror or error).rstrip(".")
        raise DatasetError(f"{path} cannot be read: {reason}.") from error


def refuse_foreign(path: Path, head: bytes) -> None:
    """Raises DatasetError if the first bytes of `path` belong to a format that is not a dataset."""
    for magic, what in _FOREIGN.items():
        if head.startswith(magic):
            raise DatasetError(f"{path} {what}.")
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:64].lower()
    if start.startswith((b"<!doctype html", b"<html")):
        raise DatasetError(f"{path} is an HTML page, not a dataset: download the file itself.")
    if start.startswith(b"<?xml"):
        raise DatasetError(f"{path} is XML, not a dataset: write it as JSON lines, or download the file itself.")


def head_of(path: Path) -> bytes:
    """The first bytes of `path`. Raises DatasetError."""
    try:
        with path.open("rb") as file:
            return file.read(_HEAD)
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror or error}.") from error


@contextmanager
def _decompressed(path: Path, plain: BinaryIO) -> Iterator[BinaryIO]:
    magic = plain.read(4)
    plain.seek(0)
    if magic.startswith(_GZIP) or path.suffix == ".gz":
        with gzip.open(plain) as unzipped:
            yield cast("BinaryIO", io.BufferedReader(cast("io.RawIOBase", unzipped), 1 << 20))
    elif magic == _ZSTD or path.suffix == ".zst":
        if magic != _ZSTD:
            raise DatasetError(f"{path} is not a zstd file: correct its ending, or compress it again.")
        import pyarrow as pa

        with pa.CompressedInputStream(pa.PythonFile(plain, mode="r"), "zstd") as unpacked:
            yield cast("BinaryIO", io.BufferedReader(cast("io.RawIOBase", _Readable(unpacked.read)), 1 << 20))
    else:
        yield plain


def _as_utf8(path: Path, stream: BinaryIO) -> BinaryIO:
    """The stream from its beginning, converted if it begins with a byte order mark of UTF-16."""
    if not isinstance(stream, io.BufferedReader):
        raise TypeError("a buffered stream is needed to look ahead")
    head = stream.peek(_HEAD)[:_HEAD]
    refuse_foreign(path, head)
    if head.startswith((_GZIP, _ZSTD)):
        raise DatasetError(f"{path} is compressed twice: unpack it once.")
    if head.startswith(_UTF32):
        raise DatasetError(f"{path} is UTF-32: convert it to UTF-8.")
    encoding = _UTF16.get(head[:2])
    if encoding is not None:
        stream.read(2)
        decoder = codecs.getincrementaldecoder(encoding)()
        return cast("BinaryIO", io.BufferedReader(cast("io.RawIOBase", _Converted(stream, decoder)), _CHUNK))
    if len(head) >= 8 and (not any(head[1:8:2]) or not any(head[0:8:2])):
        raise DatasetError(f"{path} looks like UTF-16 without a byte order mark: convert it to UTF-8.")
    return stream


class _Readable(io.RawIOBase):
    """A raw stream over a function that takes a size and returns at most as many bytes."""

    def __init__(self, read: object) -> None:
        self._read = read

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]
        data: bytes = self._read(len(view))  # type: ignore[operator]
        view[: len(data)] = data
        return len(data)


class _Converted(_Readable):
    """Converts another encoding to UTF-8. Reading raises UnicodeDecodeError for bytes that are not valid in it."""

    def __init__(self, stream: BinaryIO, decoder: codecs.IncrementalDecoder) -> None:
        super().__init__(self._next)
        self._stream = stream
        self._decoder = decoder
        self._rest = b""

    def _next(self, size: int) -> bytes:
        while not self._rest:
            data = self._stream.read(_CHUNK)
            self._rest = self._decoder.decode(data, final=not data).encode()
            if not data:
                break
        given, self._rest = self._rest[:size], self._rest[size:]
        return given
