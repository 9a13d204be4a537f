"""Messages that are logged once."""

from __future__ import annotations

import logging

import pytest

from cord_worker.coordination.log_once import LogOnce


def test_the_same_text_is_logged_once_until_it_is_over_or_ten_minutes_old(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    log_once = LogOnce(logging.getLogger("said"), lambda: now)
    for _ in range(1000):
        log_once.log("broker", "it is away")
    log_once.log("broker", "it is full")
    log_once.log("broker", "it is full")
    now = 601.0
    log_once.log("broker", "it is full")
    log_once.log_recovery("broker", "it is back")
    log_once.log_recovery("broker", "it is back")
    assert caplog.messages == [
        "it is away",
        "it is full (and 999 more like the one before)",
        "it is full (and 1 more like the one before)",
        "it is back",
    ]
