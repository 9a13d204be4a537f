"""Turns the validator's errors in a configuration into plain messages that name the key."""

from __future__ import annotations

import re
import types
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from cord_worker.name_suggestions import did_you_mean

_PLAIN = {
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_type": "must be text, in quotes",
    "list_type": "must be a list: [ … ]",
    "tuple_type": "must be a list: [ … ]",
    "dict_type": "must be a table of keys and values",
    "model_type": "must be a table of keys and values",
    "model_attributes_type": "must be a table of keys and values",
}
"""Plain messages by pydantic's type of error; other types keep pydantic's message."""


def validation_message(error: ValidationError, source: str, root: type[BaseModel]) -> str:
    """One line per mistake: `source`, the key, what is wrong and what is allowed. `root` is the validated class."""
    lines = []
    for item in error.errors():
        key = ".".join(str(part) for part in item["loc"])
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            allowed = _allowed_keys(root, item["loc"])
            near = did_you_mean(str(item["loc"][-1]), allowed)
            message = f"unknown key{':' if near else '.'}{near} Allowed here: {', '.join(allowed)}"
        elif item["type"] == "missing":
            message = "is missing"
        elif item["type"] == "literal_error":
            allowed = re.findall(r"'([^']+)'", message)
            message = f"{message} (got {item['input']!r:.80})"
            if near := did_you_mean(str(item["input"]), allowed):
                message += f";{near}"
        elif item["type"] != "value_error":
            message = f"{_PLAIN.get(item['type'], message)} (got {item['input']!r:.80})"
        lines.append(": ".join(part for part in (source, key, message) if part))
    return "\n".join(lines)


def _allowed_keys(root: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Keys of the table that contains the last part of `location`."""
    found: Any = root
    for part in location[:-1]:
        found = _inside(found, str(part))
    return list(found.model_fields)


def _inside(kind: Any, key: str) -> Any:
    """The class of the value at `key` in a table, a table of tables or a list of tables; any may be optional."""
    is_table = isinstance(kind, type) and issubclass(kind, BaseModel)
    kind = kind.model_fields[key].annotation if is_table else get_args(kind)[-1]
    if get_origin(kind) in (Union, types.UnionType):
        (kind,) = (given for given in get_args(kind) if given is not type(None))
    return kind
