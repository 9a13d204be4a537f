"""How a process ends: in good order within the grace period, at once at a second signal, unhurried where it drains.

| asked by | running work |
|---|---|
| SIGTERM or SIGINT | has the grace period, then it is given up and its leases are handed back; exit code 0 |
| a second signal | is given up; leases are handed back within `_AT_ONCE_SECONDS` or expire; exit code 143 |
| `cordctl drain` | finishes, however long it takes; exit code 0. A signal meanwhile starts the grace period |
| a thread of a coordinator that stands still | as at a second signal; exit code 70 |
| an error (the engine died, the schema was migrated) | as at SIGTERM, and the error is raised |

What an engine started beside this process ends with it however it ends (`engines.vllm.guard`).
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

_AT_ONCE_SECONDS = 2.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
_ENDED_AT_ONCE = 128 + signal.SIGTERM


class Ending:
    """The end of this process; `begin` is called by what received the first signal, in the main thread.

    `leave` has nothing more sent here, `abort` gives up what runs, `sign_off` hands every lease back.
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
        self.begun = threading.Event()
        self._grace_seconds = grace_seconds
        self._leave = leave
        self._abort = abort
        self._sign_off = sign_off
        self._is_unhurried = False

    def drain(self) -> None:
        """Has the process end when everything that it holds is finished; from any thread, once."""
        if not self.begun.is_set() and not self._is_unhurried:
            logger.info("asked to drain: what is held is finished, nothing new is taken")
            self._is_unhurried = True
            os.kill(os.getpid(), signal.SIGTERM)

    def fail(self, error: CordError) -> None:
        """Has the process end because of `error`; from any thread."""
        if not self.begun.is_set() and self.error is None:
            self.error = error
            os.kill(os.getpid(), signal.SIGTERM)

    def begin(self) -> None:
        """Takes nothing new; what comes next is up to time and to further signals."""
        if self.begun.is_set():
            return
        self.begun.set()
        threading.Thread(target=self._leave, name="leave", daemon=True).start()
        if self._is_unhurried:
            self._listen(self._hurry)
        else:
            self._start_grace()

    def _start_grace(self) -> None:
        timer = threading.Timer(self._grace_seconds, self._abort)
        timer.daemon = True
        timer.start()
        self._listen(self._end_at_once)

    def _listen(self, then: Callable[[int, FrameType | None], None]) -> None:
        for number in _SIGNALS:
            signal.signal(number, then)

    def _hurry(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the handler's form
        logger.info("draining has %g s left", self._grace_seconds)
        self._start_grace()

    def _end_at_once(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the handler's form
        logger.warning("asked twice: this process ends at once")
        for other in _SIGNALS:
            signal.signal(other, signal.SIG_DFL)
        end_at_once(self._sign_off, _ENDED_AT_ONCE)


def end_at_once(sign_off: Callable[[], None], exit_code: int) -> NoReturn:
    """Ends this process whatever its threads are at; hands its leases back where that takes no longer than a moment."""
    # In a thread of its own: this one may hold any lock.
    handing_back = threading.Thread(target=sign_off, name="sign-off", daemon=True)
    handing_back.start()
    handing_back.join(_AT_ONCE_SECONDS)
    os._exit(exit_code)
