"""Estimates of shares: pass@k from samples of a model, and the interval of a share of right answers."""

from __future__ import annotations

import math

NORMAL_QUANTILE = 1.959964
"""The 97.5 % quantile of the normal distribution: the half width of a 95 % interval, in standard deviations."""


def pass_at_k(samples: int, correct: int, k: int) -> float:
    """Probability that of `k` answers drawn from `samples`, of which `correct` are right, at least one is right.

    The unbiased estimator of Chen et al. (2021), "Evaluating Large Language Models Trained on Code", equation 1:
    1 - C(n - c, k) / C(n, k), as a product that neither overflows nor cancels. For k = 1 it is the mean over the
    samples (the paper's Pass@1). Raises ValueError unless 0 <= correct <= samples and 1 <= k <= samples.
    """
    if not (0 <= correct <= samples and 1 <= k <= samples):
        raise ValueError(f"pass@{k} of {samples} samples, {correct} of them correct, is not defined")
    if k > samples - correct:
        return 1.0
    return 1.0 - math.prod(1.0 - k / drawn for drawn in range(samples - correct + 1, samples + 1))


def wilson_interval(correct: int, checked: int) -> tuple[float, float]:
    """The 95 % interval of the share of `correct` among `checked` independent answers, by Wilson's score method (1927).

    Unlike a bootstrap interval, it is wider than 0 even if all answers are right. Raises ValueError unless
    0 <= correct <= checked and checked > 0.
    """
    if not 0 <= correct <= checked or checked == 0:
        raise ValueError(f"{correct} of {checked} is not a share")
    share, weight = correct / checked, NORMAL_QUANTILE**2 / checked
    middle = (share + weight / 2) / (1 + weight)
    half = math.sqrt(share * (1 - share) * weight + (weight / 2) ** 2) / (1 + weight)
    return max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))


def powers_of_two(most: int) -> tuple[int, ...]:
    """1, 2, 4, … up to `most`: the values of k that are shown."""
    return tuple(2**exponent for exponent in range(most.bit_length()))
