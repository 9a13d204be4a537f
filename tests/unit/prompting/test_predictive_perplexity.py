from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cord_worker.errors import NotFiniteError, RequestError
from cord_worker.prompting.scoring import mean_probability, predictive_perplexity


@settings(deadline=None)
@given(st.lists(st.floats(min_value=1e-6, max_value=1.0), min_size=1, max_size=30))
def test_the_score_is_the_geometric_mean_of_the_token_probabilities(probabilities: list[float]) -> None:
    score = predictive_perplexity(math.fsum(map(math.log, probabilities)), len(probabilities))
    assert score == pytest.approx(math.prod(probabilities) ** (1 / len(probabilities)), rel=1e-9)
    assert 0.0 < score <= 1.0


def test_a_longer_answer_of_the_same_token_probability_scores_the_same() -> None:
    assert predictive_perplexity(10 * math.log(0.5), 10) == pytest.approx(predictive_perplexity(math.log(0.5), 1))


def test_a_certain_answer_scores_exactly_one() -> None:
    assert predictive_perplexity(0.0, 3) == 1.0


@pytest.mark.parametrize(
    ("log_prob_sum", "answer_tokens", "told"),
    [
        (-1.0, 0, "needs at least one"),
        (-1.0, -2, "needs at least one"),
        (1e-9, 4, "at most 0"),
        (math.nan, 4, "at most 0"),
        (math.inf, 4, "at most 0"),
    ],
)
def test_an_invalid_log_probability_sum_is_refused(log_prob_sum: float, answer_tokens: int, told: str) -> None:
    with pytest.raises(RequestError, match=told) as caught:
        predictive_perplexity(log_prob_sum, answer_tokens)
    assert isinstance(caught.value, NotFiniteError) != math.isfinite(log_prob_sum)


@pytest.mark.parametrize("log_prob_sum", [-math.inf, -1e6])
def test_an_answer_of_probability_zero_scores_zero(log_prob_sum: float) -> None:
    assert predictive_perplexity(log_prob_sum, 1) == 0.0


PROBABILITIES = st.lists(st.floats(min_value=1e-6, max_value=1.0), min_size=1, max_size=30)


@settings(deadline=None)
@given(PROBABILITIES)
def test_the_mean_probability_is_the_arithmetic_mean_and_not_below_the_geometric_one(
    probabilities: list[float],
) -> None:
    logarithms = list(map(math.log, probabilities))
    mean = mean_probability(logarithms)
    assert mean == pytest.approx(sum(probabilities) / len(probabilities), rel=1e-9)
    assert mean >= predictive_perplexity(math.fsum(logarithms), len(logarithms)) * (1 - 1e-9)
    assert 0.0 < mean <= 1.0


def test_one_improbable_token_lowers_the_mean_probability_less_than_the_score() -> None:
    logarithms = [0.0, 0.0, 0.0, -30.0]
    assert mean_probability(logarithms) == pytest.approx(0.75)
    assert predictive_perplexity(sum(logarithms), 4) < 0.001


def test_a_token_of_probability_zero_is_a_part_of_the_mean() -> None:
    assert mean_probability([0.0, -math.inf]) == 0.5


def test_logarithms_that_a_server_rounded_above_zero_give_a_mean_of_one_at_most() -> None:
    assert mean_probability([0.004, -0.0001]) == 1.0


@pytest.mark.parametrize("logarithms", [[], [-1.0, math.nan], [math.inf]])
def test_probabilities_without_a_mean_are_refused(logarithms: list[float]) -> None:
    with pytest.raises(RequestError) as caught:
        mean_probability(logarithms)
    assert isinstance(caught.value, NotFiniteError) == bool(logarithms)
