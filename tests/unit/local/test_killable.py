"""What the pool promises beyond what the tests of the answer checker show."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator

import pytest

from cord_worker.local.killable import CallFailed, KillablePool, ProcessEnded


@pytest.fixture(scope="module")
def pool() -> Iterator[KillablePool]:
    with KillablePool(timeout_seconds=2.0) as pool:
        yield pool


def test_it_returns_what_the_function_returns_from_another_process(pool: KillablePool) -> None:
    assert pool.call(math.sqrt, 9.0) == 3.0
    assert pool.call(os.getpid) != os.getpid()


def test_what_the_function_raises_is_told_by_name_and_the_process_stays(pool: KillablePool) -> None:
    before = pool.call(os.getpid)
    with pytest.raises(CallFailed, match=r"^ValueError: ") as raised:
        pool.call(math.sqrt, -1.0)
    assert raised.value.kind == "ValueError"
    assert pool.call(os.getpid) == before


def test_a_function_that_raises_runtime_errors_is_called_once(pool: KillablePool) -> None:
    """The pool itself raises RuntimeError where it is broken, and is then made anew."""
    before = pool.call(os.getpid)
    with pytest.raises(CallFailed, match="RuntimeError: generator raised StopIteration"):
        pool.call(_raise_runtime_error)
    assert pool.call(os.getpid) == before


def test_a_call_that_takes_too_long_is_killed_and_one_that_ends_its_process_says_so(pool: KillablePool) -> None:
    with pytest.raises(TimeoutError, match="longer than 2 s"):
        pool.call(time.sleep, 600)
    with pytest.raises(ProcessEnded, match="code 7"):
        pool.call(os._exit, 7)
    assert pool.call(math.sqrt, 4.0) == 2.0


def _raise_runtime_error() -> list[int]:
    def generator() -> Iterator[int]:
        raise StopIteration
        yield 1

    return list(generator())
