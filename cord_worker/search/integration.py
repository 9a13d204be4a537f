"""Integration (docs/what-is-computed.md#integration): an integrator merges whole trajectories of the teachers into
one, which wins.

    every teacher writes `trajectories` whole trajectories, as in curation      step 1
    the integrator merges all valid ones                                        step 2

The integrator acts as one more teacher after the others, and its text is scored like theirs. Its trajectory wins
whatever its score; the merged ones lose their slots and stay on record. A reply that cannot be parsed is an invalid
candidate: the step is resampled in new rounds, and after the last one the problem fails.
"""

from __future__ import annotations

from collections.abc import Sequence

from cord_worker.search.beam import rank_all
from cord_worker.search.decision import Decision, EndSearch, Expand, Fail, Resample
from cord_worker.search.expanding import EMPTY_TRAJECTORY, check_complete, expansions, failure_reason, may_resample
from cord_worker.search.seeds import candidate_seed, lineage
from cord_worker.search.types import Beam, Candidate, Expansion, SearchError, SearchSettings, SeedScope

READS_EARLIER = False
INTEGRATOR = "integrator"
"""The integrator's name in seeds and lineages, in place of a teacher's name."""


def initial(settings: SearchSettings, scope: SeedScope, teachers: Sequence[str]) -> Expand:
    """Every teacher writes its trajectories, each as one candidate."""
    return Expand.first(_expansions(settings, scope, teachers, step=1, round=0, beam=()))


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
    """Plans the merge of the valid trajectories, or ends the search after the merge; see `decision.Pipeline.decide`."""
    del spent  # all trajectories are proposed at once
    if step not in (1, 2):
        raise SearchError(f"integration has two steps; got step {step}")
    check_complete(_expansions(settings, scope, teachers, step=step, round=round, beam=beam), candidates)
    selection = rank_all(candidates, settings, scope)
    if not selection.ranking:
        if may_resample(settings, round, candidates):
            again = _expansions(settings, scope, teachers, step=step, round=round + 1, beam=beam)
            return Resample(round=round + 1, invalid=selection.invalid, expansions=again)
        if step == 1:
            reason = failure_reason(candidates, step, round, selection.invalid)
        else:
            (invalid_reason,) = selection.invalid.values()
            reason = f"what the integrator wrote is invalid ({invalid_reason}) in the last of {round + 1} rounds"
        return Fail(invalid=selection.invalid, reason=reason)
    if step == 1:
        return Expand(
            step=2,
            round=0,
            beam=selection.beam,
            ranking=selection.ranking,
            invalid=selection.invalid,
            expansions=_expansions(settings, scope, teachers, step=2, round=0, beam=selection.beam),
        )
    return EndSearch(
        beam=selection.beam,
        ranking=selection.ranking,
        invalid=selection.invalid,
        winner=selection.beam[0],
    )


def _expansions(
    settings: SearchSettings, scope: SeedScope, teachers: Sequence[str], *, step: int, round: int, beam: Beam
) -> tuple[Expansion, ...]:
    if step == 2:
        return (_merge(settings, scope, len(teachers), round, beam),)
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


def _merge(settings: SearchSettings, scope: SeedScope, integrator: int, round: int, beam: Beam) -> Expansion:
    """The one expansion of step 2; `integrator` is the number after those of the teachers."""
    return Expansion(
        parent_id=None,
        parent_rank=0,
        teacher=integrator,
        sample=0,
        step=2,
        round=round,
        lineage=lineage("", 2, round, INTEGRATOR, 0),
        seed=candidate_seed(scope.run_seed, scope.problem_key, 2, "", INTEGRATOR, 0, round),
        max_tokens=settings.integration_tokens,
        depth=1,
        whole=True,
        sources=tuple(trajectory.candidate_id for trajectory in beam),
    )
