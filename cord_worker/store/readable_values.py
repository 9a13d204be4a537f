"""Reads values that PostgreSQL can store and Python cannot: infinite or very distant times, and very long numbers or
very deep nesting in JSON.

The service never writes them, but an edit by hand can. A command that reads such a row must not fail: `verify-db` and
`replay` report the values as findings (docs/provenance.md).
"""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from typing import Any

import psycopg
from psycopg.abc import Buffer
from psycopg.types.datetime import DateLoader, TimestamptzLoader


def _is_early(data: Buffer) -> bool:
    """Whether a time that Python cannot represent is before Python's first year, not after its last one."""
    text = bytes(data)
    return text.startswith(b"-") or text.endswith(b"BC")


class _InstantLoader(TimestamptzLoader):
    """Replaces an instant outside Python's range by the first or the last one in it."""

    def load(self, data: Buffer) -> datetime:
        try:
            return super().load(data)
        except psycopg.DataError:
            return (datetime.min if _is_early(data) else datetime.max).replace(tzinfo=UTC)


class _DateLoader(DateLoader):
    """Replaces a date outside Python's range by the first or the last one in it."""

    def load(self, data: Buffer) -> date:
        try:
            return super().load(data)
        except psycopg.DataError:
            return date.min if _is_early(data) else date.max


def read_json(data: str | bytes) -> Any:
    """The value of this JSON text. An integer that is too long for Python becomes the text of its digits; a value that
    is nested too deeply becomes its own text."""
    try:
        return json.loads(data)
    except ValueError:
        return json.loads(data, parse_int=_integer)
    except RecursionError:
        return data if isinstance(data, str) else data.decode()


def _integer(digits: str) -> int | str:
    try:
        return int(digits)
    except ValueError:
        return digits


def accept_every_value(driver: psycopg.Connection[Any]) -> None:
    """Makes a connection read every time and date that PostgreSQL can store."""
    driver.adapters.register_loader("timestamptz", _InstantLoader)
    driver.adapters.register_loader("date", _DateLoader)
