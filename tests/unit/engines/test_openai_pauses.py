"""A server that is back is noticed soon, whatever it asked for."""

from __future__ import annotations

import math

import pytest

from cord_worker.engines.openai.pauses import is_long, obeyed_pause, pause_after, pause_of_busy


@pytest.mark.parametrize("asked", [None, -5.0, 0.0, 7.0, 3600.0, 99999999.0, math.inf])
def test_at_most_a_minute_of_a_requested_pause_is_obeyed(asked: float | None) -> None:
    assert obeyed_pause(asked) == min(asked or 0.0, 60.0)
    assert is_long(pause_of_busy(asked, 0)) == ((asked or 0.0) > 60.0)


def test_pauses_grow_to_at_most_thirty_seconds() -> None:
    pauses = [pause_after(tried) for tried in range(2000)]
    assert pauses[0] <= 0.5
    assert 22.5 <= max(pauses) <= 30.0
