"""Leaves out the results of problems whose question a benchmark has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from cord_worker.contamination import QuestionIndex
from cord_worker.store.reports.results import Result

_TOGETHER = 32
"""Results in memory at once: questions are looked up faster together."""


class Decontaminator:
    """Filters results by their question, and counts the `problems` that it leaves out.

    Without an index it lets everything pass.
    """

    def __init__(self, index: QuestionIndex | None) -> None:
        self.problems = 0
        self._index = index

    def of(self, results: Iterable[Result]) -> Iterator[Result]:
        """The results, in their order, of problems without a hit. Those of one problem must be consecutive."""
        if self._index is None:
            yield from results
            return
        last = None
        remaining = iter(results)
        while batch := list(islice(remaining, _TOGETHER)):
            hits = self._index.hits([result.question for result in batch])
            for result, found in zip(batch, hits, strict=True):
                if not found:
                    yield result
                elif result.key != last:
                    self.problems += 1
                    last = result.key
