"""pass@k against every way to draw k of the samples; the interval of a share against the equation that defines it."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cord_worker.operations.estimators import pass_at_k, powers_of_two, wilson_interval
from cord_worker.operations.evaluation import compute_figures
from cord_worker.store.reports.evaluation import AnswerCounts


@st.composite
def draws(draw: st.DrawFn) -> tuple[int, int, int]:
    samples = draw(st.integers(1, 9))
    return samples, draw(st.integers(0, samples)), draw(st.integers(1, samples))


@given(draws())
def test_pass_at_k_is_the_share_of_all_draws_that_hold_a_correct_answer(drawn: tuple[int, int, int]) -> None:
    samples, correct, k = drawn
    answers = [True] * correct + [False] * (samples - correct)
    every = [any(answers[place] for place in places) for places in itertools.combinations(range(samples), k)]
    assert pass_at_k(samples, correct, k) == pytest.approx(sum(every) / len(every))


@given(st.integers(1, 1000), st.data())
def test_pass_at_k_is_a_probability_that_grows_with_k_and_begins_at_the_mean(samples: int, data: st.DataObject) -> None:
    correct = data.draw(st.integers(0, samples))
    chances = [pass_at_k(samples, correct, k) for k in powers_of_two(samples)]
    assert chances[0] == pytest.approx(correct / samples)
    assert all(0.0 <= chance <= 1.0 for chance in chances)
    assert chances == sorted(chances)


@pytest.mark.parametrize(("samples", "correct", "k"), [(4, 5, 1), (4, -1, 1), (4, 2, 0), (4, 2, 5), (0, 0, 1)])
def test_an_undefined_pass_at_k_is_refused(samples: int, correct: int, k: int) -> None:
    with pytest.raises(ValueError, match="not defined"):
        pass_at_k(samples, correct, k)


@pytest.mark.parametrize(("most", "expected"), [(1, (1,)), (2, (1, 2)), (15, (1, 2, 4, 8)), (16, (1, 2, 4, 8, 16))])
def test_the_shown_k_are_powers_of_two(most: int, expected: tuple[int, ...]) -> None:
    assert powers_of_two(most) == expected


def counts(problem: int, correct: int, wrong: int, undecided: int = 0) -> AnswerCounts:
    return AnswerCounts(problem, "r1", (), correct, wrong, undecided)


def test_missing_answers_are_wrong_and_undecided_ones_are_left_out() -> None:
    found = compute_figures([counts(1, 2, 0), counts(2, 1, 1, 2), counts(3, 0, 0, 4), counts(4, 0, 0)], 4)
    assert (found.problems, found.correct, found.wrong, found.undecided, found.missing) == (4, 3, 1, 6, 6)
    assert found.pass_at[1].problems == 3
    assert found.pass_at[1].interval.mean == pytest.approx((0.5 + 0.5 + 0) / 3)
    assert found.pass_at[2].interval.mean == pytest.approx((5 / 6 + 1 + 0) / 3)
    assert found.pass_at[4].problems == 2
    assert found.pass_at[4].interval.mean == pytest.approx(0.5)
    assert found.pass_at[1].interval.low <= found.pass_at[1].interval.mean <= found.pass_at[1].interval.high


def test_without_a_decided_answer_there_is_no_figure() -> None:
    assert compute_figures([counts(1, 0, 0, 2)], 2).pass_at == {}
    assert compute_figures([], 2).pass_at == {}


@given(st.integers(1, 5_000), st.data())
def test_the_bounds_of_the_interval_are_the_shares_from_which_the_found_one_is_1_96_deviations_away(
    checked: int, data: st.DataObject
) -> None:
    correct = data.draw(st.integers(0, checked))
    low, high = wilson_interval(correct, checked)
    assert 0 <= low <= correct / checked <= high <= 1
    assert high - low > 0
    for bound in (low, high):
        if 0 < bound < 1:
            distance = abs(correct / checked - bound)
            assert distance == pytest.approx(1.959964 * (bound * (1 - bound) / checked) ** 0.5, rel=1e-6, abs=1e-9)


def test_the_interval_of_a_known_example() -> None:
    assert wilson_interval(140, 150) == pytest.approx((0.88159, 0.96345), abs=1e-4)
    assert wilson_interval(10, 10)[0] == pytest.approx(0.7225, abs=1e-4)
    for correct, checked in ((1, 0), (0, 0), (-1, 3), (4, 3)):
        with pytest.raises(ValueError, match="is not a share"):
            wilson_interval(correct, checked)
