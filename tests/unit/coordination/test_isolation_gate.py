"""The gate around the engine: many tasks share it, or one task is exclusive."""

from __future__ import annotations

import threading
import time
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import AbstractContextManager

import pytest

from cord_worker.coordination.model_worker.isolation_gate import IsolationGate


def test_while_an_exclusive_task_runs_no_other_task_is_in_the_gate_and_shared_tasks_run_together() -> None:
    gate = IsolationGate()
    inside: list[str] = []
    lock = threading.Lock()
    most_shared = 0

    def visit(kind: str) -> None:
        nonlocal most_shared
        entry: AbstractContextManager[None] = gate.exclusive() if kind == "exclusive" else gate.shared()
        with entry:
            with lock:
                inside.append(kind)
                most_shared = max(most_shared, inside.count("shared"))
                assert "exclusive" not in inside or len(inside) == 1
            time.sleep(0.002)
            with lock:
                inside.remove(kind)

    with ThreadPoolExecutor(16) as pool:
        for future in [pool.submit(visit, "exclusive" if number % 5 == 0 else "shared") for number in range(200)]:
            future.result(timeout=60)
    assert most_shared > 1
    assert not gate.is_isolating


def test_a_waiting_exclusive_task_goes_before_later_shared_ones() -> None:
    gate = IsolationGate()
    order: list[str] = []

    def run_exclusive() -> None:
        with gate.exclusive():
            order.append("exclusive")

    def run_shared() -> None:
        with gate.shared():
            order.append("shared")

    with ThreadPoolExecutor(2) as pool:
        with gate.shared():
            first = pool.submit(run_exclusive)
            while not gate.is_isolating:
                time.sleep(0.001)
            second = pool.submit(run_shared)
            time.sleep(0.05)
            assert order == []
        first.result(timeout=60)
        second.result(timeout=60)
    assert order == ["exclusive", "shared"]


def test_a_closed_gate_lets_no_task_in_and_cancels_those_that_wait() -> None:
    gate = IsolationGate()

    def run_exclusive() -> None:
        with gate.exclusive():
            raise AssertionError("a closed gate let a task in")

    with ThreadPoolExecutor(1) as pool, gate.shared():
        waiting = pool.submit(run_exclusive)
        while not gate.is_isolating:
            time.sleep(0.001)
        gate.close()
        with pytest.raises(CancelledError):
            waiting.result(timeout=60)
    with pytest.raises(CancelledError), gate.shared():
        raise AssertionError("a closed gate let a task in")
