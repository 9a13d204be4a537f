"""Keys and values of many sequences, one slot each, written in place.

A `DynamicCache` copies the whole cache at every token and requires rows of equal length. Here each row writes at its
own positions, from 0. So rows of different lengths share a forward, and rows can join and leave.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers.cache_utils import Cache


@dataclass(frozen=True, slots=True)
class KvShape:
    """Sizes of one token's keys and values in every layer."""

    layers: int
    heads: int
    key_dim: int
    value_dim: int
    dtype: torch.dtype
    device: torch.device


@dataclass(frozen=True, slots=True)
class Segment:
    """Keys and values of consecutive tokens: [layers, heads, tokens, dim]."""

    keys: torch.Tensor
    values: torch.Tensor

    @property
    def length(self) -> int:
        """Number of tokens."""
        return self.keys.shape[2]

    @property
    def nbytes(self) -> int:
        """Memory in bytes."""
        return self.keys.nbytes + self.values.nbytes

    def part(self, start: int, end: int) -> Segment:
        """A copy of the tokens `start` to `end`; it keeps no other memory alive."""
        return Segment(self.keys[:, :, start:end].clone(), self.values[:, :, start:end].clone())


class KvSlots(Cache):
    """Slots for `rows` sequences of up to `length` tokens; tensors are [layers, rows, heads, length, dim].

    Before each forward, `open` sets the positions of its tokens. Memory starts as zeros, and reused memory is zeroed
    beyond a row's end (`clear`), because masked tokens get a weight of 0, and 0 times a leftover NaN would be NaN.
    """

    def __init__(self, shape: KvShape, rows: int, length: int) -> None:
        super().__init__(layers=[])
        self._shape = shape
        self.was_asked_for_length = False
        self._keys, self._values = self._zeros(rows, length)
        self._row_index = torch.empty(0, dtype=torch.long)
        self._positions = torch.empty(0, dtype=torch.long)
        self._view = (0, 0)

    def _zeros(self, rows: int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
        shape = self._shape
        size = (shape.layers, rows, shape.heads, length)
        keys = torch.zeros(*size, shape.key_dim, dtype=shape.dtype, device=shape.device)
        values = torch.zeros(*size, shape.value_dim, dtype=shape.dtype, device=shape.device)
        return keys, values

    @property
    def rows(self) -> int:
        """Number of slots."""
        return self._keys.shape[1]

    @property
    def length(self) -> int:
        """Tokens that fit into a slot."""
        return self._keys.shape[3]

    @property
    def nbytes(self) -> int:
        """Memory in bytes."""
        return self._keys.nbytes + self._values.nbytes

    def reserve(self, length: int) -> None:
        """Makes every slot at least `length` long and keeps its content."""
        if length <= self.length:
            return
        keys, values = self._zeros(self._keys.shape[1], max(length, 2 * self.length))
        keys[:, :, :, : self.length] = self._keys
        values[:, :, :, : self.length] = self._values
        self._keys, self._values = keys, values

    def open(self, positions: torch.Tensor, view_length: int) -> None:
        """The next forward will write row r's tokens at `positions[r]` ([rows, tokens]) and read the first
        `view_length` tokens of each slot."""
        self._positions = positions
        self._row_index = torch.arange(positions.shape[0], device=positions.device)[:, None]
        self._view = (positions.shape[0], view_length)

    def put(self, row: int, start: int, segment: Segment) -> int:
        """Copies `segment` into a slot; returns the position after it."""
        end = start + segment.length
        self._keys[:, row, :, start:end] = segment.keys
        self._values[:, row, :, start:end] = segment.values
        return end

    def take(self, row: int, start: int, end: int) -> Segment:
        """A copy of the tokens `start` to `end` of a slot."""
        return Segment(self._keys[:, row], self._values[:, row]).part(start, end)

    def move(self, source: int, target: int, length: int) -> None:
        """Copies a slot's first `length` tokens to another slot."""
        self._keys[:, target, :, :length] = self._keys[:, source, :, :length]
        self._values[:, target, :, :length] = self._values[:, source, :, :length]

    def clear(self, row: int, start: int = 0, end: int | None = None) -> None:
        """Zeroes the tokens `start` to `end` of a slot; by default all."""
        self._keys[:, row, :, start:end].zero_()
        self._values[:, row, :, start:end].zero_()

    def update(
        self,
        key_states: torch.Tensor,
        value_states: torch.Tensor,
        layer_idx: int,
        *_args: Any,
        **_kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Called by the attention layers; `*_states` are [rows, heads, tokens, dim]."""
        rows, length = self._view
        keys, values = self._keys[layer_idx], self._values[layer_idx]
        keys[self._row_index, :, self._positions] = key_states.transpose(1, 2)
        values[self._row_index, :, self._positions] = value_states.transpose(1, 2)
        return keys[:rows, :, :length], values[:rows, :, :length]

    def get_seq_length(self, layer_idx: int = 0) -> int:  # noqa: ARG002
        """Models ask for this to number tokens, although the forward passes positions. A model that uses the result
        would number each row from 0, so the call is recorded."""
        self.was_asked_for_length = True
        return 0
