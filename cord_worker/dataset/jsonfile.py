"""Reads a JSON document, which is an array of objects or an object that holds one, element by element."""

from __future__ import annotations

import codecs
import json
from pathlib import Path
from typing import BinaryIO

from cord_worker import latex_repair
from cord_worker.dataset.fields import USUAL_NAMES
from cord_worker.dataset.jsontext import StrictDecoder, unescaped_reason
from cord_worker.dataset.records import Json, RejectedRecord
from cord_worker.dataset.rows import MAX_ROW_BYTES, Row, Rows
from cord_worker.dataset.streams import opened
from cord_worker.dataset.values import keep_raw
from cord_worker.errors import DatasetError

_QUESTIONS = frozenset(USUAL_NAMES["question"])
_PROBLEM_FIELDS = _QUESTIONS | {name.lower() for name in USUAL_NAMES["answer"]}
_CHUNK_BYTES = 1 << 18
_FIRST_PIECE_CHARACTERS = 1 << 12
_SPACE = " \t\r\n"


def read_json(path: Path, name: str, *, repair_latex: bool = False) -> Rows:
    """The objects of the document's array; if the document is an object, its other fields are skipped.

    With `repair_latex`, backslashes that JSON does not allow are escaped.

    Raises:
        DatasetError: the file is not JSON or is cut off, or it holds no array or several. The error is raised once
            reading reaches that place.
    """
    with opened(path) as stream:
        window = _Window(path, stream)
        first = window.peek()
        if first == "[":
            yield from _elements(name, window, repair_latex)
        elif first == "{":
            yield from _elements_of_only_array(path, name, window, repair_latex)
        else:
            raise DatasetError(
                f"{path} is not a JSON array of problems (it begins with {first!r}): "
                "write an array, an object that holds one, or one object per line in a .jsonl file."
            )
        if window.peek():
            raise DatasetError(
                f"{path}:{window.line}: something follows the JSON document: if it is one object per line, "
                "name the file .jsonl."
            )


def _elements_of_only_array(path: Path, name: str, window: _Window, repair_latex: bool) -> Rows:
    window.take("{")
    array: str | None = None
    scalars: dict[str, Json] = {}
    while window.peek() != "}":
        key, _ = window.value()
        if not isinstance(key, str):
            raise window.error("a field name in quotes was expected")
        window.take(":")
        if window.peek() != "[":
            plain, _ = window.value()
            if key.lower() in _PROBLEM_FIELDS and isinstance(plain, str | int | float):
                scalars[key.lower()] = plain
        elif array is None:
            array = key
            yield from _elements(name, window, repair_latex)
        elif {array.lower(), key.lower()} & _PROBLEM_FIELDS:
            raise DatasetError(
                f"{path} is written by columns ({array!r}, {key!r}): write an array of rows "
                "(in pandas: to_json(orient='records'))."
            )
        else:
            raise DatasetError(f"{path} holds two arrays, {array!r} and {key!r}: keep only the one with the problems.")
        if window.peek() != ",":
            break
        window.take(",")
    window.take("}")
    if array is not None and scalars.keys() & _QUESTIONS and scalars.keys() - _QUESTIONS:
        raise DatasetError(
            f"{path} is one problem (it has the fields {', '.join(scalars)}), not a list of them: write it as an array "
            f"[{{…}}], or name the file .jsonl if the object is on one line."
        )
    if array is None:
        raise DatasetError(
            f"{path} is one JSON object without an array of problems in it: write an array of objects, "
            "or name the file .jsonl if it is one object per line."
        )


def _elements(name: str, window: _Window, repair_latex: bool) -> Rows:
    window.take("[")
    index = 0
    while window.peek() != "]":
        # Many such files are a single line, so the location also has the index.
        location = f"{name}:{window.line}[{index}]"
        index += 1
        value, flaw = window.value()
        if not isinstance(value, dict):
            yield RejectedRecord(location, None, "the element of the array is not a JSON object", keep_raw(value))
        elif flaw:
            yield RejectedRecord(location, None, f"the row {flaw}", keep_raw(value))
        elif window.damaged and not repair_latex:
            yield RejectedRecord(location, None, unescaped_reason(window.damaged), keep_raw(value))
        else:
            yield Row(location, value, trusted=False, damaged=window.damaged)
        if window.peek() != ",":
            break
        window.take(",")
        if window.peek() == "]":
            raise window.error("there is a comma before the closing ]")
    window.take("]")


class _Window:
    """A window of text that moves over the document and grows to hold the value at its start, up to the cap.

    `damaged`: the first LaTeX command in the last value whose backslash had to be escaped to decode that value.
    """

    def __init__(self, path: Path, stream: BinaryIO) -> None:
        self._path = path
        self._stream = stream
        self._decoder = StrictDecoder()
        # Bytes that are not UTF-8 become lone surrogates here, and are reported when the row's values are checked.
        self._utf8 = codecs.getincrementaldecoder("utf-8-sig")("surrogateescape")
        self._text = ""
        self._at = 0
        self._ended = False
        self.line = 1
        self.damaged: str | None = None

    def peek(self) -> str:
        """The next character that is not white space; "" at the end."""
        while True:
            rest = len(self._text)
            at = self._at
            while at < rest and self._text[at] in _SPACE:
                at += 1
            self._advance(at)
            if at < rest or not self._read(_CHUNK_BYTES):
                return self._text[self._at : self._at + 1]

    def take(self, expected: str) -> None:
        """Steps over `expected`, the next character that is not white space."""
        found = self.peek()
        if not found:
            raise DatasetError(f"{self._path} is cut off at line {self.line}: {expected!r} is missing at its end.")
        if found != expected:
            raise self.error(f"{expected!r} was expected, not {found!r}")
        self._advance(self._at + 1)

    def value(self) -> tuple[Json, str | None]:
        """The next value, and what is wrong with it (None: nothing)."""
        self.damaged = None
        if not self.peek():
            raise DatasetError(f"{self._path} is cut off at line {self.line}: copy or write it again.")
        while True:
            failure: ValueError | None = None
            try:
                value, end = self._decoder.decode(self._text, self._at)
            except RecursionError as error:
                raise self.error("a value is nested too deep: flatten it") from error
            except ValueError as error:
                failure = error
                repaired = self._repaired(error)
                if repaired is not None:
                    value, end, self.damaged = repaired
                    failure = None
            # A number that touches the end of the window may continue after it.
            if failure is None and (end < len(self._text) or self._ended):
                self._advance(end)
                return value, self._decoder.flaw
            held = len(self._text) - self._at
            if held > MAX_ROW_BYTES:
                reason = failure or f"longer than {MAX_ROW_BYTES // 1024**2} MiB"
                raise self.error(f"the value that begins here cannot be read ({reason})")
            if not self._read(max(_CHUNK_BYTES, held)) and failure is not None:
                raise self.error(f"the value that begins here is not JSON, or cut off ({failure.args[0]})")

    def _repaired(self, error: ValueError) -> tuple[Json, int, str] | None:
        """The value, its end and its first unescaped command, if such a command stopped the decoding.

        It tries growing pieces, so that the time depends on the length of the value and not of the window.
        """
        if not isinstance(error, json.JSONDecodeError) or not error.msg.startswith("Invalid \\"):
            return None
        size = _FIRST_PIECE_CHARACTERS
        while True:
            piece = self._text[self._at : self._at + size]
            command = latex_repair.invalid_escape(piece)
            try:
                value, end = self._decoder.decode(latex_repair.without_invalid_escapes(piece))
            except (ValueError, RecursionError):
                if len(piece) < size:
                    return None
                size *= 4
                continue
            if command is None:
                return None
            return value, self._at + latex_repair.position_without_doubling(piece, end), command

    def error(self, reason: str) -> DatasetError:
        """The error to raise at the current line."""
        return DatasetError(f"{self._path}:{self.line}: {reason}. The file cannot be read further: correct it there.")

    def _advance(self, to: int) -> None:
        self.line += self._text.count("\n", self._at, to)
        self._at = to

    def _read(self, size: int) -> bool:
        """Reads `size` more bytes of the file; returns False at its end."""
        if self._ended:
            return False
        data = self._stream.read(size)
        self._ended = not data
        self._text = self._text[self._at :] + self._utf8.decode(data, final=self._ended)
        self._at = 0
        return not self._ended
