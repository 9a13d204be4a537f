"""The service's addition to Celery is needed with Celery 5.6, and does no harm with newer versions."""

from __future__ import annotations

import os
import subprocess
import sys

MESSAGES = 16
PATIENCE_SECONDS = 30.0
"""With the waking this takes half a second; without it Celery 5.6 needs more than 50 seconds."""
WORKER = f"""
import os, sys, threading, time
from cord_worker.config import Settings
from cord_worker.coordination.celery.app import create_app

app = create_app(sys.argv[1], Settings(key_prefix=sys.argv[2]))
started = threading.Semaphore(0)

def work(*, problem_id, step):
    time.sleep(0.05)
    started.release()

def end():
    for _ in range({MESSAGES}):
        started.acquire()
    os._exit(0)

task = app.task(work, name="cord.work")
for number in range({MESSAGES}):
    task.apply_async(kwargs={{"problem_id": number, "step": 1}}, queue="model.x")
threading.Thread(target=end, daemon=True).start()
# Heartbeats would wake the loop too, every two seconds.
quiet = {{"without_gossip": True, "without_mingle": True, "without_heartbeat": True}}
app.Worker(pool="threads", concurrency=2, queues=["model.x"], **quiet).start()
"""


def test_a_full_worker_asks_for_the_next_message_as_soon_as_a_task_ends(broker_url: str, key_prefix: str) -> None:
    program = [sys.executable, "-c", WORKER, broker_url, key_prefix]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    ended = subprocess.run(program, env=environment, capture_output=True, timeout=PATIENCE_SECONDS, check=False)
    assert ended.returncode == 0, ended.stderr.decode()[-2000:]
