"""The gate around the engine: many tasks share it, or one task is exclusive."""

from __future__ import annotations

import threading
import time
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import AbstractContextManager

import pytest

from cord_worker.coordination.model_worker.isolation_gate import IsolationGate


def test_an_exclusive_task_runs_alone_and_the_others_share() -> None:
    gate = IsolationGate()
    inside: list[str] = []
    lock = threading.Lock()
    most_together = 0

    def visit(kind: str) -> None:
        nonlocal most_together
        entry: AbstractContextManager[None] = gate.exclusive() if kind == "alone" else gate.shared()
        with entry:
            with lock:
                inside.append(kind)
                most_together = max(most_together, inside.count("together"))
                assert "alone" not in inside or len(inside) == 1
            time.sleep(0.002)
            with lock:
                inside.remove(kind)

    with ThreadPoolExecutor(16) as pool:
        for future in [pool.submit(visit, "alone" if number % 5 == 0 else "together") for number in range(200)]:
            future.result(timeout=60)
    assert most_together > 1
    assert not gate.is_isolating


def test_a_waiting_exclusive_task_goes_before_later_shared_ones() -> None:
    gate = IsolationGate()
    order: list[str] = []

    def alone() -> None:
        with gate.exclusive():
            order.append("alone")

    def together() -> None:
        with gate.shared():
            order.append("together")

    with ThreadPoolExecutor(2) as pool:
        with gate.shared():
            first = pool.submit(alone)
            while not gate.is_isolating:
                time.sleep(0.001)
            second = pool.submit(together)
            time.sleep(0.05)
            assert order == []
        first.result(timeout=60)
        second.result(timeout=60)
    assert order == ["alone", "together"]


def test_a_closed_gate_lets_no_task_in_and_cancels_those_that_wait() -> None:
    gate = IsolationGate()

    def alone() -> None:
        with gate.exclusive():
            raise AssertionError("it was closed")

    with ThreadPoolExecutor(1) as pool, gate.shared():
        waiting = pool.submit(alone)
        while not gate.is_isolating:
            time.sleep(0.001)
        gate.close()
        with pytest.raises(CancelledError):
            waiting.result(timeout=60)
    with pytest.raises(CancelledError), gate.shared():
        raise AssertionError("it was closed")
