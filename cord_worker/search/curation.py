"""Curation (docs/what-is-computed.md#curation): every teacher alone writes `trajectories` whole trajectories, and the
best one wins."""

from __future__ import annotations

from collections.abc import Sequence

from cord_worker.search.beam import rank_all, winner
from cord_worker.search.decision import Decision, EndSearch, Expand, Fail, Resample
from cord_worker.search.expanding import EMPTY_TRAJECTORY, check_complete, expansions, failure_reason, may_resample
from cord_worker.search.types import Beam, Candidate, Expansion, SearchError, SearchSettings, SeedScope

READS_EARLIER = False


def initial(settings: SearchSettings, scope: SeedScope, teachers: Sequence[str]) -> Expand:
    """Every teacher writes its trajectories, each as one candidate."""
    return Expand.first(_expansions(settings, scope, teachers, round=0))


def decide(
    settings: SearchSettings,
    scope: SeedScope,
    teachers: Sequence[str],
    *,
    step: int,
    round: int,
    beam: Beam,
    candidates: Sequence[Candidate],
    spent: int,
) -> Decision:
    """Finishes and ranks all valid trajectories; see `decision.Pipeline.decide`."""
    del spent  # everything is proposed at once
    if step != 1 or beam:
        raise SearchError(f"curation has one step and no beam before it; got step {step} and a beam of {len(beam)}")
    check_complete(_expansions(settings, scope, teachers, round=round), candidates)
    selection = rank_all(candidates, settings, scope)
    if selection.ranking:
        return EndSearch(
            beam=selection.beam,
            ranking=selection.ranking,
            invalid=selection.invalid,
            winner=winner(selection.beam, settings, scope),
        )
    if may_resample(settings, round, candidates):
        again = _expansions(settings, scope, teachers, round=round + 1)
        return Resample(round=round + 1, invalid=selection.invalid, expansions=again)
    return Fail(invalid=selection.invalid, reason=failure_reason(candidates, step, round, selection.invalid))


def _expansions(
    settings: SearchSettings, scope: SeedScope, teachers: Sequence[str], *, round: int
) -> tuple[Expansion, ...]:
    return expansions(
        settings,
        scope,
        teachers,
        step=1,
        round=round,
        parents=[EMPTY_TRAJECTORY],
        samples=settings.trajectories,
        whole=True,
    )
