"""Many together, or one alone."""

from __future__ import annotations

import threading
import time
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import AbstractContextManager

import pytest

from cord_worker.coordination.model_worker.isolation_gate import Company


def test_who_is_alone_is_with_nobody_and_the_others_share() -> None:
    company = Company()
    inside: list[str] = []
    lock = threading.Lock()
    most_together = 0

    def visit(kind: str) -> None:
        nonlocal most_together
        entry: AbstractContextManager[None] = company.alone() if kind == "alone" else company.together()
        with entry:
            with lock:
                inside.append(kind)
                most_together = max(most_together, inside.count("together"))
                assert "alone" not in inside or len(inside) == 1
                assert company.is_alone == (kind == "alone")
            time.sleep(0.002)
            with lock:
                inside.remove(kind)

    with ThreadPoolExecutor(16) as pool:
        for future in [pool.submit(visit, "alone" if number % 5 == 0 else "together") for number in range(200)]:
            future.result(timeout=60)
    assert most_together > 1
    assert not company.is_isolating


def test_who_waits_to_be_alone_goes_before_those_who_come_after() -> None:
    company = Company()
    order: list[str] = []

    def alone() -> None:
        with company.alone():
            order.append("alone")

    def together() -> None:
        with company.together():
            order.append("together")

    with ThreadPoolExecutor(2) as pool:
        with company.together():
            first = pool.submit(alone)
            while not company.is_isolating:
                time.sleep(0.001)
            second = pool.submit(together)
            time.sleep(0.05)
            assert order == []
        first.result(timeout=60)
        second.result(timeout=60)
    assert order == ["alone", "together"]


def test_nobody_comes_in_after_it_was_closed_and_who_waits_is_told() -> None:
    company = Company()

    def alone() -> None:
        with company.alone():
            raise AssertionError("it was closed")

    with ThreadPoolExecutor(1) as pool, company.together():
        waiting = pool.submit(alone)
        while not company.is_isolating:
            time.sleep(0.001)
        company.close()
        with pytest.raises(CancelledError):
            waiting.result(timeout=60)
    with pytest.raises(CancelledError), company.together():
        raise AssertionError("it was closed")
