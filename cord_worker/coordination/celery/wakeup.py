"""Wakes Celery's event loop when a pool thread acknowledges a message.

With the threads pool an acknowledgement happens in a pool thread. It makes room for another message, but the event
loop sleeps in its poll and does not notice. It asks Redis for the next message only when something else wakes it, such
as Celery's heartbeat every two seconds. So a busy worker would do only as many tasks in two seconds as it has threads.

Needed on Redis with Celery 5.6.3 and kombu 5.6.2: sixteen tasks of 50 ms in two threads take 0.5 s with the waking, and
more than 50 s without it if no heartbeats wake the loop either. With Celery 5.7.0 they take 0.4 s in any case
(`tests/integration/coordination/test_celery.py`): remove the waking together with the support of 5.6. The pipe stays:
with RabbitMQ the loop acknowledges, and `call_in_consumer_loop` uses it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from celery import Celery, bootsteps
from celery.worker.request import Request

from cord_worker.coordination.fault_points import FaultPoint
from cord_worker.coordination.stuck_threads import working
from cord_worker.coordination.transactions import MESSAGE, sending

logger = logging.getLogger(__name__)


class _WakePipe:
    """A pipe whose reading end the event loop watches. A byte wakes the loop, which then does what waits for it.

    Work that only the loop may do waits until there is a loop (`schedule`). A callback is called at once if there is
    none (`call`).
    """

    def __init__(self) -> None:
        self._scheduled: deque[Callable[[], None]] = deque()
        self._callbacks: deque[Callable[[], None]] = deque()
        self._is_watched = False
        self._open()

    def _open(self) -> None:
        self.reading, self._writing = os.pipe()
        os.set_blocking(self.reading, False)
        os.set_blocking(self._writing, False)

    def renew(self) -> None:
        """Opens a new pipe for this process: a forked process would share its parent's pipe and read its wake-ups."""
        os.close(self.reading)
        os.close(self._writing)
        self._open()

    def wake(self) -> None:
        with contextlib.suppress(BlockingIOError):  # full: the loop is about to wake anyway
            os.write(self._writing, b"\0")

    def schedule(self, work: Callable[[], None]) -> None:
        """Makes the loop do `work`, which must not block."""
        self._scheduled.append(work)
        self.wake()

    def call(self, callback: Callable[[], None]) -> None:
        """Makes the loop call `callback`; calls it at once if no loop runs, for example without a broker."""
        self._callbacks.append(callback)
        if self._is_watched:
            self.wake()
        else:
            self._run_callbacks()

    def set_watched(self, is_watched: bool) -> None:
        """Sets whether a loop watches the pipe from now on; if not, calls the waiting callbacks."""
        self._is_watched = is_watched
        if not is_watched:
            self._run_callbacks()

    def _run_callbacks(self) -> None:
        with contextlib.suppress(IndexError):
            while True:
                self._callbacks.popleft()()

    def on_wake(self) -> None:
        """Does what waits for the loop; the loop calls this when the pipe has bytes."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.reading, 65_536)
        self._run_callbacks()
        while self._scheduled:
            try:
                self._scheduled.popleft()()
            except Exception:  # the loop continues; it finds out by itself that a connection is lost
                logger.debug("a message was not acknowledged", exc_info=True)


_PIPE = _WakePipe()
os.register_at_fork(after_in_child=_PIPE.renew)


RECEIVED_AT = "cord_received_at"
"""Key in a request of the time at which it was received, on `time.perf_counter`."""


class WakingRequest(Request):  # type: ignore[misc]
    """A request that knows when it was received, and that wakes the event loop when it is acknowledged."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._request_dict[RECEIVED_AT] = time.perf_counter()

    def acknowledge(self) -> None:
        """Acknowledges, then wakes the loop, which has room for another message."""
        with sending(FaultPoint.ACKNOWLEDGE):
            super().acknowledge()
        _PIPE.wake()

    def reject(self, requeue: bool = False) -> None:
        """Rejects, then wakes the loop."""
        with working(MESSAGE):
            super().reject(requeue)
        _PIPE.wake()


class LoopRequest(WakingRequest):
    """A request that the event loop acknowledges: two threads must not write to one connection to RabbitMQ."""

    def acknowledge(self) -> None:
        """Makes the loop acknowledge."""
        _PIPE.schedule(partial(self._if_open, super().acknowledge))

    def reject(self, requeue: bool = False) -> None:
        """Makes the loop reject."""
        _PIPE.schedule(partial(self._if_open, super().reject, requeue))

    def _if_open(self, work: Callable[..., None], *arguments: bool) -> None:
        """Does `work` if the channel is open; RabbitMQ itself requeues the messages of a closed channel."""
        if self.message.channel is not None and self.message.channel.is_open:
            work(*arguments)


class WakeStep(bootsteps.StartStopStep):  # type: ignore[misc]
    """Makes the event loop watch the pipe; restarted after every loss of the connection to the broker."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, parent: Any) -> None:
        """Watches the pipe in the loop of `parent`, the consumer; transports without an event loop need no waking."""
        if parent.hub is not None:
            parent.hub.add_reader(_PIPE.reading, _PIPE.on_wake)
            _PIPE.set_watched(True)

    def stop(self, parent: Any) -> None:  # noqa: ARG002 - Celery passes it
        """Stops the watching: the loop ends with the connection."""
        _PIPE.set_watched(False)


def call_in_consumer_loop(callback: Callable[[], None]) -> None:
    """Makes Celery's event loop call `callback`; calls it at once if that loop does not run."""
    _PIPE.call(callback)


def wake_on_acknowledge(app: Celery, *, in_loop: bool) -> None:
    """Makes the workers of `app` ask for the next message as soon as one is done; with `in_loop` the event loop itself
    acknowledges."""
    app.Task.Request = LoopRequest if in_loop else WakingRequest
    app.steps["consumer"].add(WakeStep)
