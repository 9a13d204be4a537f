"""Adds to each line of a JSON log the run, problem and step that it is about, as fields.

The facts are noted where a task begins and where its run becomes known. They hold for that thread, and for what it
starts on the engine's event loop, because `asyncio.run_coroutine_threadsafe` copies the context.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

_TEXT_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_JSON_FIELDS = ("levelname", "name", "message")
_RENAMED = {"levelname": "level", "name": "logger", "exc_info": "traceback"}

_about: ContextVar[Mapping[str, object] | None] = ContextVar("about", default=None)


@contextmanager
def about(**facts: object) -> Iterator[None]:
    """For the length of a `with`, log lines of this thread have `facts` (`run`, `problem`, `step`) as fields, and those
    that `note` adds meanwhile."""
    token = _about.set({**(_about.get() or {}), **facts})
    try:
        yield
    finally:
        _about.reset(token)


def note(**facts: object) -> None:
    """Adds facts to the surrounding `about`, until it ends; does nothing without one."""
    known = _about.get()
    if known is not None:
        _about.set({**known, **facts})


class _AddFacts(logging.Filter):
    """Writes the facts of the line's thread into its record."""

    def filter(self, record: logging.LogRecord) -> bool:
        for name, value in (_about.get() or {}).items():
            setattr(record, name, value)
        return True


def configure(level: str, form: Literal["text", "json"], **process: object) -> None:
    """Makes this process log to standard error: plain text, or one JSON object per line. JSON also has the facts
    about the process (such as `worker` and `model`)."""
    handler = logging.StreamHandler()
    if form == "text":
        handler.setFormatter(logging.Formatter(_TEXT_FORMAT))
    else:
        handler.setFormatter(_json_formatter(process))
        handler.addFilter(_AddFacts())
    logging.basicConfig(level=level, handlers=[handler])


def _json_formatter(process: Mapping[str, object]) -> logging.Formatter:
    from pythonjsonlogger.json import JsonFormatter

    # Escaped to ASCII: a model's text in a message cannot move the cursor or reverse the line in a terminal.
    return JsonFormatter(
        _JSON_FIELDS,
        timestamp="time",
        rename_fields=_RENAMED,
        static_fields={name: value for name, value in process.items() if value is not None},
        json_ensure_ascii=True,
    )
