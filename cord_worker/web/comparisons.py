"""Compares two runs problem by problem, for a page of the web view."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import sqlalchemy as sa

from cord_worker.operations import comparison
from cord_worker.operations.comparison import Values, compare_rows
from cord_worker.operations.estimators import NORMAL_QUANTILE
from cord_worker.store.reports.costs import ProblemResult, problem_results
from cord_worker.store.reports.shared_problems import SharedProblem, shared_problems
from cord_worker.store.runs.runs import RunRow
from cord_worker.web.documents import ComparedRun, ComparisonDocument, ComparisonTable, Interval, RunSummary
from cord_worker.web.paths import six_digits
from cord_worker.web.runs import run_summary

MAX_RESAMPLED = 5_000
"""With more problems, intervals are those of the normal distribution, because resampling would take minutes."""
OUTCOMES = ("both", "only_a", "only_b", "neither", "undecided")


@dataclass(frozen=True, slots=True)
class Pair:
    """The results of one problem in both runs."""

    shared: SharedProblem
    a: ProblemResult
    b: ProblemResult

    @property
    def difference(self) -> float | None:
        """The second run's score minus the first one's."""
        return None if self.a.score is None or self.b.score is None else self.b.score - self.a.score

    @property
    def outcome(self) -> str:
        """Which run answered correctly (one of `OUTCOMES`); `undecided` unless both answers are decided.

        A run of several samples answered correctly if more than half of its samples are right.
        """
        if self.a.correct is None or self.b.correct is None:
            return "undecided"
        is_right_a, is_right_b = self.a.correct > 0.5, self.b.correct > 0.5
        if is_right_a == is_right_b:
            return "both" if is_right_a else "neither"
        return "only_a" if is_right_a else "only_b"


def _value_of(pair: Pair, side: str, field: str) -> float | None:
    value: float | None = getattr(getattr(pair, side), field)
    return value


_FIELDS = {"score": "score", "correct": "correct", "steps": "steps", "tokens": "generated_tokens"}
SORTS: Mapping[str, Callable[[Pair], float | str | None]] = {
    "position_a": lambda pair: pair.shared.position,
    "position_b": lambda pair: pair.shared.other_position,
    "id": lambda pair: pair.shared.key,
    "difference": lambda pair: pair.difference,
    **{
        f"{name}_{side}": partial(_value_of, side=side, field=field)
        for name, field in _FIELDS.items()
        for side in ("a", "b")
    },
}
"""The columns to sort by. Each function returns the column's value for a problem."""


@dataclass(frozen=True, slots=True)
class RunPair:
    """Two runs, with the problems that both have finished. `other_content` counts the problems that are left out
    because they have the same id in both runs, but another question, answer or passage."""

    a: ComparedRun
    b: ComparedRun
    pairs: Sequence[Pair]
    other_content: int

    def document(
        self,
        *,
        outcome: str | None = None,
        contains: str | None = None,
        sort: str = "position_a",
        descending: bool = False,
        offset: int = 0,
        limit: int | None = None,
    ) -> ComparisonDocument:
        """The requested rows; problems without a value in the column `sort` come last in either order."""
        chosen = [pair for pair in self.pairs if outcome is None or pair.outcome == outcome]
        if contains:
            folded = contains.lower()
            chosen = [
                pair for pair in chosen if folded in pair.shared.key.lower() or folded in pair.shared.question.lower()
            ]
        value = SORTS[sort]
        known = [pair for pair in chosen if value(pair) is not None]
        known.sort(key=value, reverse=descending)  # type: ignore[arg-type] # the values of a column have one type
        ordered = known + [pair for pair in chosen if value(pair) is None]
        counts = Counter(pair.outcome for pair in self.pairs)
        return ComparisonDocument(
            a=self.a,
            b=self.b,
            shared=len(self.pairs),
            method="bootstrap" if len(self.pairs) <= MAX_RESAMPLED else "normal",
            outcomes={name: counts[name] for name in OUTCOMES},
            other_content=self.other_content,
            matching=len(ordered),
            offset=offset,
            rows=_table(ordered[offset:] if limit is None else ordered[offset : offset + limit]),
        )


def compare(connection: sa.Connection, a: RunRow, b: RunRow) -> RunPair:
    """Both runs, with the problems that both have finished and that have the same content in both; there may be
    none."""
    shared = shared_problems(connection, a.id, b.id)
    same = [one for one in shared if one.is_same]
    of_a, of_b = ({row.key: row for row in problem_results(connection, run.id)} for run in (a, b))
    # A problem is missing if a retry has reopened it since the first query.
    pairs = [Pair(one, of_a[one.key], of_b[one.key]) for one in same if one.key in of_a and one.key in of_b]
    interval = None if len(pairs) <= MAX_RESAMPLED else _normal_interval
    found = compare_rows((a, b), ([pair.a for pair in pairs], [pair.b for pair in pairs]), interval)
    first, second = (_compared(one, run_summary(connection, run)) for one, run in zip(found, (a, b), strict=True))
    return RunPair(first, second, pairs, len(shared) - len(same))


def _normal_interval(values: Values) -> comparison.Interval | None:
    known = values[~np.isnan(values)]
    if not known.size:
        return None
    mean, margin = float(known.mean()), NORMAL_QUANTILE * float(known.std(ddof=1)) / float(np.sqrt(known.size))
    return comparison.Interval(mean, mean - margin, mean + margin)


def _compared(one: comparison.ComparedRun, run: RunSummary) -> ComparedRun:
    return ComparedRun(
        run=run,
        accuracy=_interval(one.accuracy),
        score=_interval(one.score),
        tokens=_interval(one.tokens),
        accuracy_difference=_interval(one.accuracy_difference),
        score_difference=_interval(one.score_difference),
    )


def _interval(one: comparison.Interval | None) -> Interval | None:
    if one is None:
        return None
    return Interval(*(float(f"{value:.6g}") for value in (one.mean, one.low, one.high)))


def _table(pairs: Sequence[Pair]) -> ComparisonTable:
    return ComparisonTable(
        id=[pair.shared.key for pair in pairs],
        position_a=[pair.shared.position for pair in pairs],
        position_b=[pair.shared.other_position for pair in pairs],
        score_a=[six_digits(pair.a.score) for pair in pairs],
        score_b=[six_digits(pair.b.score) for pair in pairs],
        difference=[six_digits(pair.difference) for pair in pairs],
        correct_a=[pair.a.correct for pair in pairs],
        correct_b=[pair.b.correct for pair in pairs],
        steps_a=[pair.a.steps for pair in pairs],
        steps_b=[pair.b.steps for pair in pairs],
        tokens_a=[pair.a.generated_tokens for pair in pairs],
        tokens_b=[pair.b.generated_tokens for pair in pairs],
        question=[pair.shared.question for pair in pairs],
    )
