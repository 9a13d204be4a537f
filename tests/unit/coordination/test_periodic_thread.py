"""A periodic thread works at its interval, continues after every error, and stops when it is told to."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import pytest

from cord_worker.coordination.periodic_thread import PeriodicThread
from cord_worker.errors import BrokerError, StoreError

logger = logging.getLogger(__name__)


def thread(work: Callable[[], None], seconds: float = 0.001) -> PeriodicThread:
    return PeriodicThread("test", work, seconds, failure="the work failed", logger=logger)


def test_it_continues_after_an_outage_of_a_service_and_after_a_defect(
    caplog: pytest.LogCaptureFixture,
) -> None:
    errors: list[Exception] = [
        StoreError("the database is away"), BrokerError("the broker is away"), ValueError("a defect"),
    ]  # fmt: skip
    succeeded = threading.Event()

    def work() -> None:
        if errors:
            raise errors.pop(0)
        succeeded.set()

    with caplog.at_level(logging.WARNING), thread(work):
        assert succeeded.wait(30)
    *outages, defect = caplog.records
    assert [(outage.levelname, outage.getMessage()) for outage in outages] == [
        ("WARNING", "the work failed: the database is away"),
        ("WARNING", "the work failed: the broker is away"),
    ]
    assert not any(outage.exc_info for outage in outages)
    assert (defect.levelname, defect.getMessage()) == ("ERROR", "the work failed")
    assert defect.exc_info is not None


def test_it_waits_before_its_first_call_and_stops_within_its_pause() -> None:
    calls: list[int] = []
    with thread(lambda: calls.append(1), seconds=3600.0) as periodic:
        pass
    periodic.join(30)
    assert not periodic._thread.is_alive()
    assert calls == []


def test_its_work_may_set_the_next_pause() -> None:
    called = threading.Event()

    def work() -> None:
        periodic.seconds = 3600.0
        assert not called.is_set(), "the longer pause was not kept"
        called.set()

    with (periodic := thread(work)):
        assert called.wait(30)


def test_the_end_waits_for_the_current_call() -> None:
    at_work, release, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        at_work.set()
        release.wait()
        threading.Event().wait(0.1)  # an end that does not wait is sooner
        ended.set()

    with thread(work):
        assert at_work.wait(30)
        release.set()
    assert ended.is_set()
