"""Sampling, for evaluations: every teacher writes `trajectories` whole trajectories, and each gets a final answer.

Samples are independent, so equal texts are not duplicates, and there is no winner. A sample that the engine refused
stays invalid and is not repeated, because another sample in its place would bias the evaluation.
"""

from __future__ import annotations

from collections.abc import Sequence

from cord_worker.search.beam import finish_of, marked_invalid
from cord_worker.search.decision import Decision, EndSearch, Expand, Fail
from cord_worker.search.expanding import EMPTY_TRAJECTORY, check_complete, expansions, failure_reason
from cord_worker.search.types import Beam, Candidate, Expansion, SearchError, SearchSettings, SeedScope, Trajectory

READS_EARLIER = False


def initial(settings: SearchSettings, scope: SeedScope, teachers: Sequence[str]) -> Expand:
    """Every teacher writes its samples, each as one candidate."""
    return Expand.first(_expansions(settings, scope, teachers))


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
    """Ends the search with all valid samples, in the order of teacher and sample; see `decision.Pipeline.decide`."""
    del spent  # everything is proposed at once
    if step != 1 or round or beam:
        raise SearchError(
            f"sampling has one step of one round and no beam before it; got step {step}, round {round} and a beam of "
            f"{len(beam)}"
        )
    check_complete(_expansions(settings, scope, teachers), candidates)
    invalid = marked_invalid(candidates)
    valid = sorted(
        (candidate for candidate in candidates if candidate.id not in invalid),
        key=lambda candidate: (candidate.teacher, candidate.sample),
    )
    if not valid:
        return Fail(invalid=invalid, reason=failure_reason(candidates, step, round, invalid))
    return EndSearch(
        beam=tuple(Trajectory.unscored(candidate, finish_of(candidate, settings)) for candidate in valid),
        ranking=tuple(candidate.id for candidate in valid),
        invalid=invalid,
        winner=None,
    )


def _expansions(settings: SearchSettings, scope: SeedScope, teachers: Sequence[str]) -> tuple[Expansion, ...]:
    return expansions(
        settings,
        scope,
        teachers,
        step=1,
        round=0,
        parents=[EMPTY_TRAJECTORY],
        samples=settings.trajectories,
        whole=True,
    )
