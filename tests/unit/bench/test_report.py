"""Figures of a measurement."""

from __future__ import annotations

import pytest

from cord_worker.bench.report import Figure, Report, check_rounds, quotients
from cord_worker.errors import ConfigError


def test_fewer_than_three_rounds_are_refused() -> None:
    check_rounds(3)
    with pytest.raises(ConfigError, match="--rounds 3"):
        check_rounds(2)


def test_quotients_are_taken_round_by_round() -> None:
    assert quotients([1.0, 9.0, 4.0], [2.0, 3.0, 4.0]) == (0.5, 3.0, 1.0)


def test_the_json_holds_the_keys_and_every_round() -> None:
    report = Report("x", (Figure("speed", (1.0, 3.0, 2.0), "rows/s"),), {"speed": 2.0}, ("how",))
    document = report.to_json()
    assert document["speed"] == report.figures[0].median
    assert document["figures"]["speed"] == {"unit": "rows/s", "values": [1.0, 3.0, 2.0]}
