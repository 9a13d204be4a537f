"""A thread that repeats one piece of work at an interval, and continues after errors."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from cord_worker.errors import CordError
from cord_worker.local.limits import log_error

_JOIN_SECONDS = 5.0


class PeriodicThread:
    """A daemon thread that waits `seconds`, calls `work`, and repeats this.

    An error of `work` is logged after the text `failure`. `work` may change `seconds` for its next call. In a `with`,
    the thread is stopped and joined at the end.
    """

    def __init__(
        self, name: str, work: Callable[[], None], seconds: float, *, failure: str, logger: logging.Logger
    ) -> None:
        self.seconds = seconds
        self._work = work
        self._failure = failure
        self._logger = logger
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._repeat, name=name, daemon=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self.join()

    def start(self) -> None:
        """Starts the thread; the first call comes after `seconds`."""
        self._thread.start()

    def stop(self) -> None:
        """Lets no further call begin; does not wait for the current one."""
        self._stopped.set()

    def join(self, timeout: float = _JOIN_SECONDS) -> None:
        """Waits for the end of the current call, at most `timeout` seconds."""
        self._thread.join(timeout)

    def _repeat(self) -> None:
        while not self._stopped.wait(self.seconds):
            try:
                self._work()
            except CordError as error:
                self._logger.warning("%s: %s", self._failure, error)
            except Exception as error:  # noqa: BLE001 - others rely on this thread: it continues, whatever happened
                log_error(self._logger, error, self._failure)
