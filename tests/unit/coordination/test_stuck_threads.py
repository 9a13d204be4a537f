"""A stuck thread is reported once with its stack; one that was stopped with its process is not."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from cord_worker.coordination import stuck_threads
from cord_worker.coordination.stuck_threads import ThreadWatch, WatchedWork, working


class Watched:
    """A watch of 8 seconds that looks when the test calls it."""

    def __init__(self, **loops: object) -> None:
        self.now = 0.0
        self.conditions: list[str | None] = [None]
        self.stuck: list[str] = []
        self.watch = ThreadWatch(
            8.0,
            describe=self._describe,
            on_stuck=lambda work: self.stuck.append(work.what),
            loops=loops,  # type: ignore[arg-type]
            clock=lambda: self.now,
        )

    def _describe(self, condition: str | None, *, topic: str) -> None:
        assert topic == "threads"
        self.conditions.append(condition)

    def look(self, seconds: float = 1.0, times: int = 1) -> list[str]:
        for _ in range(times):
            self.now += seconds
            self.watch.look()
        return self.stuck


@pytest.fixture(autouse=True)
def nothing_else_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests of threads that hang may have left some behind in this process."""
    monkeypatch.setattr(stuck_threads, "_watched", set())


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """A process that answers each line with a line until it is stopped."""
    process = subprocess.Popen(
        [sys.executable, "-c", "import sys\nfor line in sys.stdin: print(line, end='', flush=True)"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    yield process
    process.kill()
    process.communicate()


def test_a_thread_that_waits_for_a_stopped_child_is_reported_with_its_stack(
    child: subprocess.Popen[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    assert child.stdin is not None
    assert child.stdout is not None
    at_work, ended = threading.Event(), threading.Event()

    def wait_for_the_child() -> None:
        with working("a check of an answer"):
            at_work.set()
            child.stdout.readline()  # type: ignore[union-attr]
        ended.set()

    os.kill(child.pid, signal.SIGSTOP)
    child.stdin.write(b"x\n")
    child.stdin.flush()
    threading.Thread(target=wait_for_the_child, daemon=True).start()
    at_work.wait()
    watched = Watched()
    with caplog.at_level(logging.WARNING):
        assert watched.look(times=7) == []
        before = watched.conditions[-1]
        assert watched.look(times=10) == ["a check of an answer"]
    assert before is None
    assert watched.conditions[-1] == "has a thread that hangs (a check of an answer); see its log"
    (told,) = [record for record in caplog.records if "hung for" in record.getMessage()]
    assert "wait_for_the_child" in told.getMessage()
    os.kill(child.pid, signal.SIGCONT)
    assert ended.wait(30)
    with caplog.at_level(logging.WARNING):
        watched.look()
    assert watched.conditions[-1:] == [None]
    assert "a check of an answer continues" in caplog.text


def test_a_process_that_was_stopped_for_long_has_no_stuck_thread() -> None:
    watched = Watched()
    with working("a decision"):
        assert watched.look(seconds=3600, times=5) == []
        watched.now -= 1e6
        assert watched.look() == []


def test_many_short_pieces_of_work_are_not_one_long_piece() -> None:
    watched = Watched()
    for _ in range(50):
        with working("a decision"):
            watched.look()
    assert watched.stuck == []


def test_a_loop_that_answers_is_alive_and_a_blocked_one_is_stuck() -> None:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    watched = Watched(engine=loop.call_soon_threadsafe)

    def settle() -> None:
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result(30)

    for _ in range(30):
        watched.look()
        settle()
    assert watched.stuck == []
    release = threading.Event()
    loop.call_soon_threadsafe(release.wait)
    assert watched.look(times=20) == ["engine"]
    release.set()
    settle()
    watched.look()
    assert watched.conditions[-1] is None
    loop.call_soon_threadsafe(loop.stop)
    thread.join(30)
    loop.close()
    assert watched.look(times=20) == ["engine"], "a loop that is closed is not asked any more"


def test_stuck_work_is_reported_once_whatever_else_runs() -> None:
    watched = Watched()
    at_work, over = threading.Event(), threading.Event()

    def sweep() -> None:
        with working("the sweeper"):
            at_work.set()
            over.wait()

    sweeping = threading.Thread(target=sweep)
    sweeping.start()
    at_work.wait()
    with working("the messenger"):
        watched.look(times=20)
    over.set()
    sweeping.join()
    assert sorted(watched.stuck) == ["the messenger", "the sweeper"]


def test_a_part_of_reported_work_is_not_reported_again_but_the_next_piece_is() -> None:
    watched = Watched()
    with working("a decision"):
        with working("a transaction"):
            watched.look(times=20)
        watched.look()
    assert watched.stuck == ["a decision"]
    with working("a transaction"):
        watched.look(times=20)
    assert watched.stuck == ["a decision", "a transaction"]


def test_work_that_raises_has_ended() -> None:
    watched = Watched()
    with suppress(ValueError), working("a decision"), working("a transaction"):
        raise ValueError
    watched.look(times=20)
    assert watched.stuck == []
    with working("a transaction"):
        watched.look(times=20)
    assert watched.stuck == ["a transaction"]


def test_pieces_of_work_with_the_same_name_are_distinguished() -> None:
    assert WatchedWork("a", 1) != WatchedWork("a", 1)
