"""The values that a row may hold: those that PostgreSQL's `text` and `jsonb` store and return unchanged."""

from __future__ import annotations

import base64
import datetime
import decimal
import json
import math
import re
import uuid
from collections.abc import Mapping
from typing import NamedTuple

from cord_worker.dataset.records import Json, NumberText

MAX_DEPTH = 100
"""Deepest nesting; far below the limit of every parser, so that any program can read what is written."""

RAW_LIMIT = 4096
"""Characters of a rejected row that are kept."""

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


class Flaw(NamedTuple):
    """Why a value cannot be stored; `field` is a path such as `tags[2].name`, None for the whole row."""

    field: str | None
    reason: str


def text_flaw(text: str) -> str | None:
    """The reason why PostgreSQL cannot store `text`, or None."""
    if "\0" in text:
        return f"holds a NUL character at position {text.index(chr(0))}, which PostgreSQL cannot store: remove it"
    # isascii is constant time; encoding is the fastest check for the rest
    if text.isascii():
        return None
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        if 0xDC80 <= code <= 0xDCFF:
            return (
                f"holds a byte that is not valid UTF-8 (0x{code - 0xDC00:02x}, or the half of a surrogate pair "
                f"\\u{code:04x}) at position {error.start}: convert the file to UTF-8"
            )
        return (
            f"holds half of a surrogate pair (\\u{code:04x}) at position {error.start}, "
            "which is not a character: repair the text"
        )
    return None


def row_flaw(row: Mapping[str, Json]) -> Flaw | None:
    """The first thing in `row` that cannot be stored, or None; never recurses."""
    stack: list[tuple[str | None, int, object]] = [(None, 0, row)]
    while stack:
        path, depth, value = stack.pop()
        if isinstance(value, str):
            if reason := text_flaw(value):
                return Flaw(path, reason)
        elif isinstance(value, float):
            if not math.isfinite(value):
                return Flaw(path, f"is {value}, which is not a JSON number: use null or leave the field out")
        elif isinstance(value, dict | list):
            if depth >= MAX_DEPTH:
                return Flaw(path, f"is nested deeper than {MAX_DEPTH} levels: flatten it")
            if isinstance(value, list):
                children = [(f"{path}[{index}]", depth + 1, item) for index, item in enumerate(value)]
            else:
                for key in value:
                    if reason := text_flaw(key):
                        return Flaw(path, f"has a field whose name {reason}")
                prefix = f"{path}." if path else ""
                children = [(prefix + key, depth + 1, item) for key, item in value.items()]
            stack.extend(reversed(children))
    return None


def number_text(value: int | float) -> str:
    """A number as written in the dataset, otherwise its shortest text."""
    return value.text if isinstance(value, NumberText) else repr(value)


def with_shortest_text(value: float, text: str) -> float:
    """`value`, a number of a table, with its text in plain digits: 7 for 7.0, 0.00001 for 1e-05.

    `text` is Python's shortest form of it. As in JavaScript, plain digits are used from 1e-7 up to 1e21; a number that
    is not finite is returned unchanged.
    """
    if not math.isfinite(value):
        return value
    # A whole number is exact; the shortest text that parses to it may show a different one.
    number = decimal.Decimal(int(value)) if value.is_integer() and 0 < abs(value) < 1e21 else decimal.Decimal(text)
    plain = f"{number:f}" if number == 0 or 1e-7 <= abs(value) < 1e21 else text.replace("e+", "e")
    if "." in plain and "e" not in plain:
        plain = plain.rstrip("0").rstrip(".")
    return NumberText(value, plain)


def type_name(value: object) -> str:
    """The type of a JSON value, as named in messages."""
    return "float" if isinstance(value, float) else type(value).__name__


class NotText(str):
    """Base64 of bytes that are not UTF-8: never a question or answer, but storable in other fields."""

    __slots__ = ()


def as_json(value: object) -> Json:
    """The value of a table cell as JSON: dates and decimals become text, tuples lists, bytes their text.

    Bytes that are not UTF-8 become base64 (`NotText`). Raises TypeError for an unknown type.
    """
    if value is None or isinstance(value, bool | int | str | NumberText):
        return value
    if isinstance(value, float):
        return with_shortest_text(value, repr(value))
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    if isinstance(value, dict):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return f"{value:f}"
    if isinstance(value, datetime.timedelta | uuid.UUID):
        return str(value)
    if isinstance(value, bytes | bytearray | memoryview):
        plain = bytes(value)
        try:
            text = plain.decode("utf-8")
        except UnicodeDecodeError:
            return NotText(base64.b64encode(plain).decode("ascii"))
        return NotText(base64.b64encode(plain).decode("ascii")) if "\0" in text else text
    raise TypeError(f"a value of type {type(value).__name__} has no form in JSON")


def keep_raw(raw: object) -> Json:
    """`raw` in a storable form: bytes decoded with replacement, capped, without anything that JSON cannot hold."""
    if isinstance(raw, bytes):
        # A character takes at most 4 bytes, so no more is decoded than can be kept.
        return _cap(_printable(raw[: 4 * RAW_LIMIT].decode("utf-8", "replace")), cut=len(raw) > 4 * RAW_LIMIT)
    if isinstance(raw, str):
        return _cap(_printable(raw[: RAW_LIMIT + 1]), cut=False)
    try:
        text = json.dumps(raw, ensure_ascii=False, default=str)
    except (RecursionError, ValueError, TypeError):
        return "(a row that cannot be shown)"
    if len(text) > RAW_LIMIT or row_flaw({"": raw}):  # type: ignore[dict-item]
        return _cap(_printable(text), cut=False)
    plain: Json = json.loads(text)
    return plain


def _printable(text: str) -> str:
    return _UNSTORABLE.sub("\ufffd", text)


def _cap(text: str, *, cut: bool) -> str:
    return text[:RAW_LIMIT] + "…" if cut or len(text) > RAW_LIMIT else text
