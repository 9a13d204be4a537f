"""What a process answers to a probe, over HTTP."""

from __future__ import annotations

import asyncio
import threading
import urllib.error
import urllib.request

import pytest

from cord_worker import metrics
from cord_worker.coordination import stuck_threads
from cord_worker.coordination.process.health import Health
from cord_worker.coordination.stuck_threads import ThreadWatch, working


def ask(port: int, path: str) -> tuple[int, str]:
    """Status and text of a probe's answer."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_a_process_is_alive_from_the_start_and_ready_only_while_it_takes_work() -> None:
    health = Health()
    port = metrics.serve_metrics(0, "127.0.0.1", health.probes)
    assert ask(port, "/ready") == (503, "it starts\n")
    assert ask(port, "/alive") == (200, "ok\n")
    health.begin()
    assert ask(port, "/ready") == (200, "ok\n")
    health.end()
    assert ask(port, "/ready") == (503, "it ends\n")
    assert ask(port, "/alive") == (200, "ok\n")
    status, text = ask(port, "/metrics")
    assert status == 200
    assert "cord_task_part_seconds" in text


def test_a_process_whose_event_loop_hangs_is_not_alive_and_other_threads_do_not_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stuck_threads, "_watched", set())
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    now = 0.0
    watch = ThreadWatch(
        8.0,
        describe=lambda _, topic: None,  # noqa: ARG005
        on_stuck=lambda _: None,
        loops={"the engine's event loop": loop.call_soon_threadsafe},
        clock=lambda: now,
    )
    health = Health()
    health.watch(watch.hanging_loops)
    port = metrics.serve_metrics(0, "127.0.0.1", health.probes)

    def look(times: int) -> None:
        nonlocal now
        for _ in range(times):
            now += 1.0
            watch.look()

    def settle() -> None:
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result(30)

    with working("the messenger"):
        for _ in range(20):
            look(1)
            settle()
        assert ask(port, "/alive") == (200, "ok\n")
    release = threading.Event()
    loop.call_soon_threadsafe(release.wait)
    look(20)
    assert ask(port, "/alive") == (503, "the engine's event loop: hangs\n")
    release.set()
    settle()
    look(1)
    assert ask(port, "/alive") == (200, "ok\n")
    loop.call_soon_threadsafe(loop.stop)
    thread.join(30)
    loop.close()
