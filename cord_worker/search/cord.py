"""CoRD: collaborative step-wise multi-teacher decoding
(docs/what-is-computed.md#one-decoding-step).

    beam = one empty trajectory
    until all kept trajectories are finished:
        every teacher proposes the next step of every live trajectory      `initial`, `Expand`
        the prover scores every candidate
        the B best of candidates and finished trajectories are the beam    `decide`

A trajectory also counts as finished if no model has room for its next step. Once the problem's token budget is spent,
every trajectory does.

`decide` is one iteration of that loop, as a function of stored rows.
"""

from __future__ import annotations

from collections.abc import Sequence

from cord_worker.search.beam import finished_of, select, winner
from cord_worker.search.decision import Decision, EndSearch, Expand, Fail, Resample
from cord_worker.search.expanding import (
    EMPTY_TRAJECTORY,
    check_complete,
    expansions,
    failure_reason,
    live_parents,
    may_resample,
)
from cord_worker.search.types import Beam, Candidate, Expansion, SearchSettings, SeedScope

READS_EARLIER = False


def initial(settings: SearchSettings, scope: SeedScope, teachers: Sequence[str]) -> Expand:
    """Step 1: every teacher extends the empty trajectory."""
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
    """Continues with the B best over the whole pool; see `decision.Pipeline.decide`."""
    check_complete(_expansions(settings, scope, teachers, step=step, round=round, beam=beam), candidates)
    finished = finished_of(beam, candidates)
    is_last = settings.is_budget_spent(spent)
    selection = select(candidates, finished, settings, scope, is_last=is_last)

    if not selection.ranking:
        if may_resample(settings, round, candidates, is_last=is_last):
            again = _expansions(settings, scope, teachers, step=step, round=round + 1, beam=beam)
            return Resample(round=round + 1, invalid=selection.invalid, expansions=again)
        if not finished:
            return Fail(
                invalid=selection.invalid,
                reason=failure_reason(candidates, step, round, selection.invalid, is_budget_spent=is_last),
            )

    if all(trajectory.finish is not None for trajectory in selection.beam):
        return EndSearch(
            beam=selection.beam,
            ranking=selection.ranking,
            invalid=selection.invalid,
            winner=winner(selection.beam, settings, scope),
        )
    return Expand(
        step=step + 1,
        round=0,
        beam=selection.beam,
        ranking=selection.ranking,
        invalid=selection.invalid,
        expansions=_expansions(settings, scope, teachers, step=step + 1, round=0, beam=selection.beam),
    )


def _expansions(
    settings: SearchSettings, scope: SeedScope, teachers: Sequence[str], *, step: int, round: int, beam: Beam
) -> tuple[Expansion, ...]:
    parents = live_parents(beam) if step > 1 else [EMPTY_TRAJECTORY]
    return expansions(
        settings, scope, teachers, step=step, round=round, parents=parents, samples=settings.samples_per_teacher
    )
