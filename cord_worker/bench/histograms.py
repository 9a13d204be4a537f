"""Histograms read from the metrics of running processes, and their quantiles."""

from __future__ import annotations

import math
import urllib.request
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

_TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Buckets:
    """A histogram of times. `counts` gives for each bound, in seconds, the number of observations up to it; the last
    bound is infinite. Only histograms with the same bounds are added or subtracted, or one without any (`NOTHING`)."""

    counts: Mapping[float, float]

    def __add__(self, other: Buckets) -> Buckets:
        return Buckets({at: self.counts.get(at, 0.0) + other.counts.get(at, 0.0) for at in self._bounds(other)})

    def __sub__(self, other: Buckets) -> Buckets:
        return Buckets({at: self.counts.get(at, 0.0) - other.counts.get(at, 0.0) for at in self._bounds(other)})

    def _bounds(self, other: Buckets) -> list[float]:
        return sorted({*self.counts, *other.counts})

    @property
    def total(self) -> float:
        """Number of observations."""
        return self.counts.get(math.inf, 0.0)

    def quantile(self, share: float) -> float | None:
        """The value (seconds) that this share of the observations does not exceed, interpolated linearly within its
        bucket; None without observations. In the last bucket, which has no end, the result is the bucket's start."""
        rank = share * self.total
        if not self.total:
            return None
        start, below = 0.0, 0.0
        for bound in sorted(self.counts):
            count = self.counts[bound]
            if count >= rank and count > below:
                return start if math.isinf(bound) else start + (bound - start) * (rank - below) / (count - below)
            start, below = bound, count
        return start


NOTHING = Buckets({})


def scrape(ports: Iterable[int], name: str, label: str) -> dict[str, Buckets]:
    """The histogram `name`, summed over the processes with these metrics ports, by the value of `label`. Raises OSError
    if a process does not answer."""
    found: dict[str, Buckets] = {}
    for port in ports:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=_TIMEOUT_SECONDS) as page:
            text = page.read().decode()
        counts: dict[str, dict[float, float]] = defaultdict(lambda: defaultdict(float))
        for family in text_string_to_metric_families(text):
            if family.name == name:
                for sample in family.samples:
                    if sample.name.endswith("_bucket"):
                        counts[sample.labels[label]][float(sample.labels["le"])] += sample.value
        for value, buckets in counts.items():
            found[value] = found.get(value, NOTHING) + Buckets(buckets)
    return found
