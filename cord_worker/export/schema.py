"""Rows of an export, and the types of their fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Row = Mapping[str, Any]
"""One row of an export; all rows of a file have the same fields with the same types."""

Schema = str | list["Schema"] | Mapping[str, "Schema"]
"""Type of a value: `text`, `number`, `integer` or `flag`, a list of one type, or fields by name. Any value may be
null."""

Fields = Mapping[str, Schema]
"""The fields of a row and their types, in the order of the row."""
