from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cord_worker.errors import NotFiniteError, RequestError
from cord_worker.prompting.scoring import predictive_perplexity


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
