"""Finds failed decisions that this coordinator should try again.

It looks for them in the tables. A message could not be used: it might reach the coordinator that failed.
"""

from __future__ import annotations

import logging

from cord_worker.coordination.coordinator.coordinator import Coordinator
from cord_worker.coordination.periodic_thread import PeriodicThread
from cord_worker.coordination.stuck_threads import working

logger = logging.getLogger(__name__)


def retry_thread(coordinator: Coordinator, seconds: float) -> PeriodicThread:
    """A thread in which `coordinator` retries failed decisions every `seconds`."""

    def retry() -> None:
        with working("the retry of decisions"):
            coordinator.retry_decisions()

    return PeriodicThread(
        "retry-decisions", retry, seconds, failure="failed decisions could not be retried", logger=logger
    )
