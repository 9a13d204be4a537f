"""The page of cord.toml: every table and key, from the settings classes."""

from __future__ import annotations

import datetime
import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, JsonValue
from pydantic.fields import FieldInfo

from cord_worker.config import RunConfig
from docs.site.reference import markdown

_WORDS: dict[Any, str] = {
    str: "text",
    int: "integer",
    float: "number",
    bool: "`true` or `false`",
    Path: "path",
    datetime.date: "date",
    JsonValue: "any value",
    Any: "any value",
}
_SIGNS = (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<"))


def tables() -> Iterator[tuple[str, type[BaseModel]]]:
    """Every table of cord.toml by the name that stands in its brackets, in the order of the file."""

    def walk(kind: type[BaseModel], path: str) -> Iterator[tuple[str, type[BaseModel]]]:
        for name, field in kind.model_fields.items():
            inner = table_of(field.annotation)
            if inner is None:
                continue
            container = get_origin(_without_none(field.annotation))
            below = f"{path}{name}" + (".NAME" if container is dict else "")
            yield (f"[[{below}]]" if container is list else f"[{below}]"), inner
            yield from walk(inner, f"{below}.")

    yield from walk(RunConfig, "")


def page() -> str:
    """The page."""
    introduction = (
        "Every table and key of `cord.toml`. `cordctl init` writes a commented file, `cordctl schema` prints the JSON "
        "schema for editors, and `cordctl doctor` checks a file. [Configuration](../configuration.md) explains how "
        "the options of the search work together."
    )
    return "\n".join([markdown.head("cord.toml", introduction), *(_section(*one) for one in tables())])


def _section(name: str, kind: type[BaseModel]) -> str:
    rows = [
        (markdown.code(key), type_of(field), default_of(field), markdown.cell(field.description or ""))
        for key, field in kind.model_fields.items()
        if table_of(field.annotation) is None
    ]
    said = markdown.paragraph(markdown.cell(inspect.cleandoc(kind.__doc__ or "").partition("\n\n")[0]))
    parts = [f"## {markdown.code(name)}\n", said + "\n"]
    if rows:
        parts.append(markdown.table(("key", "type", "default", "meaning"), rows))
    return "\n".join(parts)


def table_of(annotation: Any) -> type[BaseModel] | None:
    """The settings class that a field holds, alone or in a list or mapping; None for a plain value."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in get_args(annotation):
        found = table_of(inner)
        if found is not None:
            return found
    return None


def _without_none(annotation: Any) -> Any:
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (Union, UnionType):
        others = [one for one in get_args(annotation) if one is not NoneType]
        return others[0] if len(others) == 1 else annotation
    return annotation


def type_of(field: FieldInfo) -> str:
    """The type of a key in words, with its range."""
    bounds = [
        f"{sign} {value}"
        for item in field.metadata
        for name, sign in _SIGNS
        if (value := getattr(item, name, None)) is not None
    ]
    return ", ".join([_word(field.annotation), *bounds])


def _word(annotation: Any) -> str:
    annotation = _without_none(annotation)
    if annotation in _WORDS:
        return _WORDS[annotation]
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ", ".join(markdown.code(json.dumps(one)) for one in inner)
    if origin in (list, tuple, frozenset, set):
        return f"list of {_word(inner[0])}"
    if origin is dict:
        return f"table of {_word(inner[1])}"
    if origin in (Union, UnionType):
        return " or ".join(_word(one) for one in inner if one is not NoneType)
    raise TypeError(f"no word for the type {annotation}")


def default_of(field: FieldInfo) -> str:
    """The default as it is written in TOML; empty if the key is unset by default."""
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None or value in ({}, []):
        return ""
    if isinstance(value, Path):
        value = str(value)
    if isinstance(value, tuple | frozenset | set | list) and len(value) > 4:
        return f"{len(value)} entries"
    return markdown.code(json.dumps(value, ensure_ascii=False).replace("|", r"\|"))
