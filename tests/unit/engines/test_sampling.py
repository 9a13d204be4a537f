from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cord_worker.engines.transformers.sampler import BatchSampler, RowSampling, uniforms

CPU = torch.device("cpu")
LOGITS = torch.log(torch.tensor([0.1, 0.4, 0.05, 0.3, 0.15], dtype=torch.float64))


def row(seed: int = 0, **changes: Any) -> RowSampling:
    plain = {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
    return RowSampling(**{**plain, **changes}, seed=seed)


def chosen(logits: torch.Tensor, count: int = 2000, seen: torch.Tensor | None = None, **changes: Any) -> torch.Tensor:
    """Shares of the tokens over `count` seeds."""
    sampler = BatchSampler([row(seed, **changes) for seed in range(count)], CPU)
    tokens = sampler.choose(logits.expand(count, -1), [0] * count, seen)
    return torch.bincount(tokens, minlength=logits.shape[-1]) / count


def test_the_noise_is_uniform_and_differs_between_seeds_and_positions() -> None:
    seeds = np.repeat(np.arange(300, dtype=np.uint64), 100)
    positions = np.tile(np.arange(100, dtype=np.uint64), 300)
    noise = uniforms(seeds, positions)
    assert len(np.unique(noise)) == len(noise)
    assert noise.min() >= 0
    assert noise.max() < 1
    counts, _ = np.histogram(noise, bins=20, range=(0, 1))
    assert abs(counts - 1500).max() < 200


def test_adjacent_seeds_are_not_shifted_copies() -> None:
    positions = np.arange(50, dtype=np.uint64)
    streams = [uniforms(np.full(50, seed, dtype=np.uint64), positions) for seed in (7, 8)]
    assert not np.isin(streams[0], streams[1]).any()


def test_tokens_are_drawn_as_often_as_their_probabilities_say() -> None:
    assert chosen(LOGITS).tolist() == pytest.approx([0.1, 0.4, 0.05, 0.3, 0.15], abs=0.04)


def test_temperature_zero_takes_the_most_likely_token() -> None:
    assert chosen(LOGITS, temperature=0.0)[1] == 1


def test_top_k_keeps_the_k_most_likely_tokens() -> None:
    assert chosen(LOGITS, top_k=2).nonzero().flatten().tolist() == [1, 3]


@pytest.mark.parametrize(
    ("top_p", "kept"), [(0.3, [1]), (0.4, [1]), (0.6, [1, 3]), (0.84, [1, 3, 4]), (0.9, [0, 1, 3, 4])]
)
def test_top_p_keeps_the_smallest_set_that_reaches_it(top_p: float, kept: list[int]) -> None:
    assert chosen(LOGITS, top_p=top_p - 1e-9).nonzero().flatten().tolist() == kept


def test_top_p_counts_only_tokens_that_top_k_left() -> None:
    assert chosen(LOGITS, top_k=2, top_p=0.57).nonzero().flatten().tolist() == [1]
    assert chosen(LOGITS, top_k=2, top_p=0.58).nonzero().flatten().tolist() == [1, 3]


def test_min_p_is_relative_to_the_most_likely_token() -> None:
    assert chosen(LOGITS, min_p=0.5).nonzero().flatten().tolist() == [1, 3]


def test_a_flat_distribution_wider_than_the_shortlist_keeps_its_nucleus() -> None:
    logits = torch.linspace(0, -0.5, 1000, dtype=torch.float64)
    probabilities = torch.softmax(logits, -1)
    size = int((probabilities.cumsum(-1) < 0.5).sum()) + 1
    kept = chosen(logits, count=4000, top_p=0.5).nonzero().flatten()
    assert kept.max() < size
    assert kept.max() > 0.97 * size


def test_the_repetition_penalty_lowers_seen_tokens_only() -> None:
    logits = torch.tensor([1.0, 1.0, -1.0, -1.0], dtype=torch.float64)
    seen = torch.tensor([[True, False, True, False]])
    shares = chosen(logits, seen=seen, repetition_penalty=2.0)
    expected = torch.softmax(torch.tensor([0.5, 1.0, -2.0, -1.0]), -1)
    assert shares.tolist() == pytest.approx(expected.tolist(), abs=0.04)


ROWS = st.builds(
    row,
    seed=st.integers(0, 2**64 - 1),
    temperature=st.sampled_from([0.0, 0.3, 1.0, 5.0]),
    top_p=st.sampled_from([0.1, 0.5, 0.95, 1.0]),
    top_k=st.sampled_from([0, 1, 3, 500]),
    min_p=st.sampled_from([0.0, 0.1, 1.0]),
)


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(ROWS, min_size=1, max_size=6), vocabulary=st.sampled_from([5, 100]), case=st.integers(0, 100))
def test_a_rows_choice_is_the_same_alone_and_in_any_batch(rows: list[RowSampling], vocabulary: int, case: int) -> None:
    torch.manual_seed(case)
    logits = torch.randn(len(rows), vocabulary, dtype=torch.float64) * 3
    lengths = list(range(len(rows)))
    together = BatchSampler(rows, CPU).choose(logits, lengths, None).tolist()
    alone = [
        BatchSampler([one], CPU).choose(logits[index : index + 1], [lengths[index]], None).item()
        for index, one in enumerate(rows)
    ]
    assert together == alone


def reference_choice(logits: torch.Tensor, settings_: RowSampling, noise: float) -> int:
    """The same rules, one row, written plainly."""
    if settings_.temperature == 0:
        return int(logits.argmax())
    probabilities = torch.softmax(logits / settings_.temperature, -1)
    order = probabilities.argsort(descending=True).tolist()
    if settings_.top_k:
        order = order[: settings_.top_k]
    mass = sum(probabilities[token].item() for token in order)
    kept: list[int] = []
    total = 0.0
    for token in order:
        if settings_.top_p < 1 and total >= settings_.top_p * mass:
            break
        kept.append(token)
        total += probabilities[token].item()
    kept = sorted(token for token in kept if probabilities[token] >= settings_.min_p * probabilities.max())
    total = sum(probabilities[token].item() for token in kept)
    cumulative = 0.0
    for token in kept:
        cumulative += probabilities[token].item()
        if noise * total < cumulative:
            return token
    return kept[-1]


@settings(max_examples=60, deadline=None)
@given(one=ROWS, vocabulary=st.sampled_from([5, 100]), case=st.integers(0, 1000))
def test_a_choice_follows_the_rules_written_plainly(one: RowSampling, vocabulary: int, case: int) -> None:
    torch.manual_seed(case)
    logits = torch.randn(vocabulary, dtype=torch.float64) * 3
    noise = uniforms(np.array([one.seed], dtype=np.uint64), np.array([case], dtype=np.uint64))[0]
    assert BatchSampler([one], CPU).choose(logits[None], [case], None).item() == reference_choice(logits, one, noise)
