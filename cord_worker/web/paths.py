"""The parts of a document's path, and a document as bytes."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass
from typing import Any

_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")


def segment(name: str) -> str:
    """A run's name as one part of a path. Every byte of its UTF-8 that is not an ASCII letter, a digit, `_` or `-` is
    written `~XX` in hexadecimal. So no path needs percent signs, and none leads to a parent folder."""
    return "".join(chr(byte) if byte in _PLAIN else f"~{byte:02X}" for byte in name.encode())


def name_of(text: str) -> str | None:
    """The name that `segment` writes as `text`; None if there is no such name."""
    raw = bytearray()
    rest = text
    try:
        while rest:
            head, mark, rest = rest.partition("~")
            raw += head.encode("ascii")
            if mark:
                raw.append(int(rest[:2], 16))
                rest = rest[2:]
        name = raw.decode()
    except ValueError:
        return None
    return name if segment(name) == text else None


def encoded(document: Any) -> bytes:
    """The document as JSON in UTF-8. Raises ValueError for a NaN or an infinite number."""
    text = json.dumps(document, default=_as_object, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode()


def _as_object(value: Any) -> dict[str, Any]:
    if not is_dataclass(value):
        raise TypeError(f"{type(value).__name__} has no form in JSON")
    return {field.name: getattr(value, field.name) for field in fields(value)}


def six_digits(value: float | None) -> float | None:
    """The value with 6 significant digits."""
    return None if value is None else float(f"{value:.6g}")
