"""What is said once."""

from __future__ import annotations

import logging

import pytest

from cord_worker.coordination.log_once import Said


def test_the_same_is_said_once_until_it_is_over_or_ten_minutes_old(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    said = Said(logging.getLogger("said"), lambda: now)
    for _ in range(1000):
        said.say("broker", "it is away")
    said.say("broker", "it is full")
    said.say("broker", "it is full")
    now = 601.0
    said.say("broker", "it is full")
    said.over("broker", "it is back")
    said.over("broker", "it is back")
    assert caplog.messages == [
        "it is away",
        "it is full (and 999 more like the one before)",
        "it is full (and 1 more like the one before)",
        "it is back",
    ]
