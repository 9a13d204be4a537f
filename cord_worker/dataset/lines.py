"""JSON lines and CSV: formats that are read line by line, in bounded memory."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import BinaryIO, NamedTuple

from cord_worker import latex_repair
from cord_worker.dataset.jsontext import StrictDecoder, unescaped_reason
from cord_worker.dataset.records import Json, RejectedRecord
from cord_worker.dataset.rows import MAX_ROW_BYTES, Row, Rows
from cord_worker.dataset.streams import opened
from cord_worker.dataset.values import MAX_DEPTH, keep_raw
from cord_worker.errors import DatasetError

_DELIMITERS = (",", ";", "\t", "|")
_NAMED_DELIMITER = re.compile(r"sep=([,;\t|])\s*")
"""A first line that some spreadsheets write to name the separator."""
_BOM = b"\xef\xbb\xbf"
_TOO_LONG = f"is longer than {MAX_ROW_BYTES // 1024**2} MiB: split it; or this is another format"


class Line(NamedTuple):
    """A line with its end, and its number and byte offset in the file; `cut` if its rest was skipped, because it was
    longer than the cap."""

    number: int
    offset: int
    data: bytes
    cut: bool


def lines(stream: BinaryIO) -> Iterator[Line]:
    """Lines, numbered from 1, without a byte order mark; never holds more than one line, up to the cap."""
    offset = number = 0
    readline = stream.readline
    while data := readline(MAX_ROW_BYTES + 1):
        number += 1
        start, offset = offset, offset + len(data)
        if number == 1 and data.startswith(_BOM):
            start, data = start + len(_BOM), data[len(_BOM) :]
        cut = len(data) > MAX_ROW_BYTES
        if cut:
            rest = data
            while not rest.endswith(b"\n") and (rest := readline(1 << 20)):
                offset += len(rest)
        yield Line(number, start, data, cut)


def not_utf8(line: Line, at: int) -> str:
    """The reason to reject a line whose byte `at` is not UTF-8."""
    return (
        f"line {line.number} is not valid UTF-8: byte 0x{line.data[at]:02x} at byte {at + 1} of the line "
        f"(byte offset {line.offset + at} of the file): convert the file to UTF-8"
    )


def read_jsonl(path: Path, name: str, *, repair_latex: bool = False) -> Rows:
    """One JSON object per line; blank lines are skipped. `repair_latex` escapes backslashes that JSON does not know."""
    decoder = StrictDecoder()
    opening = ""
    with opened(path) as stream:
        for line in lines(stream):
            data = line.data.strip(b" \t\r\n")
            if not data:
                continue
            location = f"{name}:{line.number}"
            if line.cut:
                yield RejectedRecord(location, None, f"the line {_TOO_LONG}", keep_raw(data))
                continue
            # Only an escape can produce a NUL or half of a surrogate pair: a raw NUL is not JSON, a raw half not UTF-8.
            trusted = b"\\u" not in data and data.count(b"{") + data.count(b"[") <= MAX_DEPTH
            try:
                text = data.decode("utf-8")
            except UnicodeDecodeError as error:
                reason = not_utf8(line, error.start + line.data.index(data[:1]))
                yield RejectedRecord(location, None, reason, keep_raw(data))
                continue
            parsed = _parse_object(decoder, line, text)
            command = latex_repair.invalid_escape(text) if isinstance(parsed, str) else None
            if command is not None and repair_latex:
                parsed = _parse_object(decoder, line, latex_repair.without_invalid_escapes(text))
            elif command is not None:
                parsed = unescaped_reason(command)
            if isinstance(parsed, str):
                yield RejectedRecord(location, None, parsed, keep_raw(data))
            else:
                yield Row(location, parsed, trusted, damaged=command)
            opening = text if line.number == 1 else opening
            if line.number == 2 and opening in ("[", "{"):
                raise DatasetError(f"{path} is one JSON document over several lines: name it .json.")


def _parse_object(decoder: StrictDecoder, line: Line, text: str) -> dict[str, Json] | str:
    """The object on this line, or the reason why there is none."""
    try:
        value, end = decoder.decode(text)
    except RecursionError:
        return f"the JSON is nested deeper than {MAX_DEPTH} levels: flatten it"
    except ValueError as error:
        if not line.data.endswith(b"\n"):
            return f"the last line is torn ({error}): it has no end of line, so the file was cut; write it again"
        return f"the line is not JSON: {error}"
    if end != len(text):
        return f"the line holds more than one JSON value (the second begins at character {end + 1}): split it"
    if not isinstance(value, dict):
        return f'the line holds a JSON {_kind(value)}, not an object such as {{"question": …, "answer": …}}'
    if decoder.flaw:
        return f"the row {decoder.flaw}"
    return value


def _kind(value: Json) -> str:
    if value is None:
        return "null"
    kinds = {bool: "boolean", int: "number", float: "number", str: "string", list: "array"}
    return kinds.get(type(value), "value")


def read_csv(path: Path, name: str) -> Rows:
    """Rows after a header line, separated by commas, semicolons, tabs or bars, quoted as in RFC 4180; all values are
    text."""
    # The limit is global to the csv module: it is only ever raised, so that no other reader breaks.
    csv.field_size_limit(max(csv.field_size_limit(), MAX_ROW_BYTES))
    with opened(path) as stream:
        source = _TextLines(stream)
        first = next((line for line in source if line.strip()), "")
        named = _NAMED_DELIMITER.fullmatch(first)
        if named is not None:
            first = next((line for line in source if line.strip()), "")
        delimiter = _delimiter(path, first) if named is None else named[1]
        header = _header(path, csv.reader(chain([first], source), delimiter=delimiter, strict=True))
        table = csv.reader(source, delimiter=delimiter, strict=True)
        while True:
            source.start_row()
            try:
                cells = next(table, None)
            except csv.Error as error:
                yield RejectedRecord(f"{name}:{source.row}", None, _csv_reason(error), keep_raw(source.text))
                continue
            if cells is None:
                return
            if not cells:
                continue
            location = f"{name}:{source.row}"
            if source.invalid:
                yield RejectedRecord(location, None, source.invalid, keep_raw(source.text))
                continue
            if len(cells) != len(header):
                reason = f"the row has {len(cells)} columns, the header {len(header)}: is a comma or quote missing?"
                yield RejectedRecord(location, None, reason, keep_raw(source.text))
                continue
            spaced = next((name for name, cell in zip(header, cells, strict=True) if _is_spaced_quote(cell)), None)
            if spaced is not None:
                reason = "has a blank before its opening quote, so that the quotes are a part of it: remove the blank"
                yield RejectedRecord(location, spaced, reason, keep_raw(source.text))
                continue
            yield Row(location, dict(zip(header, cells, strict=True)), source.trusted)


def _is_spaced_quote(cell: str) -> bool:
    """True if `cell` came from `, "text"`, with a blank before the quote."""
    return cell[:1] == " " and cell.lstrip(" ")[:1] == '"' and cell.rstrip()[-1:] == '"' and len(cell.strip()) > 1


class _TextLines:
    """Feeds a CSV reader and keeps the lines of its current row, up to the cap."""

    def __init__(self, stream: BinaryIO) -> None:
        self._lines = lines(stream)
        self._size = 0
        self._next = 1
        self.start_row()

    def start_row(self) -> None:
        self.row, self._size, self.text = self._next, 0, b""
        self.trusted, self.invalid = True, ""

    def __iter__(self) -> _TextLines:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self._next = line.number + 1
        self._size += len(line.data)
        if len(self.text) < 1 << 14:
            self.text += line.data[: 1 << 14]
        if line.cut or self._size > MAX_ROW_BYTES:
            raise csv.Error(f"row {_TOO_LONG}")
        self.trusted = self.trusted and b"\0" not in line.data
        try:
            return line.data.decode("utf-8")
        except UnicodeDecodeError as error:
            self.invalid = self.invalid or not_utf8(line, error.start)
            return line.data.decode("utf-8", "replace")


def _csv_reason(error: csv.Error) -> str:
    text = str(error)
    if "unexpected end of data" in text:
        return "a quote is opened here and never closed: close it, or double the quotes inside the field"
    if "expected after" in text:
        return "text follows a closing quote: double the quotes inside a field"
    if "new-line character" in text:
        return "the lines end in carriage returns alone: convert them to line feeds"
    if "is longer than" in text:
        return f"the {text} A quote that is never closed also looks like this."
    return f"the row is not CSV: {text}"


def _delimiter(path: Path, header: str) -> str:
    """The usual separator of the file's kind if the header has it, otherwise the only other one in the header.

    Raises DatasetError if several others occur.
    """
    promised = "\t" if any(suffix.lower() == ".tsv" for suffix in path.suffixes) else ","
    outside_quotes = re.sub(r'"[^"]*"', "", header)
    found = [mark for mark in (promised, *_DELIMITERS) if mark in outside_quotes]
    others = sorted(set(found) - {promised})
    if promised in found or not found:
        return promised
    if len(others) > 1:
        shown = " or ".join(repr(mark) for mark in others)
        raise DatasetError(f"{path}: the columns could be separated by {shown}: write the file with commas.")
    return others[0]


def _header(path: Path, table: Iterator[list[str]]) -> list[str]:
    try:
        header = next((cells for cells in table if cells), None)
    except csv.Error as error:
        raise DatasetError(f"{path}: the header line cannot be read: {_csv_reason(error)}.") from error
    if header is None:
        raise DatasetError(f"{path} holds no rows.")
    header = [name.strip() for name in header]
    if twice := sorted({name for name in header if header.count(name) > 1}):
        raise DatasetError(f"{path}: the header names {', '.join(map(repr, twice))} twice: rename one.")
    return header
