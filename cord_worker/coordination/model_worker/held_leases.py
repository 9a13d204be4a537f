"""The leases that a worker holds, and whether it has room for more.

A worker leases only what its engine can start soon. An idle replica can take over the rest, and the rest is not lost
with the worker. The fewer pieces a worker holds, the sooner each is done.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from typing import Any

from cord_worker.store.schema.kinds import WorkKind
from cord_worker.store.work.values import Claimed

_BATCHES = 2
"""At most this many engine batches are leased: one that is computed, and one that is read or written."""


class HeldLeases:
    """Keys of the rows that this process's tasks have leased, from the commit of the claim to the end of the task.

    `width` is how many requests the engine works on at once. Safe for use from several threads.
    """

    def __init__(self, width: int) -> None:
        self._max_leases = _BATCHES * width
        self._changed = threading.Condition()
        self._keys: defaultdict[str, set[int]] = defaultdict(set)
        self._claiming = 0
        self._last_claim = 1
        self._closed = False

    @contextmanager
    def claiming(self) -> Iterator[None]:
        """Surrounds a claim: waits until there is room for it. Raises CancelledError if `close` is called meanwhile.

        The size of a claim is unknown in advance; the size of the previous one is the estimate.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._has_room())
            if self._closed:
                raise CancelledError
            self._claiming += 1
        try:
            yield
        finally:
            with self._changed:
                self._claiming -= 1
                self._changed.notify_all()

    def add(self, kind: WorkKind, claimed: Claimed) -> None:
        """Holds the claimed leases, for all the tasks that claimed together."""
        if not claimed.leases:
            return
        with self._changed:
            for leases in claimed.by_problem():
                self._last_claim = len(leases)
            self._keys[kind.table].update(getattr(lease, kind.key) for lease in claimed.leases)

    @contextmanager
    def forgetting(self, kind: WorkKind, leases: Sequence[Any]) -> Iterator[None]:
        """Forgets these leases at the end of the block."""
        try:
            yield
        finally:
            with self._changed:
                self._keys[kind.table].difference_update(getattr(lease, kind.key) for lease in leases)
                self._changed.notify_all()

    def forget(self) -> None:
        """Forgets all leases, although tasks still work on them: other workers do their work."""
        with self._changed:
            for keys in self._keys.values():
                keys.clear()
            self._changed.notify_all()

    def close(self) -> None:
        """Makes all later claims fail."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def by_table(self) -> dict[str, list[int]]:
        """Keys of the rows, by table."""
        with self._changed:
            return {table: list(keys) for table, keys in self._keys.items() if keys}

    def candidate_count(self) -> int:
        """Number of candidates that are written, scored or judged, in searches or in rescorings."""
        with self._changed:
            return len(self._keys["candidates"]) + len(self._keys["rescores"])

    def _has_room(self) -> bool:
        held = sum(len(keys) for keys in self._keys.values())
        return not (held or self._claiming) or held + self._claiming * self._last_claim < self._max_leases
