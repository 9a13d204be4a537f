"""Scoring: the closing part, which of its tokens are scored, and the score itself
(docs/what-is-computed.md#answer-tokens)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cord_worker.errors import NotFiniteError, RequestError

ANSWER_PLACEHOLDER = "{answer}"


@dataclass(frozen=True, slots=True)
class Closing:
    """Text after the candidate; what is scored is `text[answer_start:answer_end]`, in characters."""

    text: str
    answer_start: int
    answer_end: int


def closing(template: str, answer: str, *, full_stop: bool = False) -> Closing:
    """`template` with `answer` in place of its one `{answer}`; other braces have no effect.

    The answer is scored; with `full_stop` also the text after it (`prover.score_full_stop`).
    Raises RequestError if the answer is blank or the template does not hold the placeholder exactly once.
    """
    if template.count(ANSWER_PLACEHOLDER) != 1:
        raise RequestError(
            f"scoring template {template!r:.120} must hold {ANSWER_PLACEHOLDER} exactly once; "
            "correct prover.scoring_template"
        )
    if not answer.strip():
        raise RequestError("the known answer is blank, so there is nothing to score; give the problem an answer")
    head, _, tail = template.partition(ANSWER_PLACEHOLDER)
    text = head + answer + tail
    return Closing(text, len(head), len(text) if full_stop else len(head) + len(answer))


def answer_positions(offsets: Sequence[tuple[int, int]], start: int, end: int) -> list[int]:
    """Indices of the tokens that overlap the characters `start` to `end`; `offsets` are character spans.

    Raises RequestError if there is none (M = 0).
    """
    positions = [index for index, (left, right) in enumerate(offsets) if left < end and right > start]
    if not positions:
        raise RequestError(
            "no token of the closing part overlaps the known answer (M = 0): this tokenizer drops it; "
            "use a prover whose tokenizer can encode the answer"
        )
    return positions


def predictive_perplexity(log_prob_sum: float, answer_tokens: int) -> float:
    """`exp((1/M) * Σ_m log p(a_m | x, candidate, a_<m))`: the geometric mean probability of the answer's M tokens.

    It is the inverse perplexity of the *answer*, in (0, 1], higher is better (paper, step 2 of the decoding step). On
    underflow it is 0.0, which makes the candidate unscorable. `log_prob_sum` is the float64 sum of M natural-log
    probabilities. Raises RequestError if M < 1 or the sum is positive, NotFiniteError if it is NaN or infinite.
    """
    if answer_tokens < 1:
        raise RequestError(
            f"the answer has {answer_tokens} tokens: a score needs at least one; check that the known answer "
            "is not empty"
        )
    if math.isnan(log_prob_sum) or log_prob_sum > 0:
        kind = RequestError if math.isfinite(log_prob_sum) else NotFiniteError
        raise kind(
            f"the log-probabilities of the answer sum to {log_prob_sum}: a sum of logarithms of probabilities is at "
            "most 0; check the prover's engine and number format"
        )
    return math.exp(log_prob_sum / answer_tokens)


def mean_probability(log_probabilities: Sequence[float]) -> float:
    """`(1/M) * Σ_m p(a_m | x, candidate, a_<m)`: the arithmetic mean probability of the answer's M tokens, in [0, 1].

    It is the reward of RLPR (arXiv 2506.18254). It is never below `predictive_perplexity` of the same tokens, and one
    improbable token lowers it less. `log_probabilities` are natural logarithms; the mean is computed in float64. A
    server may round the logarithm of 1 to just above zero, so the mean is limited to 1. Raises RequestError if there is
    no token, NotFiniteError if a logarithm is NaN or plus infinity.
    """
    if not log_probabilities:
        raise RequestError("the answer has no tokens, so their probabilities have no mean; give the problem an answer")
    if any(math.isnan(value) or value == math.inf for value in log_probabilities):
        raise NotFiniteError(
            "a log-probability of the answer is not a number; check the prover's engine and number format"
        )
    return min(1.0, math.fsum(map(math.exp, log_probabilities)) / len(log_probabilities))
