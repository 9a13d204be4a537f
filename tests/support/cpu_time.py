"""Whether time grows linearly with the length of a text: two sizes are compared, so the result holds on any machine."""

from __future__ import annotations

import time
from collections.abc import Callable

SHORT, LONG = 5_000, 20_000
"""Characters."""
_MOST_GROWTH = 9.0
"""For four times the text: linear work takes 4 times as long, quadratic work 16 times."""
_NOISE_SECONDS = 0.05
"""What is done sooner than this is not compared."""
_TRIES = 3
"""The least of so many times counts: other work of the machine only adds to them."""


def grows_linearly(work: Callable[[str], object], part: str) -> bool:
    """Whether `work` on `part` repeated takes a CPU time that is about linear in the length of the text."""
    short, long = (part * (length // len(part)) for length in (SHORT, LONG))
    least_short = least_long = float("inf")
    for _ in range(_TRIES):
        least_long = min(least_long, _cpu_seconds(lambda: work(long)))
        if least_long < _NOISE_SECONDS:
            return True
        least_short = min(least_short, _cpu_seconds(lambda: work(short)))
        if least_long < _MOST_GROWTH * least_short:
            return True
    return False


def _cpu_seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start
