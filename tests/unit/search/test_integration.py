"""Integration: what is merged, that the merged trajectory wins, and how an unreadable reply is handled."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cord_worker.search import integration
from cord_worker.search.decision import EndSearch, Expand, Fail, Resample
from cord_worker.search.types import Candidate, Expansion, InvalidReason, SearchError
from tests.support.candidates import SCOPE, candidate_of
from tests.support.settings import small_search

TEACHERS = ("r1", "qwq")
SETTINGS = small_search(trajectories=2, integration_tokens=77)
SCORES = [0.2, 0.9, 0.4, 0.6]


def candidate(item: Expansion, id: int, **changes: object) -> Candidate:
    return candidate_of(item, id, **{"finish_reason": "eos", **changes})


def sources() -> tuple[Expand, list[Candidate]]:
    first = integration.initial(SETTINGS, SCOPE, TEACHERS)
    rows = [candidate(item, id, score=SCORES[id - 1]) for id, item in enumerate(first.expansions, start=1)]
    return first, rows


def planned(rows: list[Candidate]) -> Expand:
    decision = integration.decide(SETTINGS, SCOPE, TEACHERS, step=1, round=0, beam=(), candidates=rows, spent=0)
    assert isinstance(decision, Expand)
    return decision


@given(st.permutations(range(4)))
def test_all_valid_trajectories_are_merged_best_first_in_any_order_of_arrival(order: list[int]) -> None:
    first, rows = sources()
    assert [(item.teacher, item.sample, item.whole) for item in first.expansions] == [
        (0, 0, True),
        (0, 1, True),
        (1, 0, True),
        (1, 1, True),
    ]
    (merger,) = planned([rows[place] for place in order]).expansions
    assert merger.sources == (2, 4, 3, 1)
    assert (merger.teacher, merger.max_tokens, merger.whole, merger.depth) == (len(TEACHERS), 77, True, 1)
    assert merger.parent_id is None


def test_invalid_trajectories_and_duplicates_are_not_merged() -> None:
    _, rows = sources()
    rows[0] = dataclasses.replace(rows[0], invalid_reason="loop", score=None)
    rows[2] = dataclasses.replace(rows[2], text=rows[1].text)
    (merger,) = planned(rows).expansions
    assert merger.sources == (2, 4)


@pytest.mark.parametrize("score", [0.01, 0.99])
def test_the_merged_trajectory_wins_with_any_score(score: float) -> None:
    _, rows = sources()
    second = planned(rows)
    merged = candidate(second.expansions[0], 9, score=score)
    decision = integration.decide(
        SETTINGS, SCOPE, TEACHERS, step=2, round=0, beam=second.beam, candidates=[merged], spent=0
    )
    assert isinstance(decision, EndSearch)
    assert decision.winner is not None
    assert decision.winner.candidate_id == 9
    assert decision.beam == (decision.winner,)


def test_a_malformed_reply_is_asked_for_again_with_new_seeds_and_then_the_problem_has_failed() -> None:
    _, rows = sources()
    second = planned(rows)
    (merger,) = second.expansions
    seeds = {merger.seed}
    for round in range(SETTINGS.max_rounds):
        bad = candidate(merger, 9 + round, score=None, thinking_tokens=None, invalid_reason="malformed")
        decision = integration.decide(
            SETTINGS, SCOPE, TEACHERS, step=2, round=round, beam=second.beam, candidates=[bad], spent=0
        )
        assert decision.invalid == {9 + round: InvalidReason.MALFORMED}
        if round + 1 < SETTINGS.max_rounds:
            assert isinstance(decision, Resample)
            (merger,) = decision.expansions
            assert merger.sources == (2, 4, 3, 1)
            assert merger.seed not in seeds
            seeds.add(merger.seed)
    assert isinstance(decision, Fail)
    assert "(malformed) in the last of 3 rounds" in decision.reason


def test_there_is_no_third_step() -> None:
    with pytest.raises(SearchError, match="two steps"):
        integration.decide(SETTINGS, SCOPE, TEACHERS, step=3, round=0, beam=(), candidates=[], spent=0)
