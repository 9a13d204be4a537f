"""Chooses the next token of every row of a batch.

A row's choice depends on its own logits, its seed and the number of its tokens, never on the other rows: the noise
is a hash of (seed, position), not a stream that rows share. Everything is float64 and drawn by inverting the
cumulative distribution in token order, so that a difference in the last bits cannot reorder near ties.

Order: repetition penalty over prompt and generated tokens (as in vLLM and transformers), temperature, top_k, top_p
among the tokens that top_k keeps, min_p relative to the most likely token. Tokens tied with the last kept one are also
kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MULTIPLIERS = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_SHORTLIST = 64
"""Tokens examined before the whole vocabulary is sorted for top_p."""

UInt64Array = npt.NDArray[np.uint64]


def uniforms(seeds: UInt64Array, positions: UInt64Array) -> npt.NDArray[np.float64]:
    """One number in [0, 1) per row: SplitMix64 of the seed's hash advanced by the position."""
    with np.errstate(over="ignore"):
        state = _mixed(_mixed(seeds + _GOLDEN) + (positions + np.uint64(1)) * _GOLDEN)
    return (state >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mixed(state: UInt64Array) -> UInt64Array:
    state = (state ^ (state >> np.uint64(30))) * _MULTIPLIERS[0]
    state = (state ^ (state >> np.uint64(27))) * _MULTIPLIERS[1]
    mixed: UInt64Array = state ^ (state >> np.uint64(31))
    return mixed


@dataclass(frozen=True, slots=True)
class RowSampling:
    """Sampling settings of one row; see `protocol.Sampling`."""

    temperature: float
    top_p: float
    top_k: int
    min_p: float
    repetition_penalty: float
    seed: int


class BatchSampler:
    """The settings of a batch's rows as tensors; valid as long as the rows stay the same."""

    def __init__(self, rows: Sequence[RowSampling], device: torch.device) -> None:
        def column(values: list[float]) -> torch.Tensor:
            return torch.tensor(values, dtype=torch.float64, device=device)[:, None]

        self._seeds = np.array([row.seed % 2**64 for row in rows], dtype=np.uint64)
        self._greedy = torch.tensor([row.temperature == 0 for row in rows], device=device)
        self._any_greedy = any(row.temperature == 0 for row in rows)
        self._all_greedy = all(row.temperature == 0 for row in rows)
        self._temperature = column([row.temperature or 1.0 for row in rows])
        self._top_p = column([row.top_p for row in rows])
        self._min_p = column([row.min_p for row in rows])
        self._penalty = column([row.repetition_penalty for row in rows])
        self._top_k = [row.top_k for row in rows]
        self._has_top_p = any(row.top_p < 1 for row in rows)
        self._has_min_p = any(row.min_p > 0 for row in rows)
        self.needs_seen = any(row.repetition_penalty != 1 for row in rows)

    def choose(self, logits: torch.Tensor, lengths: Sequence[int], seen: torch.Tensor | None) -> torch.Tensor:
        """Next token of each row, [rows]; `logits` is [rows, vocabulary], and `lengths` are the numbers of tokens
        generated so far.

        `seen` ([rows, vocabulary], bool) marks the tokens to which the repetition penalty applies.
        """
        logits = logits.double()
        if seen is not None:
            penalised = torch.where(logits > 0, logits / self._penalty, logits * self._penalty)
            logits = torch.where(seen, penalised, logits)
        if self._all_greedy:
            return logits.argmax(-1)
        probabilities = torch.softmax(logits / self._temperature, -1)
        threshold = self._thresholds(probabilities)
        if threshold is not None:
            probabilities = torch.where(probabilities >= threshold, probabilities, 0.0)
        cumulative = probabilities.cumsum(-1)
        total = cumulative[:, -1:]
        noise = uniforms(self._seeds, np.array(lengths, dtype=np.uint64))
        target = torch.from_numpy(noise).to(logits.device)[:, None] * total
        target = torch.minimum(target, torch.nextafter(total, torch.zeros_like(total)))
        chosen = torch.searchsorted(cumulative, target, right=True)[:, 0]
        return torch.where(self._greedy, logits.argmax(-1), chosen) if self._any_greedy else chosen

    def _thresholds(self, probabilities: torch.Tensor) -> torch.Tensor | None:
        """Least probability that is kept, [rows, 1]; None if every token is kept."""
        largest_k = max(self._top_k)
        if not (self._has_top_p or self._has_min_p or largest_k):
            return None
        vocabulary = probabilities.shape[-1]
        width = min(vocabulary, max(_SHORTLIST if self._has_top_p else 1, largest_k))
        top = probabilities.topk(width, dim=-1).values
        ranks = torch.arange(width, device=top.device)
        limits = torch.tensor([min(k, width) if k else vocabulary for k in self._top_k], device=top.device)[:, None]
        kept = torch.where(ranks < limits, top, 0.0)
        threshold = torch.zeros_like(top[:, :1])
        if largest_k:
            last = torch.gather(top, 1, limits.clamp(max=width) - 1)
            threshold = torch.where(limits <= width, last, threshold)
        if self._has_top_p:
            threshold = torch.maximum(threshold, self._nucleus(probabilities, kept, limits))
        if self._has_min_p:
            threshold = torch.maximum(threshold, self._min_p * top[:, :1])
        return threshold

    def _nucleus(self, probabilities: torch.Tensor, kept: torch.Tensor, limits: torch.Tensor) -> torch.Tensor:
        """Least probability in the smallest set of tokens that has the share top_p of what top_k keeps, [rows, 1].

        `kept` are the largest probabilities that top_k keeps, `limits` is the number of tokens that it keeps in each
        row.
        """
        width = kept.shape[-1]
        bounded = limits <= width  # rows with a top_k
        mass = torch.where(bounded, kept.sum(-1, keepdim=True), 1.0)
        wanted = self._top_p * mass
        cumulative = kept.cumsum(-1)
        reached = cumulative >= wanted
        position = reached.int().argmax(-1, keepdim=True)
        threshold = torch.gather(kept, 1, position)
        threshold = torch.where(reached.any(-1, keepdim=True), threshold, 0.0)
        threshold = torch.where((self._top_p >= 1) | (bounded & ~reached.any(-1, keepdim=True)), 0.0, threshold)
        # Rows whose set is larger than `kept`: the whole vocabulary is sorted.
        wide = (~reached.any(-1, keepdim=True) & ~bounded & (self._top_p < 1))[:, 0]
        if width < probabilities.shape[-1] and bool(wide.any()):
            everything = probabilities[wide].sort(dim=-1, descending=True).values
            position = (everything.cumsum(-1) >= wanted[wide]).int().argmax(-1, keepdim=True)
            threshold[wide] = torch.gather(everything, 1, position)
        return threshold
