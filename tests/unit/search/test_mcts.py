"""Tree search: which node is expanded, where rollouts count, and when the search ends."""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cord_worker.search import mcts
from cord_worker.search.decision import Decision, EndSearch, Expand, Fail, Resample
from cord_worker.search.mcts import UcbTree
from cord_worker.search.types import Candidate, Criterion, Expansion, Finish, InvalidReason, SearchSettings
from tests.support.candidates import SCOPE, drawn_candidate
from tests.support.settings import small_search

TEACHERS = ("r1", "qwq", "phi")
SETTINGS = small_search(thinking_tokens=600, trajectories=4)
Changes = Callable[[Expansion], dict[str, object]]


def candidate(item: Expansion, id: int, **changes: object) -> Candidate:
    """A good proposal with a score drawn from its seed."""
    return drawn_candidate(item, id, **{"thinking_tokens": 5 * item.depth, **changes})


def unchanged(_item: Expansion) -> dict[str, object]:
    return {}


def searched(
    settings: SearchSettings = SETTINGS, changes: Changes = unchanged, order: int = 0
) -> tuple[Decision, list[Candidate], list[Expand]]:
    """A whole search; rows are read in an order drawn from `order`, earlier ones without their texts."""
    shuffle = random.Random(order).shuffle
    decision: Decision = mcts.initial(settings, SCOPE, TEACHERS)
    everyone: list[Candidate] = []
    choices: list[Expand] = []
    at, round = 0, 0
    while isinstance(decision, Expand | Resample):
        if isinstance(decision, Expand):
            choices.append(decision)
            at = decision.step
        round = decision.round
        current = [candidate(item, len(everyone) + n, **changes(item)) for n, item in enumerate(decision.expansions, 1)]
        earlier = [dataclasses.replace(one, text=None) for one in everyone if one.step < at]
        everyone += current
        known = [*earlier, *current]
        shuffle(known)
        decision = mcts.decide(
            settings, SCOPE, TEACHERS, step=at, round=round, beam=choices[-1].beam, candidates=known, spent=0
        )
    return decision, everyone, choices


def invalid(_item: Expansion) -> dict[str, object]:
    return {"invalid_reason": "loop", "score": None, "thinking_tokens": None}


@given(
    order=st.integers(0, 10_000),
    run_seed=st.integers(0, 3),
    exploration=st.sampled_from([0.0, 0.3, 1.41, 20.0]),
    resolution=st.sampled_from([0.0, 0.3]),
)
def test_the_order_of_the_rows_decides_nothing(
    order: int, run_seed: int, exploration: float, resolution: float
) -> None:
    settings = dataclasses.replace(SETTINGS, exploration=exploration, trajectories=6, score_resolution=resolution)

    def odd_ones(item: Expansion) -> dict[str, object]:
        lot = (item.seed + run_seed) % 9
        return invalid(item) if lot == 0 else {"finish_reason": "think_end"} if lot == 1 else {}

    assert searched(settings, odd_ones, order)[0] == searched(settings, odd_ones, 0)[0]
    assert searched(settings, odd_ones, order)[2] == searched(settings, odd_ones, 0)[2]


@pytest.mark.parametrize("trajectories", [1, 2, 4, 7])
def test_the_budget_is_a_number_of_rollouts(trajectories: int) -> None:
    decision, everyone, choices = searched(dataclasses.replace(SETTINGS, trajectories=trajectories))
    assert isinstance(decision, EndSearch)
    assert sum(one.whole for one in everyone) == len(decision.beam) == trajectories
    assert sum(not one.whole for one in everyone) == trajectories * len(TEACHERS)
    assert decision.winner is not None
    assert decision.winner.score == max(one.score or 0.0 for one in everyone if one.whole)
    assert [choice.step for choice in choices] == list(range(1, 2 * trajectories + 1))


def test_the_best_new_nodes_teacher_writes_the_rest_within_the_remaining_budget() -> None:
    _, everyone, choices = searched()
    rows = {one.id: one for one in everyone}
    for before, choice in itertools.pairwise(choices):
        if not before.expansions[0].whole:
            (rollout,) = choice.expansions
            new = [one for one in everyone if one.step == before.step]
            best = max(new, key=lambda one: one.score or 0.0)
            assert rollout.parent_id == best.id
            assert rollout.teacher == best.teacher
            assert rollout.whole
            assert rollout.depth == best.depth + 1
            assert rollout.max_tokens == SETTINGS.thinking_tokens - (best.thinking_tokens or 0)
        else:
            assert {item.parent_id for item in choice.expansions} != {None}
            assert {rows[item.parent_id or 0].depth + 1 for item in choice.expansions} == {choice.expansions[0].depth}
            assert not any(item.whole for item in choice.expansions)


def test_depth_is_the_place_in_the_trajectory_and_step_the_number_of_the_decision() -> None:
    _, everyone, _ = searched(dataclasses.replace(SETTINGS, trajectories=8))
    rows = {one.id: one for one in everyone}
    for one in everyone:
        if one.parent_id is None:
            assert (one.step, one.depth) == (1, 1)
        else:
            assert one.step > rows[one.parent_id].step
            assert one.depth == rows[one.parent_id].depth + 1
    assert any(one.step != one.depth for one in everyone)


def node(id: int, parent: int | None, score: float, **changes: object) -> Candidate:
    item = Expansion(parent, 0, id % 3, 0, id, 0, f"{id}", id, 16, 1)
    return candidate(item, id, score=score, **changes)


def tree(rows: Sequence[Candidate], exploration: float = 1.41) -> UcbTree:
    return UcbTree(dataclasses.replace(SETTINGS, exploration=exploration), SCOPE, rows, (), ())


ROWS = [
    node(1, None, 0.5),
    node(2, None, 0.4),
    node(3, 1, 0.9, whole=True, finish_reason="think_end"),
]


def test_a_rollout_counts_at_every_node_on_its_path_and_a_node_at_itself() -> None:
    found = tree([*ROWS, node(4, 1, 0.1), node(5, 4, 0.6, whole=True, finish_reason="eos")])
    assert [found.visits(id) for id in (None, 1, 2, 4)] == [3, 3, 1, 2]
    assert found.mean(1) == pytest.approx((0.5 + 0.9 + 0.6) / 3)
    assert found.mean(4) == pytest.approx((0.1 + 0.6) / 2)
    assert found.mean(2) == 0.4
    assert {member.finish for member in found.finished()} == {Finish.THINK_END, Finish.EOS}


def test_exploration_weighs_rarely_visited_nodes_against_the_best_mean() -> None:
    greedy, curious = tree(ROWS, 0.0).next_node(), tree(ROWS, 5.0).next_node()
    assert greedy is not None
    assert curious is not None
    assert (greedy.candidate_id, curious.candidate_id) == (1, 2)


def test_a_node_that_ends_the_thinking_is_a_trajectory_and_is_not_expanded() -> None:
    found = tree([node(1, None, 0.9, finish_reason="think_end"), node(2, None, 0.1)], 0.0)
    chosen = found.next_node()
    assert chosen is not None
    assert chosen.candidate_id == 2
    assert [member.candidate_id for member in found.finished()] == [1]
    assert found.visits(None) == 2


def test_a_node_without_a_valid_next_step_is_never_expanded_again() -> None:
    dead = node(4, 1, 0.5, invalid_reason="loop")
    chosen = tree([*ROWS, dead], 0.0).next_node()
    assert chosen is not None
    assert chosen.candidate_id == 2
    assert tree([ROWS[0], dead], 0.0).next_node() is None


def test_a_best_new_node_that_is_finished_takes_the_place_of_the_rollout() -> None:
    decision, everyone, choices = searched(changes=lambda _: {"finish_reason": "think_end"})
    assert isinstance(decision, EndSearch)
    assert len(choices) == 1
    assert len(everyone) == len(decision.beam) == len(TEACHERS)


def test_a_search_whose_rollouts_are_all_invalid_ends_as_a_failure() -> None:
    decision, everyone, _ = searched(changes=lambda item: invalid(item) if item.whole else {})
    assert isinstance(decision, Fail)
    assert set(decision.invalid.values()) == {InvalidReason.LOOP}
    rollouts = [one for one in everyone if one.whole]
    assert len(rollouts) == SETTINGS.trajectories * SETTINGS.max_rounds
    assert len({one.lineage for one in everyone}) == len(everyone)


def test_one_finished_trajectory_is_enough_for_a_result() -> None:
    decision, _, _ = searched(changes=lambda item: invalid(item) if item.step > 2 else {})
    assert isinstance(decision, EndSearch)
    assert len(decision.beam) == 1


def test_nodes_at_the_step_cap_are_finished_trajectories() -> None:
    settings = dataclasses.replace(SETTINGS, max_steps=2, trajectories=20)
    decision, everyone, _ = searched(settings)
    assert isinstance(decision, EndSearch)
    assert max(one.depth for one in everyone) == 2
    assert Finish.MAX_STEPS in {member.finish for member in decision.beam}


def test_equal_trajectories_of_two_iterations_are_distinguished() -> None:
    decision, _, _ = searched(changes=lambda _: {"score": 0.5})
    assert isinstance(decision, EndSearch)
    assert decision == searched(changes=lambda _: {"score": 0.5}, order=7)[0]


def test_a_resolution_decides_between_nodes_and_does_not_round_the_averaged_values() -> None:
    coarse = dataclasses.replace(SETTINGS, score_resolution=0.5)
    found = UcbTree(coarse, SCOPE, ROWS, (), ())
    assert found.mean(1) == tree(ROWS).mean(1) == pytest.approx(0.7)
    ends = [
        node(4, None, 0.9, whole=True, finish_reason="think_end", teacher=1),
        node(5, None, 0.8, whole=True, finish_reason="think_end", teacher=0),
    ]
    assert [one.candidate_id for one in UcbTree(coarse, SCOPE, ends, (), ()).finished()] == [5, 4]
    assert [one.candidate_id for one in UcbTree(SETTINGS, SCOPE, ends, (), ()).finished()] == [4, 5]


def test_the_selecting_number_is_the_averaged_one() -> None:
    settings = dataclasses.replace(SETTINGS, selection=Criterion.MAX_LENGTH)
    found = UcbTree(settings, SCOPE, ROWS, (), ())
    assert found.mean(1) == pytest.approx(5 / SETTINGS.thinking_tokens)
