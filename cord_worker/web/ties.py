"""Ties at the run's score resolution: why a candidate ranks behind one with a lower score, or before a higher one."""

from __future__ import annotations

from collections.abc import Mapping

from cord_worker.config import RunConfig
from cord_worker.errors import ConfigError
from cord_worker.operations.search_grid import Column, SearchGrid
from cord_worker.search.beam import RankKey, rank_key, rounded_merit
from cord_worker.search.types import Criterion, SearchSettings, SeedScope, Trajectory
from cord_worker.store.reports.search_trees import TreeCandidate
from cord_worker.store.runs.runs import RunRow


def tie_sentences(run: RunRow, grid: SearchGrid) -> dict[str, str]:
    """By lineage, for candidates that a tie put behind a lower score or before a higher one: which tie, and what
    decided it. Empty if the run has no score resolution, or if diversity also decides who enters the beam."""
    settings = _settings(run)
    if settings is None:
        return {}
    order = _Order(settings, SeedScope(run.seed, grid.search.tree.key), grid.search.teachers)
    found: dict[str, str] = {}
    for column in grid.columns:
        found.update(_of_column(column, order))
    return found


def _settings(run: RunRow) -> SearchSettings | None:
    try:
        config = RunConfig.from_stored(run.config)
    except ConfigError:
        return None
    settings = SearchSettings.of(config.search, config.integration)
    decides = settings.pipeline == "cord" and settings.selection == Criterion.PREDICTIVE_PERPLEXITY
    is_diverse = settings.diversity_teacher > 0 or settings.diversity_text > 0
    return settings if decides and settings.score_resolution and not is_diverse else None


class _Order:
    """The order in which `select` ranks candidates."""

    def __init__(self, settings: SearchSettings, scope: SeedScope, teachers: tuple[str, ...]) -> None:
        self._settings, self._scope = settings, scope
        self._teachers: Mapping[str, int] = {name: place for place, name in enumerate(teachers)}

    def is_tie(self, first: TreeCandidate, second: TreeCandidate) -> bool:
        """Whether the first ranks before the second by the order of ties, though its score is lower."""
        if first.score is None or second.score is None or first.score >= second.score:
            return False
        one, other = self._trajectory(first), self._trajectory(second)
        equal = rounded_merit(one, self._settings, self._scope) == rounded_merit(other, self._settings, self._scope)
        return equal and self._key(first) < self._key(second)

    def what_decided(self, first: TreeCandidate, second: TreeCandidate) -> str:
        """Why the first of two tied candidates ranks before the second."""
        if first.depth != second.depth:
            return "fewer steps come first"
        if first.slot != second.slot:
            return f"a step after slot {first.slot} comes before one after slot {second.slot}"
        if first.teacher != second.teacher:
            return f"{first.teacher} is named before {second.teacher}"
        return f"sample {first.sample} comes before sample {second.sample}"

    def resolution(self) -> str:
        """As text."""
        return f"{self._settings.score_resolution:g}"

    def _key(self, one: TreeCandidate) -> RankKey:
        return rank_key(self._trajectory(one), self._settings, self._scope)

    def _trajectory(self, one: TreeCandidate) -> Trajectory:
        return Trajectory(
            candidate_id=0,
            steps=one.depth,
            score=one.score,
            finish=None,
            parent_rank=one.slot,
            teacher=self._teachers[one.teacher],
            sample=one.sample,
            thinking_tokens=one.thinking_tokens or 0,
            lineage=one.lineage,
        )


def _of_column(column: Column, order: _Order) -> dict[str, str]:
    """Compares each loser with the lowest slot, and each slot with the ones below it."""
    found = {}
    slots = sorted(column.cells, key=lambda cell: cell.rank)
    if not slots:
        return {}
    last = slots[-1].candidate
    for loser in column.losers:
        one = loser.candidate
        if one.rank is not None and order.is_tie(last, one):
            found[one.lineage] = (
                f"{one.score:.3f} and the {last.score:.3f} of slot {slots[-1].rank} are a tie at resolution "
                f"{order.resolution()}: {order.what_decided(last, one)}"
            )
    for place, cell in enumerate(slots):
        below = [other for other in slots[place + 1 :] if order.is_tie(cell.candidate, other.candidate)]
        if below and not cell.carried:
            other = max(below, key=lambda one: one.candidate.score or 0.0)
            found[cell.candidate.lineage] = (
                f"{cell.candidate.score:.3f} and the {other.candidate.score:.3f} of slot {other.rank} are a tie at "
                f"resolution {order.resolution()}: {order.what_decided(cell.candidate, other.candidate)}"
            )
    return found
