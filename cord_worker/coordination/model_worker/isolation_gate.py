"""A lock around the engine, shared or exclusive: tasks share it; a task that may kill its worker has exclusive use.

`store.schema.isolation` says which work must be exclusive.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager


class IsolationGate:
    """A lock with shared and exclusive use. A task that waits for exclusive use goes before later shared tasks. Safe
    for use from several threads."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._shared = 0
        self._waiting = 0
        self._exclusive = False
        self._closed = False

    @property
    def is_isolating(self) -> bool:
        """Whether a task has exclusive use, or waits for it."""
        return self._exclusive or self._waiting > 0

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Shared use, once no task has exclusive use or waits for it. Raises CancelledError if the gate is closed."""
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
        """Exclusive use. Raises CancelledError if the gate is closed."""
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
        """Lets no further task in; tasks inside finish."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _check_open(self) -> None:
        if self._closed:
            raise CancelledError
