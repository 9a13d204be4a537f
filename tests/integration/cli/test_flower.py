"""Flower as users open it: it switches events on itself."""

from __future__ import annotations

import json
import re
import socket
import time
import urllib.error
import urllib.request
from typing import Any

import pytest

from cord_worker.engines.instant import takes
from tests.support.cordctl_process import Cordctl, problem


@pytest.mark.long
def test_flower_shows_running_work_with_the_problem_and_step_it_is_about(cordctl: Cordctl) -> None:
    cordctl.environment["FLOWER_UNAUTHENTICATED_API"] = "true"
    slow = [problem(number) for number in range(5)]
    cordctl.write_problems(*({**row, "question": f"{row['question']} {takes(2.0)}"} for row in slow))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    run = cordctl.start("run", "problems.jsonl", "--run", "mine", "-o", "out.jsonl")
    flower = cordctl.start("flower", "--port", str(port))
    try:
        wanted = {"cord.propose", "cord.score", "cord.advance"}
        shown: dict[str, str] = {}
        running: set[str] = set()
        deadline = time.monotonic() + 400
        # Only proposals take long enough to be seen as they run.
        while not (wanted <= shown.keys() and "cord.propose" in running):
            assert flower.poll() is None
            assert time.monotonic() < deadline, f"Flower shows {sorted(shown)}, running {sorted(running)}"
            time.sleep(0.5)
            # A task has no name if Flower connected after its message was received.
            found = [task for task in tasks(port) if task["name"]]
            shown.update({task["name"]: task["kwargs"] for task in found})
            running.update(task["name"] for task in found if task["state"] == "STARTED")
        for name in wanted:
            assert "'problem_id': " in shown[name]
            assert "'step': " in shown[name]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/tasks", timeout=10) as page:
            columns = re.findall(r'data-column="(\w+)"', page.read().decode())
        assert columns == ["name", "kwargs", "state", "worker", "received", "started", "runtime"]
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/api/worker/shutdown/anyone", data=b"", timeout=10)
        assert refused.value.code == 403
        assert "Read only" in refused.value.read().decode()
    finally:
        for process in (flower, run):
            process.terminate()
        for process in (flower, run):
            process.communicate(timeout=60)


def tasks(port: int) -> list[dict[str, Any]]:
    """The tasks that Flower lists; none while it starts."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/tasks", timeout=10) as answer:
            return list(json.load(answer).values())
    except (urllib.error.URLError, ConnectionError):
        return []
