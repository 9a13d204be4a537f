"""Counts the results of a worker's tasks, for Prometheus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cord_worker import metrics
from cord_worker.store.schema.kinds import WorkKind
from cord_worker.store.work.judge_answer import VerdictResult


@dataclass(frozen=True, slots=True)
class Transit:
    """How long a task's message took, in seconds: to this process (`broker`), and then until the task began
    (`start`)."""

    broker: float
    start: float


NO_TRANSIT = Transit(0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Waits:
    """How long a task waited, in seconds: for room in its model, for its lease, and for its results to be written."""

    room: float
    lease: float
    write: float


def count(kind: WorkKind, results: Sequence[Any], transit: Transit, waits: Waits) -> None:
    """Counts a task's results and their tokens. The whole wait of the task counts for each of its candidates."""
    overhead = transit.start + waits.lease + waits.write
    for result in results:
        if kind.table != "trajectories":
            metrics.CANDIDATE_OVERHEAD.labels(kind.name).observe(overhead)
            metrics.CANDIDATE_DELAY.labels(kind.name).observe(transit.broker + waits.room + overhead)
            metrics.CANDIDATES.labels(kind.name, "invalid" if result.invalid_reason else "valid").inc()
        elif isinstance(result, VerdictResult):
            metrics.count_checked_answer("undecided" if result.correct is None else "judge", result.correct)
        for direction in ("prompt", "cached", "completion"):
            tokens = (getattr(result, f"{part}{direction}_tokens", None) or 0 for part in ("", "base_"))
            metrics.TOKENS.labels(kind.name, direction).inc(sum(tokens))
