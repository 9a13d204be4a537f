"""The time of a pilot in which no request was in an engine."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cord_worker.operations.pilot import idle_seconds
from cord_worker.store.reports.trace_rows import RequestRow

START = datetime(2026, 1, 1, tzinfo=UTC)


def request(began: float, ended: float) -> RequestRow:
    return RequestRow(START + timedelta(seconds=ended), ended - began, "alpha", "host:1", 1)


def test_a_pause_is_idle_and_the_moments_between_steps_are_not() -> None:
    rows = [request(0, 5), request(65, 70), request(6, 8), request(79, 80), RequestRow(None, None, None, None, 0)]
    assert abs(idle_seconds(rows) - 57.0) < 1e-3


def test_a_request_that_takes_longer_than_the_others_leaves_no_idle_time() -> None:
    assert idle_seconds([request(0, 100), request(1, 2), request(60, 61)]) == 0
    assert idle_seconds([]) == 0
