"""Intervals of a comparison."""

from __future__ import annotations

import numpy as np
import pytest

from cord_worker.operations.comparison import bootstrap


def test_the_interval_holds_the_mean_and_is_that_of_the_normal_approximation() -> None:
    values = np.array([1.0] * 150 + [0.0] * 50)
    interval = bootstrap(values)
    assert interval is not None
    error = 1.96 * (0.75 * 0.25 / 200) ** 0.5
    assert interval.mean == 0.75
    assert interval.low == pytest.approx(0.75 - error, abs=0.01)
    assert interval.high == pytest.approx(0.75 + error, abs=0.01)


def test_a_paired_difference_is_narrower_than_the_runs_themselves() -> None:
    difficulty = np.random.default_rng(1).uniform(0, 0.9, 300)
    better, single = bootstrap(difficulty + 0.05 - difficulty), bootstrap(difficulty)
    assert better is not None
    assert single is not None
    assert better.excludes_zero
    assert better.high - better.low < 0.01 * (single.high - single.low)


def test_unknown_values_are_left_out_and_nothing_known_gives_no_interval() -> None:
    interval = bootstrap(np.array([1.0, np.nan, 0.0]))
    assert interval is not None
    assert interval.mean == 0.5
    assert bootstrap(np.array([np.nan])) is None


def test_the_same_values_give_the_same_interval() -> None:
    values = np.random.default_rng(2).uniform(size=40)
    assert bootstrap(values) == bootstrap(values)
