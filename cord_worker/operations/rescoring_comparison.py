"""Compares the scores of rescorings with those of their runs, for `cordctl compare`.

All figures are over the stored candidates. A search by the other prover would have kept other candidates and taken
other paths. So the figures say how far the two provers agree, not what the other search would have found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa

from cord_worker.config import RunConfig
from cord_worker.operations.comparison import Interval, Values, bootstrap
from cord_worker.store.reports.rescored_problems import RescoredProblem, rescored_problems
from cord_worker.store.runs.rescorings import RescoringRow, find_rescoring, list_rescorings, rescoring_counts
from cord_worker.store.runs.runs import RunRow, resolve_run


@dataclass(frozen=True, slots=True)
class ComparedRescoring:
    """A rescoring and its run. Intervals are over `problems`; within a problem, all candidates count equally.

    `score` and `rescore` are the mean scores in the run and in the rescoring. `correlation` is Spearman's rank
    correlation within a decision; `other_first` is the share of decisions in which another candidate would be first,
    and `other_winner` the share of problems in which another finished trajectory would win. These, and `score`, are
    None in a run without scores. There, `best_accuracy` is the accuracy of the samples with the highest rescores, and
    `accuracy_gain` is `best_accuracy` minus the accuracy of all samples. Both are None in other runs, whose beaten
    trajectories have no answer.

    All intervals are None while candidates are `left` to score, because the first ones to be scored are not a random
    sample. The `invalid` candidates include the `given_up` ones, whose worker was lost or failed each time.
    """

    run: str
    name: str
    model: str
    candidates: int
    scored: int
    invalid: int
    given_up: int
    left: int
    problems: int
    score: Interval | None
    rescore: Interval | None
    difference: Interval | None
    correlation: Interval | None
    other_first: Interval | None
    other_winner: Interval | None
    best_accuracy: Interval | None
    accuracy_gain: Interval | None

    @property
    def label(self) -> str:
        """RUN@NAME."""
        return f"{self.run}@{self.name}"

    def to_json(self) -> dict[str, Any]:
        """For scripts; keys are stable."""
        return {"rescoring": self.label, **asdict(self)}


def split_label(label: str) -> tuple[str, str | None]:
    """The run and the rescoring that `RUN` or `RUN@NAME` names."""
    run, separator, name = label.partition("@")
    return run, name if separator else None


def runs_of(labels: Sequence[str]) -> list[str]:
    """The runs that the labels name, in their order. The run of a rescoring is added once, and only if no label names
    the run alone. A run that is named alone twice stays twice."""
    named = [split_label(label) for label in labels]
    themselves = [run for run, rescoring in named if rescoring is None]
    names: list[str] = []
    for run, rescoring in named:
        if rescoring is None or run not in (*themselves, *names):
            names.append(run)
    return names


def compare_rescorings(connection: sa.Connection, labels: Sequence[str]) -> list[ComparedRescoring]:
    """Compares the rescorings that the labels name (RUN@NAME). A run that is named alone stands for all of its
    rescorings.

    Raises RunNotFound, and StoreError for a rescoring that does not exist.
    """
    named: dict[str, list[str]] = {}
    for label in labels:
        run_name, name = split_label(label)
        names = named.setdefault(run_name, [])
        if name is not None and name not in names:
            names.append(name)
    compared = []
    for run_name, names in named.items():
        run = resolve_run(connection, run_name)
        chosen = [find_rescoring(connection, run, name) for name in names] or list_rescorings(connection, run.id)
        compared += [_compare(connection, run, rescoring) for rescoring in chosen]
    return compared


def _compare(connection: sa.Connection, run: RunRow, rescoring: RescoringRow) -> ComparedRescoring:
    is_scored = RunConfig.from_stored(run.config).is_scored
    counts = rescoring_counts(connection, rescoring.id)
    rows = [] if counts.left else rescored_problems(connection, rescoring.id, is_scored=is_scored)
    scores, rescores = _values([row.score for row in rows]), _values([row.rescore for row in rows])
    decided = [row for row in rows if row.decisions]
    answered = [] if is_scored else [row for row in rows if row.best_correct is not None]
    best = _values([row.best_correct for row in answered])
    return ComparedRescoring(
        run=run.name,
        name=rescoring.name,
        model=rescoring.path,
        candidates=counts.total,
        scored=counts.scored,
        invalid=counts.invalid,
        given_up=counts.given_up,
        left=counts.left,
        problems=len(rows),
        score=bootstrap(scores),
        rescore=bootstrap(rescores),
        difference=bootstrap(rescores - scores),
        correlation=bootstrap(_values([row.correlation for row in rows])),
        other_first=bootstrap(_values([_other_first_share(row) for row in decided])),
        other_winner=bootstrap(_values([row.is_other_winner for row in rows])),
        best_accuracy=bootstrap(best),
        accuracy_gain=bootstrap(best - _values([row.correct for row in answered])),
    )


def _other_first_share(row: RescoredProblem) -> float:
    return row.other_first / row.decisions


def _values(values: Sequence[float | None]) -> Values:
    """The values, shape (problems,), with NaN for None."""
    return np.array([np.nan if value is None else float(value) for value in values])
