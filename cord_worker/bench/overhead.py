"""Measures how much time a candidate takes outside its models, from the workers' histograms.

A candidate is proposed once and scored once, so its *overhead* is that of both tasks. The sum of the tasks' 95th
percentiles is an upper bound for that of the candidate. *Delay* also includes the transport of the messages and the
wait for room; at full load it is mostly the wait for a busy model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cord_worker.bench.fleet import Fleet
from cord_worker.bench.histograms import NOTHING, Buckets, scrape
from cord_worker.bench.workspace import Workspace

OVERHEAD = "cord_candidate_overhead_seconds"
DELAY = "cord_candidate_delay_seconds"
_KINDS = ("propose", "score")


@dataclass(frozen=True, slots=True)
class Load:
    """Milliseconds per candidate at one load, for both of its tasks together."""

    overhead_p50: float
    overhead_p95: float
    delay_p50: float
    delay_p95: float
    kinds: Mapping[str, tuple[float, float]]
    """The overhead of each kind of task alone: p50 and p95."""


def load_of(workspace: Workspace, fleet: Fleet, work: Callable[[], None]) -> Load:
    """The overhead and delay of the candidates that the fleet processes during `work`."""
    ports = list(fleet.ports(workspace).values())
    before = {name: scrape(ports, name, "kind") for name in (OVERHEAD, DELAY)}
    work()
    after = {name: scrape(ports, name, "kind") for name in (OVERHEAD, DELAY)}

    def both(name: str, share: float) -> float:
        return 1000 * sum(_quantile(after[name], before[name], kind, share) for kind in _KINDS)

    def one(kind: str, share: float) -> float:
        return 1000 * _quantile(after[OVERHEAD], before[OVERHEAD], kind, share)

    kinds = {kind: (one(kind, 0.5), one(kind, 0.95)) for kind in _KINDS}
    return Load(both(OVERHEAD, 0.5), both(OVERHEAD, 0.95), both(DELAY, 0.5), both(DELAY, 0.95), kinds)


def _quantile(after: Mapping[str, Buckets], before: Mapping[str, Buckets], kind: str, share: float) -> float:
    return (after.get(kind, NOTHING) - before.get(kind, NOTHING)).quantile(share) or 0.0
