"""The figures of the tables with their intervals, and the paper's rankings that hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from cord_worker.operations.comparison import (
    CONFIDENCE,
    RESAMPLES,
    ComparedRun,
    Interval,
    RunComparison,
    compare_results,
)
from cord_worker.reproduce.paper import CLAIMS, HIT_RATES, ROWS, Claim, Row
from cord_worker.store.reports.winning_steps import WinningStep, winning_steps
from cord_worker.store.runs.runs import resolve_run

TENTHS = 10
_SEED = 0
_RESAMPLES_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Cell:
    """One figure of a table with the bounds of its 95 % interval, and the paper's figure. Accuracy, score and hit rate
    are shares; `tokens` are generated tokens per problem. If the run is missing, there is no value and `note` says
    why."""

    table: str
    row: str
    metric: str
    value: float | None
    low: float | None
    high: float | None
    paper: float | None
    problems: int
    note: str

    def to_json(self) -> dict[str, Any]:
        """A JSON object for scripts; keys are stable."""
        return asdict(self)


class Outcome(StrEnum):
    """Whether an order of the paper was reproduced."""

    AS_IN_THE_PAPER = "as in the paper"
    """The interval of the difference lies above 0."""
    UNDECIDED = "undecided"
    """The interval holds 0."""
    REVERSED = "reversed"
    """The interval lies below 0."""
    NOT_RUN = "not run"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result on one claim, in one metric: the difference (better run minus worse run) on the `problems` that both
    runs share."""

    claim: Claim
    metric: str
    difference: Interval | None
    problems: int

    @property
    def outcome(self) -> Outcome:
        """Whether the paper's order was reproduced."""
        if self.difference is None:
            return Outcome.NOT_RUN
        if self.difference.low > 0:
            return Outcome.AS_IN_THE_PAPER
        return Outcome.REVERSED if self.difference.high < 0 else Outcome.UNDECIDED

    @property
    def explanation(self) -> str:
        """Why the order differs from the paper's; empty if it does not."""
        return self.claim.otherwise if self.outcome in (Outcome.UNDECIDED, Outcome.REVERSED) else ""


def read_cells(connection: sa.Connection, finished: Sequence[str]) -> list[Cell]:
    """All cells, in the order of the tables; cells of runs that are not `finished` have no value."""
    cells: list[Cell] = []
    for row in ROWS:
        found = compare_results(connection, [row.run]) if row.run in finished else None
        cells += [_cell(row, metric, found) for metric in row.metrics]
    if HIT_RATES.run in finished:
        cells += hit_rate_cells(winning_steps(connection, resolve_run(connection, HIT_RATES.run).id))
    return cells


def read_findings(connection: sa.Connection, finished: Sequence[str]) -> list[Finding]:
    """The finding on every claim in each of its metrics, against the best of the runs claimed to be worse."""
    findings: list[Finding] = []
    for claim in CLAIMS:
        worse = [name for name in claim.worse if name in finished and claim.better in finished]
        comparisons = [compare_results(connection, [name, claim.better]) for name in worse]
        findings += [_finding(claim, metric, comparisons) for metric in claim.metrics]
    return findings


def _finding(claim: Claim, metric: str, comparisons: Sequence[RunComparison[ComparedRun]]) -> Finding:
    if not comparisons:
        return Finding(claim, metric, None, 0)
    best = max(comparisons, key=lambda comparison: _mean(comparison.runs[0], metric))
    compared = best.runs[1]
    difference = compared.score_difference if metric == "score" else compared.accuracy_difference
    return Finding(claim, metric, difference, best.problems)


def _mean(compared: ComparedRun, metric: str) -> float:
    interval = _interval(compared, metric)
    return -1.0 if interval is None else interval.mean


def _interval(compared: ComparedRun, metric: str) -> Interval | None:
    """The interval of the mean; Pass@1 is the accuracy of a run with one trajectory per problem."""
    return {"score": compared.score, "tokens": compared.tokens}.get(metric, compared.accuracy)


def _cell(row: Row, metric: str, found: RunComparison[ComparedRun] | None) -> Cell:
    cell = Cell(row.table, row.title, metric, None, None, None, row.paper.get(metric), 0, row.note)
    if found is None:
        return replace(cell, note=row.absent)
    compared, cell = found.runs[0], replace(cell, problems=found.problems)
    interval = _interval(compared, metric)
    if interval is None:
        return replace(cell, note="no answer was checked")
    return replace(cell, value=interval.mean, low=interval.low, high=interval.high)


def hit_rate_cells(steps: Sequence[WinningStep]) -> list[Cell]:
    """The share of each teacher in the winning steps, for each tenth of the decoding position (paper, Figure 2).

    The bootstrap resamples whole problems, because the steps of one problem are not independent.
    """
    if not steps:
        return []
    problems = {key: index for index, key in enumerate(dict.fromkeys(step.key for step in steps))}
    teachers = {name: index for index, name in enumerate(dict.fromkeys(step.teacher for step in steps))}
    counts = np.zeros((len(problems), TENTHS, len(teachers)))
    for step in steps:
        counts[problems[step.key], step.tenth - 1, teachers[step.teacher]] += step.share
    shares = _shares(counts.sum(axis=0))
    low, high = _share_bounds(counts)
    return [
        Cell(
            table=HIT_RATES.table, row=f"{name}, {10 * tenth}-{10 * tenth + 10} %", metric="hit_rate",
            value=float(shares[tenth, index]), low=float(low[tenth, index]), high=float(high[tenth, index]),
            paper=None, problems=int((counts[:, tenth].sum(axis=1) > 0).sum()), note="",
        )
        for name, index in sorted(teachers.items(), key=lambda item: HIT_RATES.order(item[0]))
        for tenth in range(TENTHS)
        if counts[:, tenth].any()
    ]  # fmt: skip


_Counts = npt.NDArray[np.float64]


def _shares(counts: _Counts) -> _Counts:
    """The counts divided by their sum over the last axis; 0 if the sum is 0."""
    totals = counts.sum(axis=-1, keepdims=True)
    shares: _Counts = np.divide(counts, totals, out=np.zeros_like(counts), where=totals > 0)
    return shares


def _share_bounds(counts: _Counts) -> tuple[_Counts, _Counts]:
    draws = np.random.default_rng(_SEED)
    size = counts.shape[0]
    drawn = []
    for _ in range(RESAMPLES // _RESAMPLES_AT_ONCE):
        times = draws.multinomial(size, np.full(size, 1 / size), size=_RESAMPLES_AT_ONCE)
        drawn.append(_shares(np.tensordot(times, counts, axes=1)))
    low, high = np.quantile(np.concatenate(drawn), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=0)
    return low, high
