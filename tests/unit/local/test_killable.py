"""Promises of the pool that the tests of the answer checker do not show."""

from __future__ import annotations

import contextlib
import math
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from cord_worker.errors import ProcessPoolError
from cord_worker.local import killable
from cord_worker.local.killable import ATTEMPTS, CallFailed, KillablePool, ProcessEnded

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pool() -> Iterator[KillablePool]:
    with KillablePool(timeout_seconds=2.0) as pool:
        yield pool


def test_a_call_returns_the_functions_result_from_another_process(pool: KillablePool) -> None:
    assert pool.call(math.sqrt, 9.0) == 3.0
    assert pool.call(os.getpid) != os.getpid()


def test_an_error_of_the_function_is_reported_by_name_and_the_process_stays(pool: KillablePool) -> None:
    before = pool.call(os.getpid)
    with pytest.raises(CallFailed, match=r"^ValueError: ") as raised:
        pool.call(math.sqrt, -1.0)
    assert raised.value.kind == "ValueError"
    assert pool.call(os.getpid) == before


def test_a_function_that_raises_runtime_errors_is_called_once(pool: KillablePool) -> None:
    before = pool.call(os.getpid)
    with pytest.raises(CallFailed, match="RuntimeError: generator raised StopIteration"):
        pool.call(_raise_runtime_error)
    assert pool.call(os.getpid) == before


def test_a_call_that_takes_too_long_is_killed_and_one_that_ends_its_process_says_so(
    pool: KillablePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(killable, "_PATIENCE", 1000)  # a busy machine may give little processor time for long
    with pytest.raises(TimeoutError, match="longer than 2 s"):
        pool.call(pow, 9, 9**9)
    with pytest.raises(ProcessEnded, match="code 7"):
        pool.call(os._exit, 7)
    assert pool.call(math.sqrt, 4.0) == 2.0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_calls_return_whatever_is_done_to_a_process_at_any_moment(number: int) -> None:
    """Killed or stopped while it starts, waits, receives a call, works and answers, two threads at a time."""
    over = threading.Event()
    strikes = 0

    def call(pool: KillablePool) -> list[float]:
        found = []
        while not over.is_set():
            with contextlib.suppress(ProcessPoolError, ProcessEnded):
                found.append(pool.call(_slowly, 9.0))
        return found

    chance = random.Random(number)
    with KillablePool(timeout_seconds=5.0, workers=2) as pool, ThreadPoolExecutor(2) as threads:
        calling = [threads.submit(call, pool) for _ in range(2)]
        while strikes < 60:
            time.sleep(chance.random() ** 3 / 2)
            for child in psutil.Process().children():
                if chance.random() < 0.7 and "killable_process" in " ".join(_command(child)):
                    os.kill(child.pid, number)
                    strikes += 1
        over.set()
        found = [result for one in calling for result in one.result(timeout=600)]
        assert set(found) <= {3.0}
        assert pool.call(math.sqrt, 4.0) == 2.0


_OWNER = """
import os, sys, time
from cord_worker.local.killable import KillablePool
pool = KillablePool()
print(pool.call(os.getpid), flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a stopped process ends only once it continues")
def test_a_stopped_process_ends_with_its_parent() -> None:
    owner = subprocess.Popen([sys.executable, "-c", _OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert owner.stdout is not None
    process = psutil.Process(int(owner.stdout.readline()))
    process.suspend()
    deadline = time.monotonic() + 60
    while process.status() != psutil.STATUS_STOPPED:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    owner.kill()
    owner.communicate()
    try:
        # It is no child of this process: if init reaps nothing, it stays in the table without memory or threads.
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline, "the stopped process is still there"
            time.sleep(0.02)
    except psutil.NoSuchProcess:
        pass
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def test_a_process_outlives_the_thread_that_started_it() -> None:
    with KillablePool() as pool:
        found: list[int] = []
        caller = threading.Thread(target=lambda: found.append(pool.call(os.getpid)))
        caller.start()
        caller.join()
        assert [pool.call(os.getpid) for _ in range(3)] == found * 3


def test_if_every_process_is_killed_the_error_names_the_machine_and_not_the_call() -> None:
    over = threading.Event()

    def kill() -> None:
        while not over.wait(0.02):
            for child in psutil.Process().children():
                if "killable_process" in " ".join(_command(child)):
                    os.kill(child.pid, signal.SIGKILL)

    with KillablePool() as pool, ThreadPoolExecutor(1) as killer:
        killing = killer.submit(kill)
        with pytest.raises(ProcessPoolError, match="nothing kills them"):
            pool.call(math.sqrt, 9.0)
        over.set()
        killing.result()
        assert pool.call(math.sqrt, 9.0) == 3.0


def test_a_call_that_ends_every_process_is_tried_a_few_times(pool: KillablePool, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with pytest.raises(ProcessEnded, match="code 7"):
        pool.call(_note_and_end, str(log))
    assert len(log.read_text()) == ATTEMPTS
    with pytest.raises(ProcessEnded, match="code 7"):
        pool.call(_note_and_end, str(log), attempts=1)
    assert len(log.read_text()) == ATTEMPTS + 1


def test_a_call_that_runs_out_of_memory_says_so_and_leaves_a_new_process(pool: KillablePool) -> None:
    before = pool.call(os.getpid)
    with pytest.raises(ProcessEnded, match="out of memory"):
        pool.call(bytearray, 1 << 50)
    assert pool.call(os.getpid) != before


def _command(child: psutil.Process) -> list[str]:
    try:
        return child.cmdline()
    except psutil.Error:
        return []


def _slowly(number: float) -> float:
    time.sleep(0.02)
    return math.sqrt(number)


def _note_and_end(path: str) -> None:
    with Path(path).open("a") as log:
        log.write(".")
    os._exit(7)


def _raise_runtime_error() -> list[int]:
    def generator() -> Iterator[int]:
        yield from ()
        raise StopIteration

    return list(generator())
