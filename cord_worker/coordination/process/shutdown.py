"""How a process ends: orderly within the grace period, at once at a second signal, without a time limit in a drain.

| cause | running work |
|---|---|
| SIGTERM or SIGINT | has the grace period, then it is cancelled and its leases are returned; exit code 0 |
| a second signal | is cancelled; leases are returned within `_SIGN_OFF_SECONDS` or expire; exit code 143 |
| `cordctl drain` | finishes, however long it takes; exit code 0. A signal meanwhile starts the grace period |
| a coordinator's thread that hangs | like a second signal; exit code 70 |
| an error (the engine died, the schema was migrated) | like SIGTERM, and the error is raised |

An engine's own processes end with this process, however it ends (`engines.vllm.guard`).
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

from cord_worker.errors import CordError

logger = logging.getLogger(__name__)

_SIGN_OFF_SECONDS = 2.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
_EXIT_CODE = 128 + signal.SIGTERM


class Shutdown:
    """The end of this process; the handler of the first signal calls `begin`, in the main thread.

    `leave`: stop receiving messages. `abort`: cancel running work. `sign_off`: return all leases.
    """

    def __init__(
        self,
        grace_seconds: float,
        *,
        leave: Callable[[], None],
        abort: Callable[[], None],
        sign_off: Callable[[], None],
    ) -> None:
        self.error: CordError | None = None
        self.started = threading.Event()
        self._grace_seconds = grace_seconds
        self._leave = leave
        self._abort = abort
        self._sign_off = sign_off
        self._is_draining = False

    def drain(self) -> None:
        """Ends the process when everything that it holds is finished; may be called from any thread, once."""
        if not self.started.is_set() and not self._is_draining:
            logger.info("asked to drain: this process finishes what it holds and takes nothing new")
            self._is_draining = True
            os.kill(os.getpid(), signal.SIGTERM)

    def fail(self, error: CordError) -> None:
        """Ends the process because of `error`; may be called from any thread."""
        if not self.started.is_set() and self.error is None:
            self.error = error
            os.kill(os.getpid(), signal.SIGTERM)

    def begin(self) -> None:
        """Takes nothing new; starts the grace period, or waits for the drain, and listens to further signals."""
        if self.started.is_set():
            return
        self.started.set()
        threading.Thread(target=self._leave, name="leave", daemon=True).start()
        if self._is_draining:
            self._set_handlers(self._limit_drain)
        else:
            self._start_grace()

    def _start_grace(self) -> None:
        timer = threading.Timer(self._grace_seconds, self._abort)
        timer.daemon = True
        timer.start()
        self._set_handlers(self._exit_now)
        logger.info(
            "stopping: work in progress has %g s to finish (CORD_GRACE_SECONDS); a second signal ends it at once",
            self._grace_seconds,
        )

    def _set_handlers(self, then: Callable[[int, FrameType | None], None]) -> None:
        for number in _SIGNALS:
            signal.signal(number, then)

    def _limit_drain(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the handler's form
        self._start_grace()

    def _exit_now(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the handler's form
        logger.warning("asked twice: this process ends at once")
        for other in _SIGNALS:
            signal.signal(other, signal.SIG_DFL)
        exit_now(self._sign_off, _EXIT_CODE)


def exit_now(sign_off: Callable[[], None], exit_code: int) -> NoReturn:
    """Ends this process whatever its threads do; returns its leases if that takes at most `_SIGN_OFF_SECONDS`."""
    # In its own thread, because this one may hold any lock.
    thread = threading.Thread(target=sign_off, name="sign-off", daemon=True)
    thread.start()
    thread.join(_SIGN_OFF_SECONDS)
    os._exit(exit_code)
