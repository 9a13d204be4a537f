"""Plans the next proposals: an expansion for every live trajectory, teacher and sample."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cord_worker.search.beam import no_room_to_write
from cord_worker.search.seeds import candidate_seed, lineage
from cord_worker.search.types import (
    Beam,
    Candidate,
    Expansion,
    InvalidReason,
    SearchError,
    SearchSettings,
    SeedScope,
)


@dataclass(frozen=True, slots=True)
class Parent:
    """The fields that an expansion takes from the trajectory that it extends."""

    candidate_id: int | None
    rank: int
    lineage: str
    thinking_tokens: int
    steps: int


EMPTY_TRAJECTORY = Parent(candidate_id=None, rank=0, lineage="", thinking_tokens=0, steps=0)


def live_parents(beam: Beam) -> list[Parent]:
    """The trajectories of `beam` that are extended, in rank order."""
    return [
        Parent(trajectory.candidate_id, rank, trajectory.lineage, trajectory.thinking_tokens, trajectory.steps)
        for rank, trajectory in enumerate(beam)
        if trajectory.finish is None
    ]


def expansions(
    settings: SearchSettings,
    scope: SeedScope,
    teachers: Sequence[str],
    *,
    step: int,
    round: int,
    parents: Iterable[Parent],
    samples: int,
    whole: bool = False,
) -> tuple[Expansion, ...]:
    """`samples` expansions of every parent by every teacher, ordered by parent, teacher and sample. Each is one step,
    or the `whole` rest of the trajectory."""
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
            max_tokens=token_cap(settings, parent.thinking_tokens, whole=whole),
            depth=parent.steps + 1,
            whole=whole,
        )
        for parent in parents
        for teacher, name in enumerate(teachers)
        for sample in range(samples)
    )


def token_cap(settings: SearchSettings, spent: int, *, whole: bool) -> int:
    """Maximum number of tokens with which a trajectory of `spent` thinking tokens is extended."""
    left = settings.thinking_tokens - spent
    return max(1, left if whole else min(settings.step_tokens, left))


def check_complete(expected_expansions: tuple[Expansion, ...], candidates: Sequence[Candidate]) -> None:
    """Checks that exactly the planned candidates are given; otherwise the beam would be silently wrong.

    Raises SearchError.
    """
    if not expected_expansions:
        raise SearchError(
            "there is nothing to decide: no trajectory of the beam is live, or there is no teacher; a search whose "
            "beam is finished has ended"
        )
    expected = Counter(
        (item.step, item.round, item.parent_id, item.parent_rank, item.teacher, item.sample, item.lineage)
        for item in expected_expansions
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


def may_resample(
    settings: SearchSettings, round: int, candidates: Sequence[Candidate], *, is_last: bool = False
) -> bool:
    """True if the step, whose `candidates` are all invalid, is proposed again in another round. It is not if no
    round is left, if the problem's budget is spent (`is_last`), or if every teacher's context is full."""
    return round + 1 < settings.max_rounds and not is_last and not no_room_to_write(candidates)


_NO_ROOM = "No teacher has room for a step after the question"
_NOT_READ = "What was written does not fit the models that read it"
_OF_THE_CANDIDATES = re.compile(
    r"all \d+ candidates of step \d+ are invalid|the one candidate of step|what the integrator wrote is invalid"
)


def failure_reason(
    candidates: Sequence[Candidate],
    step: int,
    round: int,
    invalid: dict[int, InvalidReason],
    *,
    is_budget_spent: bool = False,
) -> str:
    """Why none of the `candidates` can be chosen, and what helps if all of them are too long. `is_budget_spent`: the
    problem's budget allows no further round."""
    counts = Counter(invalid.values())
    listed = ", ".join(f"{counts[reason]} {reason}" for reason in InvalidReason if counts[reason])
    which = f"all {len(invalid)} candidates" if len(invalid) != 1 else "the one candidate"
    are = "are" if len(invalid) != 1 else "is"
    rounds = f"the last of {round + 1} rounds" if round else "the only round"
    budget = ", search.total_tokens is spent" if is_budget_spent else ""
    message = (
        f"{which} of step {step} {are} invalid in {rounds} ({listed}){budget}, and no finished trajectory holds a slot"
    )
    if counts[InvalidReason.TOO_LONG] < len(invalid):
        return message
    if no_room_to_write(candidates):
        return (
            f"{message}. {_NO_ROOM}, because room for the final answer is kept: shorten the question or passage, lower "
            "search.answer_tokens, or raise max_model_len of the teachers (`cordctl validate` with --config counts it)"
        )
    size = "search.thinking_tokens" if any(candidate.whole for candidate in candidates) else "search.step_tokens"
    return (
        f"{message}. {_NOT_READ} (the prover or the judge): raise their max_model_len, lower {size}, or shorten the "
        "question or passage"
    )


def fails_again_on_retry(reason: str) -> bool:
    """True if `reason` lies in the candidates: a retry that keeps them would fail again."""
    return _OF_THE_CANDIDATES.match(reason) is not None


def fails_again_after_restart(reason: str) -> bool:
    """True if new candidates under the same settings would fail too, because the question leaves no room for any."""
    return fails_again_on_retry(reason) and _NO_ROOM in reason
