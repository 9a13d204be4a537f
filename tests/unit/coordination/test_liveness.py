"""Silence of workers by the listener's own clock, independent of PostgreSQL's clock."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

from cord_worker.coordination.coordinator.liveness import LivenessMonitor

WORKER = uuid.uuid4()
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Listener:
    """Liveness with a timeout of 12 seconds, and its clock."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.liveness = LivenessMonitor(12.0, clock=lambda: self.now)

    def hear(self, heartbeat: datetime, seconds: float = 2.0) -> bool:
        """Looks after this time; returns whether the worker is lost then."""
        self.now += seconds
        self.liveness.observe({WORKER: heartbeat})
        return WORKER in self.liveness.lost_workers()


def test_a_worker_is_lost_after_the_timeout_and_not_before() -> None:
    listener = Listener()
    assert [listener.hear(NOON) for _ in range(8)] == [False] * 6 + [True] * 2
    assert listener.liveness.lost_workers() == {WORKER: NOON}


def test_a_clock_that_is_set_forward_or_back_makes_no_worker_silent() -> None:
    listener = Listener()
    for jump in (0, 3600, -86_400):
        clock = NOON + timedelta(seconds=jump)
        assert not any(listener.hear(clock + timedelta(seconds=3 * beat)) for beat in range(20))


def test_a_worker_that_is_heard_again_gets_a_full_timeout() -> None:
    listener = Listener()
    assert not any(listener.hear(NOON) for _ in range(6))
    assert not listener.hear(NOON + timedelta(seconds=1))
    assert not any(listener.hear(NOON + timedelta(seconds=1)) for _ in range(5))


def test_a_pause_of_the_listener_counts_as_a_short_one() -> None:
    listener = Listener()
    listener.hear(NOON)
    assert not listener.hear(NOON, seconds=600)
    assert not listener.hear(NOON, seconds=600)


def test_a_silent_worker_is_lost_even_if_rounds_are_slow() -> None:
    listener = Listener()
    assert [listener.hear(NOON, seconds=60) for _ in range(5)] == [False] * 4 + [True]


def test_after_an_outage_every_worker_gets_a_full_timeout() -> None:
    listener = Listener()
    assert not any(listener.hear(NOON) for _ in range(6))
    listener.liveness.forget()
    assert not any(listener.hear(NOON) for _ in range(6))
    assert listener.hear(NOON)


def test_a_stopped_worker_is_forgotten() -> None:
    listener = Listener()
    for _ in range(10):
        listener.hear(NOON)
    listener.liveness.observe({})
    assert listener.liveness.lost_workers() == {}
