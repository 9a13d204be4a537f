"""What a worker holds a lease of, and whether it has room for more.

A worker leases no more than its engine can take up soon: what it leaves can be taken over by an idle replica, is not
lost with it, and the less it holds at once, the sooner each of it is through.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager

from cord_worker.store.work.judge_answer import LeasedVerdict
from cord_worker.store.work.judge_candidate import LeasedJudgment
from cord_worker.store.work.values import LeasedAnswer, LeasedProposal, LeasedScore

Lease = LeasedProposal | LeasedScore | LeasedJudgment | LeasedAnswer | LeasedVerdict

_WIDTHS = 2
"""What the engine works on, and as much again that is being read and written."""


class Holding:
    """Keys of the rows whose lease a task of this process holds: from the commit of the claim to the task's end.

    `width` is how many requests the engine works on at once. Safe for use from several threads.
    """

    def __init__(self, width: int) -> None:
        self._most = _WIDTHS * width
        self._changed = threading.Condition()
        self._candidates: set[int] = set()
        self._trajectories: set[int] = set()
        self._claiming = 0
        self._last_claim = 1
        self._closed = False

    @contextmanager
    def claiming(self) -> Iterator[None]:
        """Around a claim: waits until there is room for it. Raises CancelledError where it is closed meanwhile.

        Nobody knows before how much a claim will come to; the last one is what is reckoned with.
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

    def add(self, leases: Sequence[Lease]) -> None:
        """Holds what was claimed."""
        if not leases:
            return
        with self._changed:
            self._last_claim = len(leases)
            for lease in leases:
                self._keys_of(lease).add(lease_key(lease))

    @contextmanager
    def releasing(self, leases: Sequence[Lease]) -> Iterator[None]:
        """Holds them to the end of the block."""
        try:
            yield
        finally:
            with self._changed:
                for lease in leases:
                    self._keys_of(lease).discard(lease_key(lease))
                self._changed.notify_all()

    def forget(self) -> None:
        """Holds nothing any more, whatever the tasks believe: what they do is left to others."""
        with self._changed:
            self._candidates.clear()
            self._trajectories.clear()
            self._changed.notify_all()

    def close(self) -> None:
        """Lets nobody claim any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def candidates(self) -> list[int]:
        """Keys of the candidates."""
        with self._changed:
            return list(self._candidates)

    def trajectories(self) -> list[int]:
        """Keys of the trajectories."""
        with self._changed:
            return list(self._trajectories)

    def _has_room(self) -> bool:
        held = len(self._candidates) + len(self._trajectories)
        return not (held or self._claiming) or held + self._claiming * self._last_claim < self._most

    def _keys_of(self, lease: Lease) -> set[int]:
        return self._trajectories if isinstance(lease, LeasedAnswer | LeasedVerdict) else self._candidates


def lease_key(lease: Lease) -> int:
    """Key of the row that is leased: of a candidate or a trajectory."""
    return lease.trajectory_id if isinstance(lease, LeasedAnswer | LeasedVerdict) else lease.candidate_id
