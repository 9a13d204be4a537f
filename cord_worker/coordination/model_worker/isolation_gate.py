"""Who is at the engine: many pieces of work together, or one that must be alone (`store.isolation`)."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager


class Company:
    """A lock that many share or one holds; who must be alone goes before those who come after. Safe for threads."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._together = 0
        self._waiting = 0
        self._alone = False
        self._closed = False

    @property
    def is_alone(self) -> bool:
        """Whether somebody is alone now."""
        return self._alone

    @property
    def is_isolating(self) -> bool:
        """Whether somebody is alone or waits for it."""
        return self._alone or self._waiting > 0

    @contextmanager
    def together(self) -> Iterator[None]:
        """With others, once nobody is alone or waits for it. Raises CancelledError where it is closed meanwhile."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or not self.is_isolating)
            self._check_open()
            self._together += 1
        try:
            yield
        finally:
            with self._changed:
                self._together -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """With nobody else. Raises CancelledError where it is closed meanwhile."""
        with self._changed:
            self._waiting += 1
            try:
                self._changed.wait_for(lambda: self._closed or not (self._alone or self._together))
                self._check_open()
                self._alone = True
            finally:
                self._waiting -= 1
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._alone = False
                self._changed.notify_all()

    def close(self) -> None:
        """Lets nobody in any more; those who are in finish."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _check_open(self) -> None:
        if self._closed:
            raise CancelledError
