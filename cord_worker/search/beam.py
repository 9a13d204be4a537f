"""Chooses the beam: the B best over the whole pool
(docs/what-is-computed.md#3-choose-the-beam, #finished-trajectories, #winner)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from cord_worker.search.diversity import diverse_order
from cord_worker.search.seeds import random_merit
from cord_worker.search.types import (
    Beam,
    Candidate,
    Criterion,
    Finish,
    FinishedPolicy,
    InvalidReason,
    SearchError,
    SearchSettings,
    SeedScope,
    Trajectory,
)
from cord_worker.search.validity import duplicates

RankKey = tuple[float, int, int, int, int]

_LIVE_REASONS = frozenset({"step", "length"})
_CLOSING_REASONS = {"think_end": Finish.THINK_END, "eos": Finish.EOS}


@dataclass(frozen=True, slots=True)
class Selection:
    """The result of one selection: the ids of all valid candidates, best first; the next beam; and the reasons why the
    other candidates are invalid, duplicates included."""

    ranking: tuple[int, ...]
    beam: Beam
    invalid: dict[int, InvalidReason]


def select(
    candidates: Iterable[Candidate],
    finished: Iterable[Trajectory],
    settings: SearchSettings,
    scope: SeedScope,
    *,
    is_last: bool = False,
) -> Selection:
    """The best `beam_width` of the pool: one step's valid candidates and the finished trajectories of the beam, by the
    policy `settings.finished`. If the step `is_last`, the budget allows no further one, so its candidates are finished.

    The order of the inputs makes no difference. Raises SearchError if a valid candidate lacks text, score, token count
    or finish reason, or if two members have the same `rank_key`.
    """

    def key(trajectory: Trajectory) -> RankKey:
        return rank_key(trajectory, settings, scope)

    candidates = tuple(candidates)
    invalid = invalid_candidates(candidates)
    new = sorted(
        (
            Trajectory.of(candidate, finish_of(candidate, settings, is_last=is_last))
            for candidate in candidates
            if candidate.id not in invalid
        ),
        key=key,
    )
    pool = sorted([*new, *finished], key=key)
    _check_scores(pool)
    _check_distinct(pool, key)
    texts = {candidate.id: candidate.text or "" for candidate in candidates if candidate.id not in invalid}
    order = diverse_order(pool, texts, settings, lambda trajectory: rounded_merit(trajectory, settings, scope))
    kept = _next_beam(order, [trajectory for trajectory in order if trajectory.candidate_id in texts], settings)
    return Selection(
        ranking=tuple(trajectory.candidate_id for trajectory in new),
        beam=tuple(sorted(kept, key=key)),
        invalid=invalid,
    )


def rank_all(
    candidates: Sequence[Candidate], settings: SearchSettings, scope: SeedScope, *, is_last: bool = False
) -> Selection:
    """Like `select`, but with a slot for every valid candidate: the beam is the whole ranking."""
    return select(candidates, (), replace(settings, beam_width=len(candidates)), scope, is_last=is_last)


def _next_beam(pool: Sequence[Trajectory], new: Sequence[Trajectory], settings: SearchSettings) -> Beam:
    """The next beam, chosen from `pool`; `new` are its members that were not in the previous beam. Both are in the
    order in which slots are filled. If the policy ends the search, only finished trajectories are returned."""
    width = settings.beam_width
    if settings.finished == FinishedPolicy.RESERVE:
        lost = {trajectory.candidate_id for trajectory in new[_prefix_length(new, width) :]}
        kept = [trajectory for trajectory in pool if trajectory.candidate_id not in lost]
        finished = [trajectory for trajectory in kept if trajectory.finish is not None]
        return tuple(finished[:width] if len(finished) >= width else kept)
    kept = list(pool[:width])
    finished = [trajectory for trajectory in kept if trajectory.finish is not None]
    return tuple(finished if finished and settings.finished == FinishedPolicy.FIRST else kept)


def _prefix_length(new: Sequence[Trajectory], width: int) -> int:
    """Length of the prefix of `new` that holds `width` live trajectories; finished ones take no slot."""
    live = [index for index, trajectory in enumerate(new) if trajectory.finish is None]
    return live[width - 1] + 1 if len(live) >= width else len(new)


def merit(trajectory: Trajectory, settings: SearchSettings, scope: SeedScope) -> float:
    """The number by which `settings.selection` compares trajectories; higher is better.

    With a length normalisation a > 0 the merit of a score S is `S ** (1 / steps ** a)`, in (0, 1] like the score: this
    ranks by `log S / steps ** a`. The stored score is unchanged.

    Raises SearchError if the merit needs a score and there is none, or a judgment and there is none in [0, 1].
    """
    if settings.selection == Criterion.MAX_LENGTH:
        return float(trajectory.thinking_tokens)
    if settings.selection == Criterion.RANDOM:
        return random_merit(scope.run_seed, scope.problem_key, trajectory.lineage)
    if settings.selection.is_judged:
        return _judgment(trajectory)
    if trajectory.score is None:
        raise SearchError(f"candidate {trajectory.candidate_id} has no score to be ranked by: score it first")
    if settings.length_normalisation:
        return float(trajectory.score ** (trajectory.steps**-settings.length_normalisation))
    return trajectory.score


def rounded_merit(trajectory: Trajectory, settings: SearchSettings, scope: SeedScope) -> float:
    """The number by which a trajectory is ranked: its merit, rounded to a multiple of `score_resolution` if that is
    set. Merits that round to the same multiple are ties. Every merit rounds to exactly one multiple, so ties are
    transitive and the order does not depend on which trajectories are compared. Raises SearchError as `merit` does.
    """
    value = merit(trajectory, settings, scope)
    if settings.score_resolution and settings.selection == Criterion.PREDICTIVE_PERPLEXITY:
        return round(value / settings.score_resolution) * settings.score_resolution
    return value


def rank_key(trajectory: Trajectory, settings: SearchSettings, scope: SeedScope) -> RankKey:
    """Sorts best first: rounded merit (such as the score), then fewer steps, parent rank, teacher order, sample index.

    No two members of a pool share a key: members of one step differ in (parent rank, teacher, sample), members of
    different steps in the number of steps. So neither the order of arrival nor a database id ever decides.
    """
    return (
        -rounded_merit(trajectory, settings, scope),
        trajectory.steps,
        trajectory.parent_rank,
        trajectory.teacher,
        trajectory.sample,
    )


def winner(beam: Beam, settings: SearchSettings, scope: SeedScope) -> Trajectory:
    """The trajectory that wins the search: the first by `rank_key`. Raises SearchError on an empty beam."""
    if not beam:
        raise SearchError("an empty beam has no winner: record the problem as failed instead")
    return min(beam, key=lambda trajectory: rank_key(trajectory, settings, scope))


def invalid_candidates(candidates: Iterable[Candidate]) -> dict[int, InvalidReason]:
    """Ids and reasons of the candidates that may not enter a beam: those already marked, and duplicates of a
    sibling."""
    pool = tuple(candidates)
    return marked_invalid(pool) | dict.fromkeys(duplicates(pool), InvalidReason.DUPLICATE)


def marked_invalid(candidates: Iterable[Candidate]) -> dict[int, InvalidReason]:
    """Ids and reasons of the candidates that were marked invalid when they were proposed or scored."""
    return {
        candidate.id: _known_reason(candidate, candidate.invalid_reason)
        for candidate in candidates
        if candidate.invalid_reason is not None
    }


def finished_of(beam: Beam, candidates: Iterable[Candidate]) -> Beam:
    """The finished members of `beam` after a step whose `candidates` extended the live ones: those that were finished
    before, and those whose extensions fit no model's context (Finish.CONTEXT)."""
    full = without_room(candidates)
    ended = (
        replace(trajectory, finish=Finish.CONTEXT) if trajectory.candidate_id in full else trajectory
        for trajectory in beam
    )
    return tuple(trajectory for trajectory in ended if trajectory.finish is not None)


def without_room(candidates: Iterable[Candidate]) -> set[int | None]:
    """The parents whose candidates were all too long for a model."""
    fits: dict[int | None, bool] = {}
    for candidate in candidates:
        too_long = candidate.invalid_reason == InvalidReason.TOO_LONG
        fits[candidate.parent_id] = fits.get(candidate.parent_id, False) or not too_long
    return {parent for parent, has_room in fits.items() if not has_room}


def no_room_to_write(candidates: Iterable[Candidate]) -> bool:
    """True if no teacher could begin a candidate because its context is full; another seed would not help."""
    return all(
        candidate.invalid_reason == InvalidReason.TOO_LONG and candidate.finish_reason is None
        for candidate in candidates
    )


def finish_of(candidate: Candidate, settings: SearchSettings, *, is_last: bool = False) -> Finish | None:
    """Why the thinking of a valid candidate ends with this step; None if it continues. It always ends if the step
    `is_last`: the last one that the problem's budget allows."""
    reason = candidate.finish_reason
    if reason in _CLOSING_REASONS:
        return _CLOSING_REASONS[reason]
    if reason not in _LIVE_REASONS:
        raise SearchError(
            f"candidate {candidate.id} (step {candidate.step}) has the finish reason {reason!r}: a valid candidate "
            f"has one of {', '.join(sorted(_LIVE_REASONS | _CLOSING_REASONS.keys()))}"
        )
    if candidate.whole:
        return Finish.THINKING_BUDGET
    if candidate.thinking_tokens is not None and candidate.thinking_tokens >= settings.thinking_tokens:
        return Finish.THINKING_BUDGET
    if candidate.depth >= settings.max_steps:
        return Finish.MAX_STEPS
    return Finish.TOTAL_TOKENS if is_last else None


def _known_reason(candidate: Candidate, reason: str) -> InvalidReason:
    try:
        return InvalidReason(reason)
    except ValueError:
        raise SearchError(
            f"candidate {candidate.id} (step {candidate.step}) is marked invalid as {reason!r}: known reasons are "
            f"{', '.join(InvalidReason)}"
        ) from None


def _judgment(trajectory: Trajectory) -> float:
    if trajectory.judgment is None or not 0.0 <= trajectory.judgment <= 1.0:
        raise SearchError(
            f"candidate {trajectory.candidate_id} has the judgment {trajectory.judgment}: where judgments select, each "
            "candidate has one in [0, 1]; mark it as unjudgeable"
        )
    return trajectory.judgment


def _check_scores(pool: list[Trajectory]) -> None:
    for trajectory in pool:
        if trajectory.score is None or not 0.0 < trajectory.score <= 1.0:
            raise SearchError(
                f"candidate {trajectory.candidate_id} has the score {trajectory.score}: a score is in (0, 1]; mark "
                "the candidate as unscorable"
            )


def _check_distinct(pool: list[Trajectory], key: Callable[[Trajectory], RankKey]) -> None:
    first_with: dict[RankKey, Trajectory] = {}
    for trajectory in pool:
        other = first_with.setdefault(key(trajectory), trajectory)
        if other is not trajectory:
            raise SearchError(
                f"candidates {other.candidate_id} and {trajectory.candidate_id} have the same place (step "
                f"{trajectory.steps}, parent rank {trajectory.parent_rank}, teacher {trajectory.teacher}, sample "
                f"{trajectory.sample}): give each candidate of a step once, and of one round only"
            )
