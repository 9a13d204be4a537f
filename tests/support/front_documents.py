"""The documents of the web view as TypeScript; `python -m tests.support.front_documents` writes them."""

from __future__ import annotations

import re
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from cord_worker.web import documents

FILE = Path(documents.__file__).parent / "front" / "src" / "data" / "documents.ts"

_HEAD = "/** The JSON documents, from documents.py, which says what they mean; a test compares the two. */\n"
_NAMES = {"str": "string", "int": "number", "float": "number", "bool": "boolean", "Any": "unknown", "None": "null"}


def _typed(annotation: str) -> str:
    """`Sequence[int | None]` as `readonly (number | null)[]`."""
    if annotation.endswith("] | None"):
        return f"{_typed(annotation.removesuffix(' | None'))} | null"
    if found := re.fullmatch(r"Sequence\[(.+)\]", annotation):
        inner = _typed(found[1])
        return f"readonly ({inner})[]" if "|" in inner else f"readonly {inner}[]"
    if found := re.fullmatch(r"Mapping\[str, (.+)\]", annotation):
        return f"Readonly<Record<string, {_typed(found[1])}>>"
    return " | ".join(_NAMES.get(part, part) for part in annotation.split(" | "))


def _interface(kind: Any) -> str:
    lines = "".join(f"  readonly {field.name}: {_typed(str(field.type))};\n" for field in fields(kind))
    return f"\nexport interface {kind.__name__} {{\n{lines}}}\n"


def typescript() -> str:
    """What the file should hold: an interface for every document and part of one."""
    kinds = (kind for kind in vars(documents).values() if isinstance(kind, type) and is_dataclass(kind))
    return _HEAD + "".join(map(_interface, kinds))


if __name__ == "__main__":
    FILE.write_text(typescript())
