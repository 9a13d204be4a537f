"""CoRD: collaborative step-wise multi-teacher decoding (PAPER.md, One decoding step).

    beam = one empty trajectory
    until all kept trajectories are finished:
        every teacher proposes the next step of every live trajectory      `initial`, `Expand`
        the prover scores every candidate
        the B best of candidates and finished trajectories are the beam    `decide`

`decide` is one turn of that loop, as a function of stored rows. With `beam_width = 1` it is the greedy baseline.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from cord_worker.search.beam import select, winner
from cord_worker.search.seeds import candidate_seed, lineage
from cord_worker.search.types import (
    Beam,
    Candidate,
    Expansion,
    InvalidReason,
    SearchError,
    SearchSettings,
    SeedScope,
    Trajectory,
)


@dataclass(frozen=True, slots=True)
class Expand:
    """Go on: propose `expansions`, the candidates of `step`, from `beam`. `ranking` and `invalid` are about the
    candidates that the beam was chosen from."""

    step: int
    round: int
    beam: Beam
    ranking: tuple[int, ...]
    invalid: dict[int, InvalidReason]
    expansions: tuple[Expansion, ...]


@dataclass(frozen=True, slots=True)
class Retry:
    """Every candidate is invalid: propose the same step again, in a new `round`, with new seeds."""

    round: int
    invalid: dict[int, InvalidReason]
    expansions: tuple[Expansion, ...]


@dataclass(frozen=True, slots=True)
class Finish:
    """The search is over: every trajectory of `beam` is finished, and `winner` is the best."""

    beam: Beam
    ranking: tuple[int, ...]
    invalid: dict[int, InvalidReason]
    winner: Trajectory


@dataclass(frozen=True, slots=True)
class Fail:
    """The search is over without a trajectory; `reason` says so in one sentence."""

    invalid: dict[int, InvalidReason]
    reason: str


Decision = Expand | Retry | Finish | Fail


def initial(settings: SearchSettings, scope: SeedScope, teachers: Sequence[str]) -> Expand:
    """Step 1: every teacher (by name, in the configuration's order) extends the empty trajectory."""
    return Expand(
        step=1,
        round=0,
        beam=(),
        ranking=(),
        invalid={},
        expansions=_expansions(settings, scope, teachers, step=1, round=0, beam=()),
    )


def decide(
    settings: SearchSettings,
    scope: SeedScope,
    teachers: Sequence[str],
    *,
    step: int,
    round: int,
    beam: Beam,
    candidates: Sequence[Candidate],
) -> Decision:
    """What follows from the `candidates` of one step and round, which were expanded from `beam` (empty at step 1).

    Every candidate must be scored or marked invalid. Raises SearchError where the candidates are not exactly the
    expansions of `beam`, or where one of them is neither.
    """
    _check_complete(_expansions(settings, scope, teachers, step=step, round=round, beam=beam), candidates)
    finished = tuple(trajectory for trajectory in beam if trajectory.finish is not None)
    selection = select(candidates, finished, settings)

    if not selection.ranking:
        if round + 1 < settings.max_rounds:
            again = _expansions(settings, scope, teachers, step=step, round=round + 1, beam=beam)
            return Retry(round=round + 1, invalid=selection.invalid, expansions=again)
        if not finished:
            return Fail(invalid=selection.invalid, reason=_failure(step, round, selection.invalid))

    if all(trajectory.finish is not None for trajectory in selection.beam):
        return Finish(
            beam=selection.beam,
            ranking=selection.ranking,
            invalid=selection.invalid,
            winner=winner(selection.beam),
        )
    return Expand(
        step=step + 1,
        round=0,
        beam=selection.beam,
        ranking=selection.ranking,
        invalid=selection.invalid,
        expansions=_expansions(settings, scope, teachers, step=step + 1, round=0, beam=selection.beam),
    )


@dataclass(frozen=True, slots=True)
class _Parent:
    """What an expansion takes from the trajectory that it extends."""

    candidate_id: int | None
    rank: int
    lineage: str
    thinking_tokens: int


_EMPTY_TRAJECTORY = _Parent(candidate_id=None, rank=0, lineage="", thinking_tokens=0)


def _expansions(
    settings: SearchSettings, scope: SeedScope, teachers: Sequence[str], *, step: int, round: int, beam: Beam
) -> tuple[Expansion, ...]:
    """One expansion for every live trajectory, teacher and sample, in that order."""
    parents = [_EMPTY_TRAJECTORY]
    if step > 1:
        parents = [
            _Parent(trajectory.candidate_id, rank, trajectory.lineage, trajectory.thinking_tokens)
            for rank, trajectory in enumerate(beam)
            if trajectory.finish is None
        ]
    return tuple(
        Expansion(
            parent_id=parent.candidate_id,
            parent_rank=parent.rank,
            teacher=teacher,
            sample=sample,
            step=step,
            round=round,
            lineage=lineage(parent.lineage, step, round, name, sample),
            seed=candidate_seed(scope.run_seed, scope.problem_key, step, parent.lineage, name, sample, round),
            max_tokens=max(1, min(settings.step_tokens, settings.thinking_tokens - parent.thinking_tokens)),
        )
        for parent in parents
        for teacher, name in enumerate(teachers)
        for sample in range(settings.samples_per_teacher)
    )


def _check_complete(expansions: tuple[Expansion, ...], candidates: Sequence[Candidate]) -> None:
    """A beam chosen from a part of its candidates, or from another step's, would be wrong without a trace."""
    if not expansions:
        raise SearchError(
            "there is nothing to decide: no trajectory of the beam is live, or there is no teacher; a search whose "
            "beam is finished has ended"
        )
    expected = Counter(
        (item.step, item.round, item.parent_id, item.parent_rank, item.teacher, item.sample, item.lineage)
        for item in expansions
    )
    given = Counter(
        (item.step, item.round, item.parent_id, item.parent_rank, item.teacher, item.sample, item.lineage)
        for item in candidates
    )
    for label, difference in (("missing", expected - given), ("not expected", given - expected)):
        if difference:
            step, round, parent_id, parent_rank, teacher, sample, _ = next(iter(difference))
            raise SearchError(
                f"{difference.total()} of the candidates to decide on are {label}, one of them: step {step}, round "
                f"{round}, parent {parent_id} (rank {parent_rank}), teacher {teacher}, sample {sample}. Give exactly "
                "the candidates that the last decision expanded"
            )


def _failure(step: int, round: int, invalid: dict[int, InvalidReason]) -> str:
    counts = Counter(invalid.values())
    listed = ", ".join(f"{counts[reason]} {reason}" for reason in InvalidReason if counts[reason])
    return (
        f"all {len(invalid)} candidates of step {step} are invalid in the last of {round + 1} rounds ({listed}), and "
        "no finished trajectory holds a slot"
    )
