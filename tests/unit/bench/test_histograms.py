"""Quantiles of the histograms of several processes."""

from __future__ import annotations

import math

import pytest

from cord_worker.bench.histograms import NOTHING, Buckets
from cord_worker.bench.memory import Footprint
from cord_worker.bench.soak import Growth

INFINITE = math.inf


def test_a_quantile_lies_linearly_within_its_bucket() -> None:
    buckets = Buckets({0.1: 0.0, 0.2: 10.0, INFINITE: 10.0})
    assert buckets.quantile(0.5) == pytest.approx(0.15)
    assert buckets.quantile(1.0) == pytest.approx(0.2)


def test_in_the_last_bucket_a_quantile_is_the_buckets_start() -> None:
    assert Buckets({0.1: 1.0, INFINITE: 10.0}).quantile(0.9) == pytest.approx(0.1)


def test_without_observations_there_is_no_quantile() -> None:
    assert NOTHING.quantile(0.5) is None
    assert (Buckets({0.1: 3.0, INFINITE: 3.0}) - Buckets({0.1: 3.0, INFINITE: 3.0})).quantile(0.5) is None


def test_earlier_observations_are_subtracted_and_processes_are_added() -> None:
    one = Buckets({0.1: 1.0, INFINITE: 2.0})
    both = one + one
    assert both.total == 4.0
    assert (both - one).counts == one.counts


def test_growth_is_that_of_the_worker_that_grew_most() -> None:
    growth = Growth(
        early={"a": Footprint(100.0, 5, 9), "b": Footprint(50.0, 5, 9)},
        late={"a": Footprint(101.0, 5, 8), "b": Footprint(55.0, 7, 9)},
        tasks={"a": (1, 10), "b": (2, 20)},
    )
    assert growth.rss() == pytest.approx(1.1)
    assert growth.threads() == 2
    assert growth.files() == 0
