"""Silence by the listener's own clock, whatever PostgreSQL's says."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

from cord_worker.coordination.coordinator.liveness import Silence

WORKER = uuid.uuid4()
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Listener:
    """A silence of 12 seconds and the clock that it goes by."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.silence = Silence(12.0, clock=lambda: self.now)

    def hear(self, heartbeat: datetime, seconds: float = 2.0) -> bool:
        """Looks after a while; whether the worker is lost then."""
        self.now += seconds
        self.silence.look({WORKER: heartbeat})
        return WORKER in self.silence.lost()


def test_a_worker_is_lost_after_the_timeout_and_not_before() -> None:
    listener = Listener()
    assert [listener.hear(NOON) for _ in range(8)] == [False] * 6 + [True] * 2
    assert listener.silence.lost() == {WORKER: NOON}


def test_a_clock_that_is_set_forward_or_back_makes_nobody_silent() -> None:
    listener = Listener()
    for jump in (0, 3600, -86_400):
        clock = NOON + timedelta(seconds=jump)
        assert not any(listener.hear(clock + timedelta(seconds=3 * beat)) for beat in range(20))


def test_a_worker_that_is_heard_again_begins_anew() -> None:
    listener = Listener()
    assert not any(listener.hear(NOON) for _ in range(6))
    assert not listener.hear(NOON + timedelta(seconds=1))
    assert not any(listener.hear(NOON + timedelta(seconds=1)) for _ in range(5))


def test_a_pause_of_the_listener_counts_as_a_short_one() -> None:
    listener = Listener()
    listener.hear(NOON)
    assert not listener.hear(NOON, seconds=600)
    assert not listener.hear(NOON, seconds=600)


def test_slow_rounds_lose_a_worker_nevertheless() -> None:
    listener = Listener()
    assert [listener.hear(NOON, seconds=60) for _ in range(5)] == [False] * 4 + [True]


def test_after_an_outage_everybody_gets_a_whole_timeout() -> None:
    listener = Listener()
    assert not any(listener.hear(NOON) for _ in range(6))
    listener.silence.forget()
    assert not any(listener.hear(NOON) for _ in range(6))
    assert listener.hear(NOON)


def test_who_stopped_is_forgotten() -> None:
    listener = Listener()
    for _ in range(10):
        listener.hear(NOON)
    listener.silence.look({})
    assert listener.silence.lost() == {}
