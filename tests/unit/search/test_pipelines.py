"""Greedy and curation, and the properties of all pipelines: order, counts, and the winner."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cord_worker.search.decision import Decision, EndSearch, Expand, Fail, Pipeline, Resample
from cord_worker.search.expanding import fails_again_after_restart, fails_again_on_retry
from cord_worker.search.pipelines import PIPELINES
from cord_worker.search.seeds import random_merit
from cord_worker.search.types import (
    Beam,
    Candidate,
    Criterion,
    Expansion,
    Finish,
    InvalidReason,
    SearchError,
    SearchSettings,
    SeedScope,
)
from tests.support.candidates import SCOPE, drawn_candidate
from tests.support.settings import small_search

TEACHERS = ("r1", "qwq", "phi")
SEARCHES = sorted(PIPELINES.keys() - {"sample"})
"""Pipelines that select; `sample` does not."""
SETTINGS = small_search(trajectories=4)


def candidate(item: Expansion, id: int, **changes: object) -> Candidate:
    """A good proposal with a score drawn from its seed."""
    return drawn_candidate(item, id, **{"thinking_tokens": 5 * item.step + item.seed % 7, **changes})


def proposed(expansions: Sequence[Expansion], first_id: int = 1, **changes: object) -> list[Candidate]:
    return [candidate(item, first_id + place, **changes) for place, item in enumerate(expansions)]


def decided(
    pipeline: Pipeline,
    before: Expand,
    candidates: Sequence[Candidate],
    settings: SearchSettings = SETTINGS,
    round: int = 0,
    earlier: Sequence[Candidate] = (),
    spent: int = 0,
) -> Decision:
    known = [*earlier, *candidates] if pipeline.READS_EARLIER else candidates
    return pipeline.decide(
        settings, SCOPE, TEACHERS, step=before.step, round=round, beam=before.beam, candidates=known, spent=spent
    )


def searched(pipeline: Pipeline, settings: SearchSettings, order: int = 0) -> tuple[Decision, list[Candidate]]:
    """A whole search whose candidates arrive in an order drawn from `order`."""
    taken, everyone = decisions(pipeline, settings, order)
    return taken[-1], everyone


def decisions(pipeline: Pipeline, settings: SearchSettings, order: int = 0) -> tuple[list[Decision], list[Candidate]]:
    """Like `searched`, with every decision on the way."""
    decision: Decision = pipeline.initial(settings, SCOPE, TEACHERS)
    taken = [decision]
    everyone: list[Candidate] = []
    while isinstance(decision, Expand):
        arrived = proposed(decision.expansions, len(everyone) + 1)
        earlier, everyone = everyone, [*everyone, *arrived]
        random.Random(order).shuffle(arrived)
        decision = decided(pipeline, decision, arrived, settings, earlier=earlier, spent=generated(everyone))
        taken.append(decision)
    return taken, everyone


def generated(candidates: Sequence[Candidate]) -> int:
    """Tokens that were generated for these candidates, losers included."""
    return sum(3 + len(one.text or "") % 7 for one in candidates)


@pytest.mark.parametrize("name", sorted(PIPELINES))
@given(order=st.integers(0, 1000))
def test_the_order_of_arrival_decides_nothing(name: str, order: int) -> None:
    assert searched(PIPELINES[name], SETTINGS, order)[0] == searched(PIPELINES[name], SETTINGS, 0)[0]


@pytest.mark.parametrize("name", SEARCHES)
def test_the_winner_is_the_best_of_the_finished_ones(name: str) -> None:
    decision, _ = searched(PIPELINES[name], SETTINGS)
    assert isinstance(decision, EndSearch)
    assert decision.winner is not None
    assert decision.to_answer == (decision.winner,)
    assert decision.winner.score == max(member.score or 0 for member in decision.beam)
    assert all(member.finish is not None for member in decision.beam)


@pytest.mark.parametrize("name", sorted(PIPELINES))
def test_missing_and_foreign_candidates_are_refused(name: str) -> None:
    first = PIPELINES[name].initial(SETTINGS, SCOPE, TEACHERS)
    arrived = proposed(first.expansions)
    for wrong in (arrived[1:], [*arrived, dataclasses.replace(arrived[0], id=99)]):
        with pytest.raises(SearchError):
            decided(PIPELINES[name], first, wrong)


@pytest.mark.parametrize("name", SEARCHES)
def test_an_all_invalid_step_is_tried_again_with_new_seeds_and_then_fails(name: str) -> None:
    pipeline = PIPELINES[name]
    first = pipeline.initial(SETTINGS, SCOPE, TEACHERS)
    expansions = first.expansions
    seeds = {item.seed for item in expansions}
    for round in range(SETTINGS.max_rounds):
        bad = proposed(expansions, score=None, thinking_tokens=None, invalid_reason="loop")
        decision = decided(pipeline, first, bad, round=round)
        assert set(decision.invalid.values()) == {InvalidReason.LOOP}
        if round + 1 < SETTINGS.max_rounds:
            assert isinstance(decision, Resample)
            expansions = decision.expansions
            assert not seeds & {item.seed for item in expansions}
            seeds |= {item.seed for item in expansions}
    assert isinstance(decision, Fail)


def test_every_chain_of_greedy_keeps_the_best_of_its_own_candidates() -> None:
    greedy = PIPELINES["greedy"]
    first = greedy.initial(SETTINGS, SCOPE, TEACHERS)
    assert len(first.expansions) == 4 * len(TEACHERS)
    assert len({item.seed for item in first.expansions}) == len(first.expansions)
    arrived = proposed(first.expansions)
    second = decided(greedy, first, arrived)
    assert isinstance(second, Expand)
    best = {
        chain: max((one for one in arrived if one.parent_rank == chain), key=lambda one: one.score or 0).id
        for chain in range(4)
    }
    assert {member.candidate_id for member in second.beam} == set(best.values())
    assert len(second.expansions) == 4 * len(TEACHERS)


def test_equal_texts_of_different_chains_are_no_duplicates() -> None:
    greedy = PIPELINES["greedy"]
    first = greedy.initial(SETTINGS, SCOPE, TEACHERS)
    arrived = [candidate(item, id, text=f"teacher {item.teacher}") for id, item in enumerate(first.expansions)]
    second = decided(greedy, first, arrived)
    assert isinstance(second, Expand)
    assert second.invalid == {}
    assert len(second.beam) == 4


def test_a_chain_without_a_valid_candidate_ends_and_the_others_continue() -> None:
    greedy = PIPELINES["greedy"]
    first = greedy.initial(SETTINGS, SCOPE, TEACHERS)
    arrived = [
        candidate(item, id, **({"invalid_reason": "loop", "score": None} if item.parent_rank == 2 else {}))
        for id, item in enumerate(first.expansions)
    ]
    second = decided(greedy, first, arrived)
    assert isinstance(second, Expand)
    assert len(second.beam) == 3
    assert len(second.invalid) == len(TEACHERS)


def test_a_finished_chain_waits_for_the_others() -> None:
    greedy = PIPELINES["greedy"]
    first = greedy.initial(SETTINGS, SCOPE, TEACHERS)
    arrived = [
        candidate(item, id, finish_reason="think_end" if item.parent_rank == 0 else "step")
        for id, item in enumerate(first.expansions)
    ]
    second = decided(greedy, first, arrived)
    assert isinstance(second, Expand)
    assert [member.finish for member in second.beam].count(Finish.THINK_END) == 1
    assert len(second.expansions) == 3 * len(TEACHERS)


def test_curation_asks_every_teacher_for_whole_trajectories_with_the_whole_budget() -> None:
    first = PIPELINES["curation"].initial(SETTINGS, SCOPE, TEACHERS)
    assert len(first.expansions) == 4 * len(TEACHERS)
    assert all(item.whole and item.max_tokens == SETTINGS.thinking_tokens for item in first.expansions)
    assert not any(item.whole for item in PIPELINES["cord"].initial(SETTINGS, SCOPE, TEACHERS).expansions)


def test_a_whole_trajectory_cut_by_the_cap_has_used_up_its_budget() -> None:
    curation = PIPELINES["curation"]
    first = curation.initial(SETTINGS, SCOPE, TEACHERS)
    decision = decided(curation, first, proposed(first.expansions, finish_reason="length"))
    assert isinstance(decision, EndSearch)
    assert {member.finish for member in decision.beam} == {Finish.THINKING_BUDGET}
    assert len(decision.beam) == 4 * len(TEACHERS)


def test_selection_by_length_or_at_random_does_not_rank_by_the_score() -> None:
    curation = PIPELINES["curation"]
    first = curation.initial(SETTINGS, SCOPE, TEACHERS)
    arrived = proposed(first.expansions)

    def order(criterion: Criterion, run_seed: int = 3) -> list[int]:
        settings = dataclasses.replace(SETTINGS, selection=criterion)
        scope = SeedScope(run_seed, SCOPE.problem_key)
        fitting = [dataclasses.replace(one, text=str(one.id)) for one in arrived]
        decision = curation.decide(settings, scope, TEACHERS, step=1, round=0, beam=(), candidates=fitting, spent=0)
        assert isinstance(decision, EndSearch)
        return [member.candidate_id for member in decision.beam]

    by_length = [next(one for one in arrived if one.id == id).thinking_tokens for id in order(Criterion.MAX_LENGTH)]
    assert by_length == sorted(by_length, key=lambda tokens: -(tokens or 0))
    lots = {one.id: random_merit(3, SCOPE.problem_key, one.lineage) for one in arrived}
    assert order(Criterion.RANDOM) == sorted(lots, key=lambda id: -lots[id])
    assert order(Criterion.RANDOM) != order(Criterion.RANDOM, run_seed=4)


def test_curation_has_no_second_step() -> None:
    beam: Beam = ()
    with pytest.raises(SearchError, match="one step"):
        PIPELINES["curation"].decide(SETTINGS, SCOPE, TEACHERS, step=2, round=0, beam=beam, candidates=[], spent=0)


def test_every_sample_is_answered_whatever_its_text_and_none_wins() -> None:
    sample = PIPELINES["sample"]
    first = sample.initial(SETTINGS, SCOPE, TEACHERS)
    assert len(first.expansions) == 4 * len(TEACHERS)
    assert len({item.seed for item in first.expansions}) == len(first.expansions)
    assert all(item.whole and item.max_tokens == SETTINGS.thinking_tokens for item in first.expansions)
    arrived = [candidate(item, id, text="the same", score=None) for id, item in enumerate(first.expansions)]
    decision = decided(sample, first, arrived)
    assert isinstance(decision, EndSearch)
    assert decision.winner is None
    assert decision.invalid == {}
    assert decision.to_answer == decision.beam
    assert [(one.teacher, one.sample) for one in decision.beam] == [(t, s) for t in range(3) for s in range(4)]


def test_a_sample_that_could_not_be_drawn_is_left_out_and_not_drawn_again() -> None:
    sample = PIPELINES["sample"]
    first = sample.initial(SETTINGS, SCOPE, TEACHERS)
    lost: dict[str, Any] = {"score": None, "thinking_tokens": None, "invalid_reason": "too_long"}
    arrived = [
        candidate(item, id, **(lost if item.sample else {"score": None})) for id, item in enumerate(first.expansions)
    ]
    decision = decided(sample, first, arrived)
    assert isinstance(decision, EndSearch)
    assert [one.sample for one in decision.to_answer] == [0, 0, 0]
    assert len(decision.invalid) == 3 * len(TEACHERS)
    all_lost = decided(sample, first, proposed(first.expansions, **lost))
    assert isinstance(all_lost, Fail)
    assert "12 too_long" in all_lost.reason
    with pytest.raises(SearchError, match="one round"):
        decided(sample, first, arrived, round=1)


STEPWISE = ("cord", "greedy", "mcts")


@pytest.mark.parametrize("name", STEPWISE)
@given(budget=st.integers(1, 900), order=st.integers(0, 3))
def test_a_budget_ends_the_search_with_the_step_that_spends_it_and_changes_nothing_before(
    name: str, budget: int, order: int
) -> None:
    pipeline = PIPELINES[name]
    free, _ = decisions(pipeline, SETTINGS)
    taken, everyone = decisions(pipeline, dataclasses.replace(SETTINGS, total_tokens=budget), order)
    last = max(one.step for one in everyone)
    assert generated([one for one in everyone if one.step < last]) < budget
    assert taken[:-1] == free[: len(taken) - 1]
    end = taken[-1]
    assert isinstance(end, EndSearch)
    assert all(member.finish is not None for member in end.beam)
    assert end.winner is not None
    assert end.winner.score == max(member.score or 0 for member in end.beam)
    if generated(everyone) < budget:
        assert taken == free
    elif len(taken) < len(free):
        newest = [member for member in end.beam if member.steps == last]
        assert name == "mcts" or all(member.finish == Finish.TOTAL_TOKENS for member in newest)


@pytest.mark.parametrize("name", STEPWISE)
def test_no_budget_is_the_same_as_one_that_is_never_spent(name: str) -> None:
    ample = dataclasses.replace(SETTINGS, total_tokens=10**9)
    assert searched(PIPELINES[name], ample)[0] == searched(PIPELINES[name], SETTINGS)[0]


@pytest.mark.parametrize("name", STEPWISE)
def test_after_the_budget_is_spent_an_all_invalid_step_is_not_tried_again(name: str) -> None:
    pipeline = PIPELINES[name]
    settings = dataclasses.replace(SETTINGS, total_tokens=100)
    first = pipeline.initial(settings, SCOPE, TEACHERS)
    bad = proposed(first.expansions, score=None, thinking_tokens=None, invalid_reason="loop")
    assert isinstance(decided(pipeline, first, bad, settings, spent=99), Resample)
    failed = decided(pipeline, first, bad, settings, spent=100)
    assert isinstance(failed, Fail)
    assert "search.total_tokens is spent" in failed.reason


def test_a_spent_tree_search_makes_no_rollout_of_its_last_nodes() -> None:
    mcts = PIPELINES["mcts"]
    settings = dataclasses.replace(SETTINGS, total_tokens=1)
    end, everyone = searched(mcts, settings)
    assert isinstance(end, EndSearch)
    assert len(everyone) == len(TEACHERS)
    assert {member.finish for member in end.beam} == {Finish.TOTAL_TOKENS}


NO_ROOM: dict[str, Any] = {
    "text": "",
    "score": None,
    "thinking_tokens": None,
    "finish_reason": None,
    "invalid_reason": InvalidReason.TOO_LONG.value,
}
"""Fields of a candidate that its teacher could not begin because its context was full."""


@pytest.mark.parametrize("name", STEPWISE)
def test_if_no_model_has_room_for_a_longer_trajectory_its_thinking_ends_and_it_wins(name: str) -> None:
    pipeline = PIPELINES[name]
    first = pipeline.initial(SETTINGS, SCOPE, TEACHERS)
    known = proposed(first.expansions)
    second = decided(pipeline, first, known)
    assert isinstance(second, Expand)
    end: Decision = second
    while isinstance(end, Expand):
        full = proposed(end.expansions, len(known) + 1, **NO_ROOM)
        end = decided(pipeline, end, full, earlier=known)
        known += full
    assert isinstance(end, EndSearch), "nothing is tried again that cannot fit with another seed either"
    assert end.winner == end.beam[0]
    assert {member.finish for member in end.beam} == {Finish.CONTEXT}
    assert {member.candidate_id for member in end.beam} <= {one.id for one in known if one.invalid_reason is None}


def test_a_trajectory_without_room_keeps_its_slot_while_others_continue() -> None:
    cord = PIPELINES["cord"]
    first = cord.initial(SETTINGS, SCOPE, TEACHERS)
    second = decided(cord, first, proposed(first.expansions))
    assert isinstance(second, Expand)
    full = second.beam[1].candidate_id
    step = [
        candidate(item, 100 + place, **(NO_ROOM if item.parent_id == full else {"score": 1e-6}))
        for place, item in enumerate(second.expansions)
    ]
    third = decided(cord, second, step)
    assert isinstance(third, Expand)
    assert [member.finish for member in third.beam if member.candidate_id == full] == [Finish.CONTEXT]
    assert full not in {item.parent_id for item in third.expansions}


@pytest.mark.parametrize("name", sorted(PIPELINES))
def test_a_question_that_fits_no_model_is_not_tried_again(name: str) -> None:
    pipeline = PIPELINES[name]
    first = pipeline.initial(SETTINGS, SCOPE, TEACHERS)
    failed = decided(pipeline, first, proposed(first.expansions, **NO_ROOM))
    assert isinstance(failed, Fail)
    assert f"({len(first.expansions)} too_long), and no finished trajectory holds a slot. No teacher" in failed.reason
    assert "lower search.answer_tokens, or raise max_model_len of the teachers" in failed.reason
    assert "thinking_tokens" not in failed.reason, "a smaller thinking budget gives a question no room"
    assert fails_again_on_retry(failed.reason)
    assert fails_again_after_restart(failed.reason)


def test_a_candidate_too_long_for_the_prover_only_is_tried_again_because_it_may_become_shorter() -> None:
    cord = PIPELINES["cord"]
    first = cord.initial(SETTINGS, SCOPE, TEACHERS)
    long = proposed(first.expansions, score=None, thinking_tokens=None, invalid_reason=InvalidReason.TOO_LONG.value)
    assert isinstance(decided(cord, first, long), Resample)


@pytest.mark.parametrize(("name", "lower"), [("cord", "search.step_tokens"), ("curation", "search.thinking_tokens")])
def test_a_candidate_too_long_for_the_prover_only_fails_with_advice_about_the_prover(name: str, lower: str) -> None:
    pipeline, settings = PIPELINES[name], dataclasses.replace(SETTINGS, max_rounds=1)
    first = pipeline.initial(settings, SCOPE, TEACHERS)
    long = proposed(first.expansions, score=None, thinking_tokens=None, invalid_reason=InvalidReason.TOO_LONG.value)
    failed = decided(pipeline, first, long, settings)
    assert isinstance(failed, Fail)
    assert "invalid in the only round" in failed.reason
    assert f"(the prover or the judge): raise their max_model_len, lower {lower}, or shorten" in failed.reason
    assert fails_again_on_retry(failed.reason)
    assert not fails_again_after_restart(failed.reason), "other texts may be shorter"


@pytest.mark.parametrize(
    "reason",
    [
        "the decision failed 5 times: all 3 candidates of step 1 are invalid",
        "the final answer cannot be written: all 3 candidates",
        "scoring a candidate of step 1 was given up after 5 attempts",
    ],
)
def test_only_failures_caused_by_the_candidates_themselves_would_recur(reason: str) -> None:
    assert not fails_again_on_retry(reason)
    assert not fails_again_after_restart(reason)
