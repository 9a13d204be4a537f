"""A Celery worker whose tasks do nothing, with the service's settings: the baseline of `bench control-plane`.

    python -m cord_worker.bench.noop_worker COUNT CONCURRENCY

consumes COUNT tasks that the caller has published. Then it prints one line of JSON with the number of tasks, and the
seconds from the start of the first task to the end of the last one. It does not exit; the caller kills it.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import warnings
from typing import TYPE_CHECKING

from celery.exceptions import SecurityWarning

from cord_worker.config import Settings
from cord_worker.coordination.celery.app import create_app
from cord_worker.endpoints import broker_url

if TYPE_CHECKING:
    from celery import Celery

QUEUE = "bench-noop"
TASK = "cord.bench_noop"


def noop_app(settings: Settings) -> Celery:
    """A Celery application with the service's settings."""
    return create_app(broker_url(settings), settings)


def publish(app: Celery, count: int) -> None:
    """Sends `count` tasks that do nothing."""
    with app.producer_pool.acquire(block=True) as producer:
        for number in range(count):
            app.send_task(TASK, kwargs={"problem_id": number, "step": 0}, queue=QUEUE, producer=producer)


def main() -> None:
    """Consumes tasks until the process is killed."""
    count, concurrency = int(sys.argv[1]), int(sys.argv[2])
    # Celery warns because it would unpickle messages; this application accepts JSON only.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    app = noop_app(Settings.from_environment())
    counter = _Counter(count)
    app.task(counter.work, name=TASK)
    app.Worker(
        hostname=f"noop-{os.getpid()}@bench",
        pool="threads",
        concurrency=concurrency,
        queues=[QUEUE],
        loglevel="WARNING",
        without_gossip=True,
        without_mingle=True,
        quiet=True,
    ).start()


class _Counter:
    def __init__(self, count: int) -> None:
        self._lock = threading.Lock()
        self._count = count
        self._done = 0
        self._first = 0.0

    def work(self, *, problem_id: int, step: int) -> None:
        """Counts one task."""
        del problem_id, step
        with self._lock:
            now = time.perf_counter()
            self._first = self._first or now
            self._done += 1
            if self._done < self._count:
                return
        print(json.dumps({"tasks": self._done, "seconds": now - self._first}), flush=True)


if __name__ == "__main__":
    main()
