"""A shared and exclusive lock around the engine: tasks share it; a task that may kill its worker runs alone.

`store.schema.isolation` says which must be alone.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager


class IsolationGate:
    """A lock that many share or one holds. A task that waits for exclusive use goes before later shared ones. Safe for
    use from several threads."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._shared = 0
        self._waiting = 0
        self._exclusive = False
        self._closed = False

    @property
    def is_isolating(self) -> bool:
        """Whether a task is alone, or waits for that."""
        return self._exclusive or self._waiting > 0

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Beside others, once no task is alone or waits for that. Raises CancelledError where the gate is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or not self.is_isolating)
            self._check_open()
            self._shared += 1
        try:
            yield
        finally:
            with self._changed:
                self._shared -= 1
                self._changed.notify_all()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """With no other task. Raises CancelledError where the gate is closed."""
        with self._changed:
            self._waiting += 1
            try:
                self._changed.wait_for(lambda: self._closed or not (self._exclusive or self._shared))
                self._check_open()
                self._exclusive = True
            finally:
                self._waiting -= 1
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._exclusive = False
                self._changed.notify_all()

    def close(self) -> None:
        """Lets no further task in; those inside finish."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _check_open(self) -> None:
        if self._closed:
            raise CancelledError
