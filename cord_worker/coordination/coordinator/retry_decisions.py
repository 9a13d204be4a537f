"""Finds failed decisions that this coordinator should try again.

It looks for them in the tables. A message could not be used: it might reach the coordinator that failed.
"""

from __future__ import annotations

import logging
import threading
from types import TracebackType
from typing import Self

from cord_worker.coordination.coordinator.coordinator import Coordinator
from cord_worker.coordination.stuck_threads import working
from cord_worker.errors import StoreError

logger = logging.getLogger(__name__)


class TryingAgain:
    """A thread that makes the coordinator look every `seconds`."""

    def __init__(self, coordinator: Coordinator, seconds: float) -> None:
        self._coordinator = coordinator
        self._seconds = seconds
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name="trying-again", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join(timeout=5.0)

    def _work(self) -> None:
        while not self._ended.wait(self._seconds):
            try:
                with working("the look for decisions to try again"):
                    self._coordinator.try_again()
            except StoreError as error:
                logger.warning("no decision is tried again now: %s", error)
            except Exception:  # failed decisions wait for this thread: it continues, whatever happened
                logger.exception("no decision is tried again now")
