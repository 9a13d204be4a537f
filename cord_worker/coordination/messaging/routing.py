"""Chooses the replica of a model that gets a problem's work: the one whose cache holds the problem's prefix.

Every replica has its own queue, its *shard*. Rendezvous hashing assigns each problem to one of the living replicas. If
a replica joins or leaves, only the problems that it gains or loses move. If no replica lives yet, work waits in shard
0, which the first replica takes. An idle replica helps the others (`work_stealing`), so a shard is a preference, never
a partition.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Mapping

from cord_worker.coordination.transactions import read
from cord_worker.errors import StoreError
from cord_worker.store.database import Database
from cord_worker.store.work import workers

logger = logging.getLogger(__name__)

_CACHE_SECONDS = 1.0


def model_queue(fingerprint: str, shard: int) -> str:
    """Queue of one replica of the model with this fingerprint; a worker with other weights never reads it."""
    return f"model.{fingerprint}.{shard}"


def preferred_shard(problem_id: int, shards: tuple[int, ...]) -> int:
    """The one of `shards` that serves this problem; 0 if `shards` is empty."""
    return max(shards, key=lambda shard: hashlib.blake2b(b"%d/%d" % (problem_id, shard)).digest(), default=0)


class Shards:
    """The living replicas of every model, read at most once a second; safe for use from several threads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._read_at = float("-inf")
        self._by_model: Mapping[str, tuple[int, ...]] = {}

    def of_model(self, fingerprint: str) -> tuple[int, ...]:
        """Shards that living replicas of the model serve; (0,) if none lives."""
        if self._is_due():
            try:
                self._by_model = read(self._database, workers.live_shards, retry_seconds=0.0)
            except StoreError as error:
                logger.warning("the last known replicas are used: %s", error)
        return self._by_model.get(fingerprint, (0,))

    def _is_due(self) -> bool:
        """Whether this caller must read the replicas now. Of several concurrent callers only one gets True; the others
        use what is known."""
        with self._lock:
            now = time.monotonic()
            if now - self._read_at <= _CACHE_SECONDS:
                return False
            self._read_at = now
            return True

    def queue_of(self, fingerprint: str, problem_id: int) -> str:
        """Queue for this problem's work for the model."""
        return model_queue(fingerprint, preferred_shard(problem_id, self.of_model(fingerprint)))

    def queues_of(self, fingerprint: str) -> list[str]:
        """Queues of the model that a living replica reads."""
        return [model_queue(fingerprint, shard) for shard in self.of_model(fingerprint)]
