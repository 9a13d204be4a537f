"""Compares runs, and gives figures their intervals: `cordctl compare` and Table 15 of `cordctl cost`.

Intervals come from the paired bootstrap: the problems that two runs share are resampled, and each resample is evaluated
for both runs, so that the difficulty of the problems cancels out in the difference.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from cord_worker.config import Prices, RunConfig
from cord_worker.errors import StoreError
from cord_worker.operations.run_cost import Cost, budget, read_cost
from cord_worker.store.reports.costs import ProblemResult, problem_results
from cord_worker.store.reports.status import TeacherTotals, read_teacher_totals
from cord_worker.store.runs.runs import RunRow, resolve_run

RESAMPLES = 10_000
CONFIDENCE = 0.95
_SEED = 0
_CHUNK = 500
"""Resamples drawn at once: bounds the memory to some MB per thousand problems."""

Values = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with the bounds of its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether the whole interval lies on one side of 0."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True, slots=True)
class ComparedRun:
    """One run of a comparison, over the problems that all runs share.

    A difference is the value of this run minus that of the first run; the first run has none. Accuracies leave out
    `undecided` answers, and their differences leave out problems with only such answers. `score_difference` is None if
    the two runs compute scores differently: as another mean, or over other tokens of the known answer. `tokens` are the
    generated tokens per problem. `result_tokens` are the generated tokens of the trajectory and its final answer, over
    the problems that have one.
    """

    run: str
    pipeline: str
    budget: str
    accuracy: Interval | None
    undecided: int
    score: Interval | None
    accuracy_difference: Interval | None
    score_difference: Interval | None
    tokens: Interval | None
    result_tokens: Interval | None

    def to_json(self) -> dict[str, Any]:
        """For scripts; keys are stable."""
        return {
            "run": self.run,
            "pipeline": self.pipeline,
            "budget": self.budget,
            "accuracy": _json(self.accuracy),
            "undecided": self.undecided,
            "score": _json(self.score),
            "accuracy_difference": _json(self.accuracy_difference),
            "score_difference": _json(self.score_difference),
            "tokens_per_problem": None if self.tokens is None else self.tokens.mean,
            "tokens": _json(self.tokens),
            "result_tokens": _json(self.result_tokens),
        }


@dataclass(frozen=True, slots=True)
class CostedRun(ComparedRun):
    """One run of a comparison with the cost of all of its problems, and its teachers. In a trimmed run, the shares of
    the teachers do not count duplicates, because these are not copied."""

    cost: Cost
    teachers: Sequence[TeacherTotals]
    is_trimmed: bool

    def to_json(self) -> dict[str, Any]:
        """For scripts; keys are stable."""
        shares = {teacher.name: teacher.share for teacher in self.teachers}
        return {**ComparedRun.to_json(self), "cost": self.cost.to_json(), "shares": shares, "trimmed": self.is_trimmed}


RunT = TypeVar("RunT", bound=ComparedRun)


@dataclass(frozen=True, slots=True)
class RunComparison(Generic[RunT]):
    """Several runs on the `problems` that they share."""

    problems: int
    runs: Sequence[RunT]

    def to_json(self) -> dict[str, Any]:
        """For scripts; keys are stable."""
        return {"problems": self.problems, "runs": [run.to_json() for run in self.runs]}


def compare_runs(
    connection: sa.Connection, names: Sequence[str], prices: Prices | None = None
) -> RunComparison[CostedRun]:
    """Like `compare_results`, with the cost of each run from `read_cost`, which reads every request of the run.

    Raises what these two raise.
    """
    found = compare_results(connection, names)
    costed = []
    for one in found.runs:
        results = {field.name: getattr(one, field.name) for field in fields(one)}
        run = resolve_run(connection, one.run)
        costed.append(
            CostedRun(
                **results,
                cost=read_cost(connection, one.run, prices),
                teachers=read_teacher_totals(connection, run.id),
                is_trimmed=run.trimmed_from is not None,
            )
        )
    return RunComparison(found.problems, costed)


def compare_results(connection: sa.Connection, names: Sequence[str]) -> RunComparison[ComparedRun]:
    """Compares the runs with the first of them, on the problems that all of them have finished.

    Raises RunNotFound, and StoreError if they share no such problem.
    """
    runs = [resolve_run(connection, name) for name in names]
    results = [{result.key: result for result in problem_results(connection, run.id)} for run in runs]
    keys = [key for key in results[0] if all(key in others for others in results[1:])]
    if not keys:
        raise StoreError(
            f"the runs {', '.join(names)} share no finished problem: compare runs of one dataset, after each has "
            "finished some of its problems (cordctl status RUN)"
        )
    shared = [[found[key] for key in keys] for found in results]
    return RunComparison(len(keys), compare_rows(runs, shared))


def compare_rows(
    runs: Sequence[RunRow],
    shared: Sequence[Sequence[ProblemResult]],
    interval: Callable[[Values], Interval | None] | None = None,
) -> list[ComparedRun]:
    """Compares the runs with the first of them. `shared` has their results for the same problems in the same order.
    `interval` computes the mean of values and its bounds; by default `bootstrap`."""
    interval_of = bootstrap if interval is None else interval
    compared = []
    configs = [RunConfig.from_stored(run.config) for run in runs]
    for run, config, rows in zip(runs, configs, shared, strict=True):
        first = None if rows is shared[0] else shared[0]
        compared.append(
            ComparedRun(
                run=run.name,
                pipeline=config.search.pipeline,
                budget=budget(config.search),
                accuracy=interval_of(_correct(rows)),
                undecided=sum(row.undecided for row in rows),
                score=interval_of(_scores(rows)) if config.is_scored else None,
                accuracy_difference=None if first is None else interval_of(_correct(rows) - _correct(first)),
                score_difference=(
                    interval_of(_scores(rows) - _scores(first))
                    if first and _same_kind_of_score(config, configs[0])
                    else None
                ),
                tokens=interval_of(np.array([float(row.generated_tokens) for row in rows])),
                result_tokens=interval_of(_result_tokens(rows)),
            )
        )
    return compared


def bootstrap(values: Values) -> Interval | None:
    """Mean and percentile interval of `values`, which have the shape (problems,). NaN entries are left out; None if no
    other entry is left.

    Equal values have equal intervals, because every call draws the same resamples.
    """
    random = np.random.default_rng(_SEED)
    known = values[~np.isnan(values)]
    if not known.size:
        return None
    means = np.concatenate(
        [
            known[random.integers(0, known.size, size=(_CHUNK, known.size))].mean(axis=1)
            for _ in range(RESAMPLES // _CHUNK)
        ]
    )
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(known.mean()), float(low), float(high))


def _same_kind_of_score(config: RunConfig, other: RunConfig) -> bool:
    """Whether both runs have scores, and compute them as the same mean over the same tokens."""
    kinds = [
        (one.required_prover.score, one.required_prover.score_full_stop) if one.is_scored else None
        for one in (config, other)
    ]
    return kinds[0] is not None and kinds[0] == kinds[1]


def _correct(rows: Sequence[ProblemResult]) -> Values:
    return np.array([np.nan if row.correct is None else float(row.correct) for row in rows])


def _scores(rows: Sequence[ProblemResult]) -> Values:
    """Scores of the problems; a failed problem has no trajectory and counts as 0."""
    return np.array([0.0 if row.score is None else row.score for row in rows])


def _result_tokens(rows: Sequence[ProblemResult]) -> Values:
    return np.array([np.nan if row.result_tokens is None else row.result_tokens for row in rows])


def _json(interval: Interval | None) -> dict[str, float] | None:
    return None if interval is None else asdict(interval)
