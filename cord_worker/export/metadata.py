"""The dataset's other fields, each with the same type in all rows of a run.

A field of a dataset may be text in one row, an object in another and missing in a third. Libraries that read such an
export (`datasets`, pandas, pyarrow) fail or guess. So a field that is text, a flag or a number in every row keeps its
type, and every other field becomes JSON text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cord_worker.dataset.jsontext import exact_json
from cord_worker.dataset.records import Json
from cord_worker.export.schema import Schema

if TYPE_CHECKING:
    from cord_worker.store.reports.results import AttributeKinds

MAX_FIELDS = 500
"""With more fields than this (a dataset with different fields in each row), all fields become one JSON text."""
ALL_IN_ONE = "json"
"""Name of the field with that text."""

_KINDS = {"string": "text", "boolean": "flag", "integer": "integer", "number": "number"}


class Metadata:
    """Gives the metadata of all rows of a run the same types."""

    def __init__(self, kinds: AttributeKinds) -> None:
        """`kinds`: the JSON types that each field has in the run."""
        self._kinds = {name: _kind(found) for name, found in sorted(kinds.items())}
        self._is_one = len(self._kinds) > MAX_FIELDS

    @property
    def schema(self) -> Mapping[str, Schema]:
        """Fields and their types. Without any there is still one field, because Parquet requires one of an object."""
        if self._is_one or not self._kinds:
            return {ALL_IN_ONE: "text"}
        return {name: _KINDS.get(kind, "text") for name, kind in self._kinds.items()}

    def of(self, attributes: dict[str, Json]) -> dict[str, Any]:
        """The metadata of one row."""
        if self._is_one:
            return {ALL_IN_ONE: exact_json(attributes) if attributes else None}
        return {name: _value(attributes.get(name), kind) for name, kind in self._kinds.items()}


def _kind(found: frozenset[str]) -> str:
    kinds = found - {"null"}
    if kinds and kinds <= {"integer", "wide"}:
        return "integer"
    if kinds == {"integer", "number"}:
        return "number"
    return next(iter(kinds)) if len(kinds) == 1 and kinds <= set(_KINDS) else "json"


def _value(value: Json, kind: str) -> Any:
    if value is None:
        return None
    if kind == "json":
        return exact_json(value)
    return float(value) if kind == "number" else value  # type: ignore[arg-type]
