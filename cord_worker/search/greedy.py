"""Greedy decoding, repeated (docs/what-is-computed.md#greedy): `trajectories` independent chains, each with a beam of
one.

Each chain keeps only the best step of its own candidates. A chain whose candidates are all invalid ends, unless no
chain has a valid one: then the step is resampled. The best of the finished chains is the winner.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from cord_worker.search.beam import RankKey, finished_of, rank_all, rank_key, winner
from cord_worker.search.decision import Decision, EndSearch, Expand, Fail, Resample
from cord_worker.search.expanding import (
    Parent,
    check_complete,
    expansions,
    failure_reason,
    live_parents,
    may_resample,
)
from cord_worker.search.types import (
    Beam,
    Candidate,
    Expansion,
    InvalidReason,
    SearchSettings,
    SeedScope,
    Trajectory,
)

READS_EARLIER = False


def initial(settings: SearchSettings, scope: SeedScope, teachers: Sequence[str]) -> Expand:
    """Step 1: every teacher begins every chain."""
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
    """Continues every chain with its best candidate; see `decision.Pipeline.decide`."""
    check_complete(_expansions(settings, scope, teachers, step=step, round=round, beam=beam), candidates)
    kept: list[Trajectory] = list(finished_of(beam, candidates))
    valid: list[Trajectory] = []
    invalid: dict[int, InvalidReason] = {}
    is_last = settings.is_budget_spent(spent)
    for chain in _chains(candidates):
        selection = rank_all(chain, settings, scope, is_last=is_last)
        invalid |= selection.invalid
        valid += selection.beam
        kept += selection.beam[:1]

    if not valid:
        if may_resample(settings, round, candidates, is_last=is_last):
            again = _expansions(settings, scope, teachers, step=step, round=round + 1, beam=beam)
            return Resample(round=round + 1, invalid=invalid, expansions=again)
        if not kept:
            return Fail(
                invalid=invalid, reason=failure_reason(candidates, step, round, invalid, is_budget_spent=is_last)
            )

    def key(trajectory: Trajectory) -> RankKey:
        return rank_key(trajectory, settings, scope)

    ranking = tuple(trajectory.candidate_id for trajectory in sorted(valid, key=key))
    chosen = tuple(sorted(kept, key=key))
    if all(trajectory.finish is not None for trajectory in chosen):
        return EndSearch(beam=chosen, ranking=ranking, invalid=invalid, winner=winner(chosen, settings, scope))
    return Expand(
        step=step + 1,
        round=0,
        beam=chosen,
        ranking=ranking,
        invalid=invalid,
        expansions=_expansions(settings, scope, teachers, step=step + 1, round=0, beam=chosen),
    )


def _chains(candidates: Sequence[Candidate]) -> list[list[Candidate]]:
    """Candidates grouped by the chain that they extend; a chain is identified by its rank in the previous beam."""
    chains: dict[int, list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        chains[candidate.parent_rank].append(candidate)
    return [chains[rank] for rank in sorted(chains)]


def _expansions(
    settings: SearchSettings, scope: SeedScope, teachers: Sequence[str], *, step: int, round: int, beam: Beam
) -> tuple[Expansion, ...]:
    parents = live_parents(beam)
    if step == 1:
        parents = [
            Parent(candidate_id=None, rank=chain, lineage=root_lineage(chain), thinking_tokens=0, steps=0)
            for chain in range(settings.trajectories)
        ]
    return expansions(
        settings, scope, teachers, step=step, round=round, parents=parents, samples=settings.samples_per_teacher
    )


def root_lineage(chain: int) -> str:
    """The lineage before the first step of a chain; it differs from chain to chain."""
    return f"chain {chain}"
