"""JSON logs: one object per line, with what the line is about."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import threading
from typing import Any

import pytest

from cord_worker.coordination import log_fields
from cord_worker.coordination.log_fields import about, note

log = logging.getLogger("cord_worker.test")


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What a process of the model `m` logs."""
    stream = io.StringIO()
    root = logging.Logger("root")
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setattr(logging, "root", root)
    monkeypatch.setattr(log, "parent", root)
    log_fields.configure("INFO", "json", worker="alpha", model="m", absent=None)
    return stream


def read(lines: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines.getvalue().splitlines()]


def test_a_line_says_what_it_is_about_also_on_the_loop_of_the_engine(lines: io.StringIO) -> None:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def work() -> None:
        log.warning("in the engine")

    note(run="another")  # is about nothing
    try:
        with about(problem=7, step=2):
            note(run="mine")
            log.info("claimed %d", 3)
            asyncio.run_coroutine_threadsafe(work(), loop).result(timeout=60)
        log.info("afterwards")
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
    claimed, in_engine, afterwards = read(lines)
    assert claimed.pop("time").endswith("+00:00")
    assert claimed == {
        "level": "INFO",
        "logger": "cord_worker.test",
        "message": "claimed 3",
        "worker": "alpha",
        "model": "m",
        "run": "mine",
        "problem": 7,
        "step": 2,
    }
    assert (in_engine["run"], in_engine["problem"], in_engine["step"]) == ("mine", 7, 2)
    assert {"run", "problem", "step"}.isdisjoint(afterwards)


def test_hostile_text_stays_on_its_line_and_tracebacks_are_a_field(lines: io.StringIO) -> None:
    hostile = 'a\nb\x1b[31m"}\u202e'
    try:
        raise ValueError(hostile)
    except ValueError:
        log.exception("failed: %s", hostile, extra={"problem": 9})
    assert lines.getvalue().isascii()
    (line,) = read(lines)
    assert line["message"] == f"failed: {hostile}"
    assert line["problem"] == 9
    assert "Traceback" in line["traceback"]
    assert "\x1b" not in lines.getvalue()
