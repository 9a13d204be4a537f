"""Waiting for a condition."""

from __future__ import annotations

import time
from collections.abc import Callable

LIFETIME = 900
"""Seconds that a process of a test sleeps: longer than any test, should nobody end it."""


def wait_until(condition: Callable[[], bool], seconds: float = 60.0) -> bool:
    """True as soon as the condition holds, False if it does not hold within `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.03)
    return condition()
