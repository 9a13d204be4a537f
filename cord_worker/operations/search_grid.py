"""The search of one problem as a grid (`cordctl show`): one column for each step, one row for each slot of the beam,
and the candidates that each step left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import sqlalchemy as sa

from cord_worker.errors import StoreError
from cord_worker.name_suggestions import unknown
from cord_worker.search.gains import gain_over
from cord_worker.store.reports.search_trees import (
    Search,
    TreeCandidate,
    best_problem,
    read_search,
    similar_keys,
)
from cord_worker.store.runs.runs import resolve_run
from cord_worker.store.schema.tables import RunState

BEST = "best"
_NAMED_KEYS = 10
"""Ids listed in the error for an unknown one."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One slot of a beam. `gain` is the score minus the parent's (at step 1 minus the base score), None if either is
    missing. `carried`: the trajectory finished at an earlier step and kept a slot. `finish` is None while it is
    extended."""

    rank: int
    candidate: TreeCandidate
    gain: float | None
    carried: bool
    finish: str | None


@dataclass(frozen=True, slots=True)
class Loser:
    """A candidate that did not enter the beam of its step, invalid ones included. `behind` is how far its score is
    below the lowest score in the beam; None if it is not below, or a score is missing."""

    candidate: TreeCandidate
    gain: float | None
    reason: str
    behind: float | None


@dataclass(frozen=True, slots=True)
class Column:
    """One step: its beam in rank order, and the other candidates in the order of the tree."""

    step: int
    cells: tuple[Cell, ...]
    losers: tuple[Loser, ...]

    @property
    def narrowest(self) -> Loser | None:
        """The valid loser with the best score, of equal ones the first: that of the view narrow_losers, if the step has
        the winner's smallest lead. None without a loser that has a score."""
        scored = [one for one in self.losers if one.candidate.is_valid and one.candidate.score is not None]
        return max(scored, key=lambda one: one.candidate.score or 0.0, default=None)

    @property
    def least_score(self) -> float | None:
        """The lowest score in the beam; None if no slot has one."""
        return min((cell.candidate.score for cell in self.cells if cell.candidate.score is not None), default=None)

    @property
    def reasons(self) -> Counter[str]:
        """How many candidates were lost for each reason; the valid ones count as `lower rank`."""
        return Counter("lower rank" if one.candidate.is_valid else one.reason for one in self.losers)


@dataclass(frozen=True, slots=True)
class SearchGrid:
    """One problem's search. `path` has the winner's steps; it is empty without a winner. `pause` says that the run is
    paused, and why; None if it is not. `trimmed_from`: the source of a trimmed run. `score_resolution`: scores that
    round to the same multiple of it are ties; 0 if there are no such ties."""

    run: str
    search: Search
    columns: tuple[Column, ...]
    path: tuple[Cell, ...]
    pause: str | None = None
    trimmed_from: str | None = None
    score_resolution: float = 0.0

    @property
    def winner(self) -> TreeCandidate | None:
        """The last step of the winner."""
        return self.path[-1].candidate if self.path else None

    def column(self, step: int) -> Column:
        """The column of a step. Raises StoreError if the search has no such step."""
        for column in self.columns:
            if column.step == step:
                return column
        known = f"its steps are 1 to {self.columns[-1].step}" if self.columns else "it has no step yet"
        raise StoreError(f"problem {self.search.tree.key!r} of {self.run} has no step {step}: {known}")

    def is_decided(self, column: Column) -> bool:
        """Whether the step has its beam, or will never have one. Otherwise its candidates are still in work."""
        return bool(column.cells) or self.search.tree.is_final or column is not self.columns[-1]

    def to_json(self) -> dict[str, Any]:
        """For scripts; keys are stable. Candidates are named by their lineages."""
        tree = self.search.tree
        return {
            "run": self.run,
            "problem": tree.key,
            "state": tree.state,
            "pause": self.pause,
            "trimmed_from": self.trimmed_from,
            "failure_reason": self.search.failure_reason,
            "question": tree.question,
            "passage": tree.passage,
            "answer": tree.answer,
            "base_score": tree.base_score,
            "score": tree.score,
            "correct": tree.correct,
            "teachers": list(self.search.teachers),
            "winning_path": [cell.candidate.lineage for cell in self.path],
            "steps": [
                {
                    "step": column.step,
                    "beam": [
                        {
                            "rank": cell.rank,
                            "lineage": cell.candidate.lineage,
                            "gain": cell.gain,
                            "carried": cell.carried,
                            "finish": cell.finish,
                        }
                        for cell in column.cells
                    ],
                    "lost": [
                        {
                            "lineage": loser.candidate.lineage,
                            "gain": loser.gain,
                            "reason": loser.reason,
                            "behind": loser.behind,
                        }
                        for loser in column.losers
                    ],
                }
                for column in self.columns
            ],
            "candidates": [asdict(one) for one in tree.candidates],
        }


def read_grid(connection: sa.Connection, run: str | None, key: str) -> SearchGrid:
    """The search of the problem `key` of `run` (None: the newest). If no problem has the id `BEST`, `BEST` stands for
    the problem of the best result.

    Raises RunNotFound for an unknown run, StoreError for an unknown problem.
    """
    row = resolve_run(connection, run)
    search = read_search(connection, row.id, key)
    if search is None and key == BEST and (best := best_problem(connection, row.id)) is not None:
        search = read_search(connection, row.id, best)
    if search is None and key == BEST:
        raise StoreError(f"{row.name}: no problem has a result yet. Name a problem by its id in the dataset.")
    if search is None:
        raise StoreError(
            f"{row.name}: {unknown('problem', key, similar_keys(connection, row.id, key, limit=_NAMED_KEYS))}"
        )
    grid = replace(
        grid_of(row.name, search), trimmed_from=row.trimmed_from, score_resolution=_score_resolution(row.config)
    )
    if row.state != RunState.PAUSED:
        return grid
    return replace(grid, pause="paused" if row.pause_reason is None else f"paused: {row.pause_reason}")


def _score_resolution(config: Mapping[str, Any]) -> float:
    """`search.score_resolution` of a stored configuration; 0 if something else than the score itself is ranked."""
    search = config.get("search", {})
    if search.get("selection", "predictive_perplexity") != "predictive_perplexity" or search.get(
        "length_normalisation"
    ):
        return 0.0
    return float(search.get("score_resolution") or 0.0)


def grid_of(run: str, search: Search) -> SearchGrid:
    """The grid of a stored search; it reads nothing else."""
    by_lineage = {one.lineage: one for one in search.tree.candidates}
    columns = []
    by_step: dict[int, list[TreeCandidate]] = {}
    for one in search.tree.candidates:
        by_step.setdefault(one.step, []).append(one)
    for step, candidates in sorted(by_step.items()):
        slots = [slot for slot in search.beams if slot.step == step]
        cells = tuple(
            Cell(
                rank=slot.rank,
                candidate=(candidate := by_lineage[slot.lineage]),
                gain=gain(candidate, by_lineage, search.tree.base_score),
                carried=candidate.step < step,
                finish=slot.finish,
            )
            for slot in slots
        )
        inside = {slot.lineage for slot in slots}
        outside = [one for one in candidates if one.lineage not in inside]
        least = Column(step, cells, ()).least_score
        losers = tuple(_loser(one, by_lineage, search.tree.base_score, least) for one in outside)
        columns.append(Column(step, cells, losers))
    return SearchGrid(run, search, tuple(columns), _path(search, by_lineage))


def gain(candidate: TreeCandidate, by_lineage: Mapping[str, TreeCandidate], base_score: float | None) -> float | None:
    """The candidate's gain; None if its score or the one before is missing."""
    before = base_score if candidate.parent is None else by_lineage[candidate.parent].score
    return gain_over(candidate.score, before)


def _loser(
    one: TreeCandidate, by_lineage: Mapping[str, TreeCandidate], base_score: float | None, least: float | None
) -> Loser:
    behind = None if least is None or one.score is None or one.score >= least else least - one.score
    return Loser(one, gain(one, by_lineage, base_score), _reason(one, by_lineage), behind)


def _reason(one: TreeCandidate, by_lineage: Mapping[str, TreeCandidate]) -> str:
    """Why the candidate is outside the beam, in a few words."""
    if one.duplicate_of is not None and one.duplicate_of in by_lineage:
        original = by_lineage[one.duplicate_of]
        return f"repeats {original.teacher}/{original.sample}"
    if one.invalid_reason is not None:
        return one.invalid_reason
    if not one.is_valid:
        return one.state
    return "not decided" if one.rank is None else f"rank {one.rank}"


def _path(search: Search, by_lineage: Mapping[str, TreeCandidate]) -> tuple[Cell, ...]:
    winning = [one for one in search.tree.candidates if one.winning]
    steps = sorted(winning, key=lambda one: one.depth)
    ranks = {(slot.step, slot.lineage): slot.rank for slot in search.beams}
    return tuple(
        Cell(
            rank=ranks.get((one.step, one.lineage), 0),
            candidate=one,
            gain=gain(one, by_lineage, search.tree.base_score),
            carried=False,
            finish=one.finish,
        )
        for one in steps
    )
