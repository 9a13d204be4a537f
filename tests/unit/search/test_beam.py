from __future__ import annotations

import dataclasses
import math
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cord_worker.search.beam import merit, rank_key, rounded_merit, select, winner
from cord_worker.search.types import (
    Candidate,
    Criterion,
    Finish,
    FinishedPolicy,
    InvalidReason,
    SearchError,
    Trajectory,
)
from tests.support.candidates import SCOPE
from tests.support.settings import small_search

SETTINGS = small_search(samples_per_teacher=2, max_steps=9, thinking_tokens=100, step_tokens=20)
OPTIONS: list[dict[str, object]] = [
    {"finished": FinishedPolicy.RESERVE},
    {"finished": FinishedPolicy.FIRST, "length_normalisation": 1.0},
    {"diversity_teacher": 0.3, "diversity_text": 0.5},
    {"finished": FinishedPolicy.RESERVE, "diversity_teacher": 0.1},
    {"score_resolution": 0.25},
    {"score_resolution": 0.1, "length_normalisation": 0.5, "diversity_text": 0.2},
]
STEP = 5
SCORES = st.one_of(
    st.sampled_from([0.25, 0.5, 1.0, math.nextafter(0.5, 1.0)]),
    st.floats(min_value=0.0, max_value=1.0, exclude_min=True),
)


def new(id: int, rank: int, teacher: int, sample: int, **changes: object) -> Candidate:
    candidate = Candidate(
        id=id,
        parent_id=100 + rank,
        step=STEP,
        round=0,
        teacher=teacher,
        sample=sample,
        lineage=f"new-{id}",
        text=f"text {id}",
        finish_reason="step",
        score=0.5,
        thinking_tokens=50,
        invalid_reason=None,
        parent_rank=rank,
        depth=STEP,
    )
    return dataclasses.replace(candidate, **changes)  # type: ignore[arg-type]


def held(id: int, steps: int, rank: int, teacher: int, sample: int, score: float) -> Trajectory:
    return Trajectory(id, steps, score, Finish.EOS, rank, teacher, sample, 40, f"held-{id}")


def score_of(trajectory: Trajectory) -> float:
    assert trajectory.score is not None
    return trajectory.score


@st.composite
def pools(draw: st.DrawFn) -> tuple[list[Candidate], list[Trajectory]]:
    places = list(product(range(3), range(3), range(2)))
    ids = draw(st.permutations(range(len(places))))
    candidates = [
        new(
            id,
            *place,
            text=draw(st.sampled_from(["a", "a ", "b", f"own {id}", f"own {id}"])),
            score=draw(SCORES),
            thinking_tokens=draw(st.sampled_from([1, 99, 100, 101])),
            finish_reason=draw(st.sampled_from(["step", "length", "think_end", "eos"])),
            invalid_reason=draw(st.sampled_from([None, None, None, "loop", "empty"])),
        )
        for id, place in zip(ids, draw(st.lists(st.sampled_from(places), unique=True)), strict=False)
    ]
    bit = st.integers(0, 1)
    past = draw(st.lists(st.tuples(st.integers(1, STEP - 1), bit, bit, bit), unique=True, max_size=3))
    finished = [held(1000 + index, *place, draw(SCORES)) for index, place in enumerate(past)]
    return draw(st.permutations(candidates)), finished


def reference(candidates: list[Candidate], finished: list[Trajectory], width: int) -> list[int]:
    """The beam's ids by counting, for every valid member, how many beat it; no sorting, no shared code."""
    valid = [c for c in candidates if c.invalid_reason is None]
    standing = [
        c
        for c in valid
        if not any(
            o.parent_id == c.parent_id
            and (o.text or "").split() == (c.text or "").split()
            and (o.teacher, o.sample) < (c.teacher, c.sample)
            for o in valid
        )
    ]
    members = [(c.score, c.step, c.parent_rank, c.teacher, c.sample, c.id) for c in standing]
    members += [(t.score, t.steps, t.parent_rank, t.teacher, t.sample, t.candidate_id) for t in finished]

    def beats(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
        return bool(one[0] > other[0] if one[0] != other[0] else one[1:5] < other[1:5])

    ranks = {member[5]: sum(beats(other, member) for other in members) for member in members}
    return [id for rank in range(width) for id, its_rank in ranks.items() if its_rank == rank]


@settings(deadline=None)
@given(pools(), st.integers(1, 8))
def test_the_beam_equals_a_brute_force_reference(pool: tuple[list[Candidate], list[Trajectory]], width: int) -> None:
    candidates, finished = pool
    selection = select(candidates, finished, dataclasses.replace(SETTINGS, beam_width=width), SCOPE)
    assert [member.candidate_id for member in selection.beam] == reference(candidates, finished, width)
    assert list(selection.ranking) == reference(candidates, [], 1000)
    assert set(selection.ranking) | set(selection.invalid) == {candidate.id for candidate in candidates}
    assert not set(selection.ranking) & set(selection.invalid)


@settings(deadline=None)
@given(pools(), st.integers(1, 8))
def test_reserved_slots_go_to_live_trajectories_until_enough_are_finished(
    pool: tuple[list[Candidate], list[Trajectory]], width: int
) -> None:
    candidates, finished = pool
    changed = dataclasses.replace(SETTINGS, beam_width=width, finished=FinishedPolicy.RESERVE)
    everyone = select(candidates, finished, dataclasses.replace(SETTINGS, beam_width=1000), SCOPE).beam
    beam = select(candidates, finished, changed, SCOPE).beam
    live = [member for member in everyone if member.finish is None][:width]
    done = [member for member in beam if member.finish is not None]
    if len(done) == len(beam):
        assert len(done) == width or not live
    else:
        assert [member for member in beam if member.finish is None] == live
        assert len(done) < width
        assert {member.candidate_id for member in finished} <= {member.candidate_id for member in done}


@settings(deadline=None)
@given(pools(), st.integers(1, 8))
def test_the_first_finished_trajectory_of_a_beam_leaves_only_finished_ones(
    pool: tuple[list[Candidate], list[Trajectory]], width: int
) -> None:
    candidates, finished = pool
    competing = dataclasses.replace(SETTINGS, beam_width=width)
    before = select(candidates, finished, competing, SCOPE).beam
    first = dataclasses.replace(competing, finished=FinishedPolicy.FIRST)
    done = tuple(member for member in before if member.finish is not None)
    assert select(candidates, finished, first, SCOPE).beam == (done or before)


@given(SCORES, st.integers(1, 60), st.sampled_from([0.0, 0.5, 1.0, 2.0]))
def test_length_normalisation_ranks_by_log_score_over_steps_to_a_power(score: float, steps: int, power: float) -> None:
    changed = dataclasses.replace(SETTINGS, length_normalisation=power)
    found = merit(held(1, steps, 0, 0, 0, score), changed, SCOPE)
    assert 0.0 < found <= 1.0
    assert math.log(found) == pytest.approx(math.log(score) / steps**power, rel=1e-9, abs=1e-12)
    if not power:
        assert found == score


@given(SCORES, st.sampled_from([1e-9, 0.001, 0.1, 0.3, 1.0]))
def test_a_resolution_moves_a_merit_by_half_of_it_at_most_and_never_the_stored_merit(score: float, step: float) -> None:
    changed = dataclasses.replace(SETTINGS, score_resolution=step)
    trajectory = held(1, 3, 0, 0, 0, score)
    assert merit(trajectory, changed, SCOPE) == score
    found = rounded_merit(trajectory, changed, SCOPE)
    assert abs(found - score) <= step / 2 * (1 + 1e-6)
    assert found / step == pytest.approx(round(found / step), abs=1e-6)
    assert rounded_merit(trajectory, SETTINGS, SCOPE) == score


@settings(deadline=None)
@given(pools(), st.sampled_from([0.01, 0.25]))
def test_with_a_resolution_the_order_is_that_of_the_rounded_scores(
    pool: tuple[list[Candidate], list[Trajectory]], step: float
) -> None:
    candidates, finished = pool
    rounded = [
        candidate
        if candidate.score is None
        else dataclasses.replace(candidate, score=max(round(candidate.score / step) * step, 1e-12))
        for candidate in candidates
    ]
    held_rounded = [
        dataclasses.replace(member, score=max(round((member.score or 0.0) / step) * step, 1e-12)) for member in finished
    ]
    found = select(candidates, finished, dataclasses.replace(SETTINGS, score_resolution=step), SCOPE)
    told = select(rounded, held_rounded, SETTINGS, SCOPE)
    assert found.ranking == told.ranking
    assert [member.candidate_id for member in found.beam] == [member.candidate_id for member in told.beam]
    scores = {candidate.id: candidate.score for candidate in candidates}
    assert all(scores.get(member.candidate_id, member.score) == member.score for member in found.beam)


@pytest.mark.parametrize(("resolution", "order"), [(0.0, (2, 1)), (0.001, (2, 1)), (0.05, (1, 2))])
def test_below_the_resolution_the_first_configured_teacher_is_ahead(resolution: float, order: tuple[int, ...]) -> None:
    pool = [new(1, 0, 0, 0, score=0.71), new(2, 0, 1, 0, score=0.72)]
    changed = dataclasses.replace(SETTINGS, score_resolution=resolution)
    assert select(pool, [], changed, SCOPE).ranking == order


@pytest.mark.parametrize("options", OPTIONS)
@settings(deadline=None)
@given(pool=pools(), random=st.randoms(use_true_random=False))
def test_the_order_of_arrival_decides_nothing_under_any_option(
    options: dict[str, object], pool: tuple[list[Candidate], list[Trajectory]], random: object
) -> None:
    candidates, finished = pool
    changed = dataclasses.replace(SETTINGS, **options)  # type: ignore[arg-type]
    before = select(candidates, finished, changed, SCOPE)
    random.shuffle(candidates)  # type: ignore[attr-defined]
    random.shuffle(finished)  # type: ignore[attr-defined]
    assert select(candidates, finished, changed, SCOPE) == before


@settings(deadline=None)
@given(pools(), st.randoms(use_true_random=False))
def test_the_order_of_arrival_decides_nothing(pool: tuple[list[Candidate], list[Trajectory]], random: object) -> None:
    candidates, finished = pool
    before = select(candidates, finished, SETTINGS, SCOPE)
    random.shuffle(candidates)  # type: ignore[attr-defined]
    random.shuffle(finished)  # type: ignore[attr-defined]
    assert select(candidates, finished, SETTINGS, SCOPE) == before


@settings(deadline=None)
@given(pools())
def test_database_ids_decide_nothing(pool: tuple[list[Candidate], list[Trajectory]]) -> None:
    candidates, finished = pool
    other_ids = [dataclasses.replace(candidate, id=5000 - candidate.id) for candidate in candidates]
    before, after = select(candidates, finished, SETTINGS, SCOPE), select(other_ids, finished, SETTINGS, SCOPE)
    assert [member.lineage for member in after.beam] == [member.lineage for member in before.beam]
    assert tuple(5000 - id for id in after.ranking) == before.ranking


@settings(deadline=None)
@given(pools())
def test_a_beam_is_sorted_without_repeats_and_as_full_as_it_can_be(
    pool: tuple[list[Candidate], list[Trajectory]],
) -> None:
    selection = select(*pool, SETTINGS, SCOPE)
    scores = [score_of(member) for member in selection.beam]
    assert scores == sorted(scores, reverse=True)
    assert len({member.candidate_id for member in selection.beam}) == len(selection.beam)
    assert len(selection.beam) == min(SETTINGS.beam_width, len(selection.ranking) + len(pool[1]))


@settings(deadline=None)
@given(pools())
def test_a_finished_trajectory_leaves_only_for_enough_better_ones(
    pool: tuple[list[Candidate], list[Trajectory]],
) -> None:
    candidates, finished = pool
    beam = select(candidates, finished, SETTINGS, SCOPE).beam
    for trajectory in finished:
        if trajectory not in beam:
            assert len(beam) == SETTINGS.beam_width
            assert all(score_of(member) >= score_of(trajectory) for member in beam)


@settings(deadline=None)
@given(pools(), st.floats(0.0, 1.0, exclude_min=True))
def test_adding_a_worse_candidate_never_changes_which_are_kept(
    pool: tuple[list[Candidate], list[Trajectory]], score: float
) -> None:
    candidates, finished = pool
    before = select(candidates, finished, SETTINGS, SCOPE).beam
    lowest = min((score_of(member) for member in before), default=1.0)
    worse = new(999, 7, 0, 0, score=min(score, lowest))
    after = select([*candidates, worse], finished, SETTINGS, SCOPE).beam
    assert after[: len(before)] == before
    assert len(after) == min(SETTINGS.beam_width, len(before) + 1)


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (new(2, 2, 2, 1, score=0.75), new(1, 0, 0, 0, score=0.5)),
        (new(2, 2, 2, 1, score=math.nextafter(0.5, 1.0)), new(1, 0, 0, 0, score=0.5)),
        (new(2, 0, 2, 1), new(1, 1, 0, 0)),
        (new(2, 0, 1, 1), new(1, 0, 2, 0)),
        (new(2, 0, 0, 0), new(1, 0, 0, 1)),
    ],
    ids=["score", "last bit of score", "parent rank", "teacher", "sample"],
)
def test_ties_fall_to_parent_rank_then_teacher_then_sample(better: Candidate, worse: Candidate) -> None:
    assert select([worse, better], [], SETTINGS, SCOPE).ranking == (2, 1)


def test_of_equal_scores_the_trajectory_with_fewer_steps_is_first() -> None:
    short = held(9, steps=2, rank=3, teacher=2, sample=1, score=0.5)
    assert [member.candidate_id for member in select([new(1, 0, 0, 0)], [short], SETTINGS, SCOPE).beam] == [9, 1]


@pytest.mark.parametrize(
    ("finish_reason", "tokens", "step", "finish"),
    [
        ("step", 99, 5, None),
        ("length", 99, 5, None),
        ("think_end", 99, 5, Finish.THINK_END),
        ("eos", 99, 5, Finish.EOS),
        ("step", 100, 5, Finish.THINKING_BUDGET),
        ("length", 101, 5, Finish.THINKING_BUDGET),
        ("step", 99, 9, Finish.MAX_STEPS),
        ("length", 99, 9, Finish.MAX_STEPS),
        ("step", 100, 9, Finish.THINKING_BUDGET),
        ("think_end", 100, 9, Finish.THINK_END),
        ("eos", 100, 9, Finish.EOS),
    ],
)
def test_thinking_ends_by_the_teacher_then_the_budget_then_the_step_cap(
    finish_reason: str, tokens: int, step: int, finish: Finish | None
) -> None:
    candidate = new(1, 0, 0, 0, finish_reason=finish_reason, thinking_tokens=tokens, depth=step)
    assert select([candidate], [], SETTINGS, SCOPE).beam[0].finish is finish


def test_invalid_candidates_and_duplicates_are_returned_with_their_reasons() -> None:
    pool = [
        new(1, 0, 0, 0, text="same"),
        new(2, 0, 1, 0, text=" same\n", score=0.9),
        new(3, 0, 2, 0, invalid_reason="too_long", text=None, score=None, finish_reason=None, thinking_tokens=None),
    ]
    selection = select(pool, [], SETTINGS, SCOPE)
    assert selection.ranking == (1,)
    assert selection.invalid == {2: InvalidReason.DUPLICATE, 3: InvalidReason.TOO_LONG}


def test_a_duplicate_needs_no_score() -> None:
    pool = [new(1, 0, 0, 0, text="same"), new(2, 0, 1, 0, text="same", score=None, thinking_tokens=None)]
    assert select(pool, [], SETTINGS, SCOPE).ranking == (1,)


def test_a_closing_step_that_adds_no_text_is_invalid_as_the_paper_page_says() -> None:
    closing = new(1, 0, 0, 0, text="\n", finish_reason="think_end", invalid_reason=InvalidReason.WHITESPACE)
    assert select([closing], [], SETTINGS, SCOPE).beam == ()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"score": None}, "no score"),
        ({"thinking_tokens": None}, "no token count"),
        ({"score": 0.0}, "a score is in"),
        ({"score": 1.5}, "a score is in"),
        ({"score": math.nan}, "a score is in"),
        ({"finish_reason": None}, "finish reason None"),
        ({"finish_reason": "stop"}, "finish reason 'stop'"),
        ({"invalid_reason": "ugly"}, "known reasons are"),
        ({"text": None}, "no text"),
    ],
)
def test_rows_that_are_neither_scored_nor_invalid_are_refused(changes: dict[str, object], told: str) -> None:
    with pytest.raises(SearchError, match=told):
        select([new(1, 0, 0, 0, **changes)], [], SETTINGS, SCOPE)


def test_two_candidates_in_one_place_are_refused() -> None:
    with pytest.raises(SearchError, match="same place"):
        select([new(1, 0, 0, 0), new(2, 0, 0, 0, text="other")], [], SETTINGS, SCOPE)


@settings(deadline=None)
@given(pools())
def test_the_winner_is_the_first_of_the_beam(pool: tuple[list[Candidate], list[Trajectory]]) -> None:
    beam = select(*pool, SETTINGS, SCOPE).beam
    if beam:
        assert winner(beam, SETTINGS, SCOPE) == beam[0] == winner(tuple(reversed(beam)), SETTINGS, SCOPE)
        assert all(rank_key(beam[0], SETTINGS, SCOPE) <= rank_key(member, SETTINGS, SCOPE) for member in beam)


def test_an_empty_beam_has_no_winner() -> None:
    with pytest.raises(SearchError, match="no winner"):
        winner((), SETTINGS, SCOPE)


@given(
    scores=st.permutations([0.1, 0.2, 0.3, 0.4]),
    judgments=st.lists(st.sampled_from([0.0, 0.3, 1.0]), min_size=4, max_size=4),
    criterion=st.sampled_from([Criterion.REWARD_MODEL, Criterion.BINARY_JUDGMENT]),
)
def test_judgments_select_regardless_of_scores_and_ties_fall_to_the_usual_order(
    scores: list[float], judgments: list[float], criterion: Criterion
) -> None:
    pool = [new(id, 0, id, 0, score=scores[id], judgment=judgments[id]) for id in range(4)]
    ranking = select(pool, (), dataclasses.replace(SETTINGS, selection=criterion), SCOPE).ranking
    assert list(ranking) == sorted(range(4), key=lambda id: (-judgments[id], id))


@pytest.mark.parametrize("judgment", [None, -0.1, 1.1, math.nan])
def test_a_candidate_without_a_judgment_is_no_member_if_judgments_select(judgment: float | None) -> None:
    settings = dataclasses.replace(SETTINGS, selection=Criterion.BINARY_JUDGMENT)
    with pytest.raises(SearchError, match="unjudgeable"):
        select([new(1, 0, 0, 0, judgment=judgment)], (), settings, SCOPE)
    assert select([new(1, 0, 0, 0, judgment=judgment)], (), SETTINGS, SCOPE).ranking == (1,)
