"""How much slower a model's requests are when its worker handles several at once, from recorded requests."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, combinations, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

_GRID = np.linspace(0.0, 1.5, 61)
_MIN_OBSERVATIONS = 20


@dataclass(frozen=True, slots=True)
class Observation:
    """A recorded request: its kind, its worker, when it was in the engine (seconds), and its tokens."""

    kind: str
    worker: str
    began: float
    ended: float
    new_prompt_tokens: int
    completion_tokens: int


def concurrency(observations: Sequence[Observation]) -> npt.NDArray[np.float64]:
    """For each request the mean number of requests that its worker handled while it ran, itself included (>= 1)."""
    found = np.ones(len(observations))
    of_worker: defaultdict[str, list[int]] = defaultdict(list)
    for index, one in enumerate(observations):
        of_worker[one.worker].append(index)
    for indices in of_worker.values():
        began = np.array([observations[index].began for index in indices])
        ended = np.array([observations[index].ended for index in indices])
        times = np.unique(np.concatenate([began, ended]))
        if len(times) < 2:
            continue
        starts, ends = np.searchsorted(times, began), np.searchsorted(times, ended)
        changes = np.zeros(len(times))
        np.add.at(changes, starts, 1)
        np.add.at(changes, ends, -1)
        # Request-seconds from the first moment up to each moment.
        sums = np.concatenate([[0.0], np.cumsum(np.cumsum(changes)[:-1] * np.diff(times))])
        lengths = ended - began
        inside = lengths > 0
        found[np.array(indices)[inside]] = ((sums[ends] - sums[starts])[inside] / lengths[inside]).clip(min=1.0)
    return found


def usual_most(observations: Sequence[Observation]) -> int:
    """How many requests a worker handles at once when it has much to do: no more in nine tenths of the time in which it
    has any (0 without requests)."""
    spans: list[tuple[int, float]] = []
    for worker in {one.worker for one in observations}:
        changes = sorted(
            change for one in observations if one.worker == worker for change in ((one.began, 1), (one.ended, -1))
        )
        running = list(accumulate(change for _, change in changes))[:-1]
        spans += [
            (number, after[0] - before[0])
            for number, (before, after) in zip(running, pairwise(changes), strict=True)
            if number
        ]
    spans.sort()
    left = 0.9 * sum(seconds for _, seconds in spans)
    for number, seconds in spans:
        left -= seconds
        if left <= 0:
            return number
    return spans[-1][0] if spans else 0


def most_at_once(observations: Sequence[Observation]) -> int:
    """How many workers there were at the same time, at most (0 without requests). A worker was there from its first
    request to the end of its last one, so one that replaced another does not count as a second."""
    there: dict[str, tuple[float, float]] = {}
    for one in observations:
        began, ended = there.get(one.worker, (one.began, one.ended))
        there[one.worker] = min(began, one.began), max(ended, one.ended)
    changes = sorted(change for began, ended in there.values() for change in ((began, 1), (ended, -1)))
    return max(accumulate(change for _, change in changes), default=0)


def fit_slowdown(observations: Sequence[Observation], at_once: npt.NDArray[np.float64]) -> float | None:
    """The slowdown of `simulation.Pool` that explains the durations best; None if the requests do not show it: there
    are too few, or their workers always handled about the same number at once.

    The model: a request takes (a + b x new prompt tokens + c x generated tokens) x (1 + slowdown x (n - 1)) seconds,
    with n requests at once and a, b, c >= 0 of its kind of request. Least squares of the relative errors.
    """
    if len(observations) < _MIN_OBSERVATIONS or np.ptp(at_once) < 0.5:
        return None
    kinds = {one.kind for one in observations}
    groups = [[i for i, one in enumerate(observations) if one.kind == kind] for kind in sorted(kinds)]
    errors = np.zeros(len(_GRID))
    for group in groups:
        chosen = [observations[index] for index in group]
        seconds = np.array([max(one.ended - one.began, 1e-6) for one in chosen])
        tokens = np.array([[1.0, one.new_prompt_tokens, one.completion_tokens] for one in chosen])
        for place, slowdown in enumerate(_GRID):
            slowed = 1.0 + slowdown * (at_once[group] - 1.0)
            errors[place] += _squares(tokens * (slowed / seconds)[:, None])
    return float(_GRID[int(np.argmin(errors))])


def _squares(columns: npt.NDArray[Any]) -> float:
    """The least sum of squares of columns x coefficients - 1 with coefficients >= 0."""
    best = float(len(columns))
    used = [index for index in range(columns.shape[1]) if np.any(columns[:, index])]
    for size in range(1, len(used) + 1):
        for chosen in combinations(used, size):
            part = columns[:, chosen]
            coefficients, *_ = np.linalg.lstsq(part, np.ones(len(part)), rcond=None)
            if (coefficients >= 0).all():
                best = min(best, float(np.sum((part @ coefficients - 1.0) ** 2)))
    return best
