"""Runs forwards of one model over rows of different lengths, and shares the prompts' keys and values between rows.

This module knows nothing of requests, threads or text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from cord_worker.engines.protocol import Ids
from cord_worker.engines.transformers.kv_slots import KvShape, KvSlots, Segment
from cord_worker.engines.transformers.masks import Masks
from cord_worker.engines.transformers.output_head import OutputHead, log_probabilities
from cord_worker.engines.transformers.prefix_cache import PrefixCache, PrefixNode

_FORWARD_TOKENS = 8_192
"""Maximum number of tokens of one forward, padding included; it bounds activations and masks."""
_FORWARD_TOKENS_CPU = 1_024
"""The same on a CPU: wider forwards gain nothing there and exceed its caches."""
_PADDING = 1 / 4
"""Largest share of padding among a forward's tokens, if it has more than one row."""
_LOGIT_ROWS = 512
"""Maximum number of logit rows of a forward: with a vocabulary of 150 k each takes 0.3 MB in bfloat16."""
_SCRATCH_BYTES = 128 * 2**20
"""Up to this size, memory for keys and values is kept for the next forward: fresh memory costs a page fault every
4 KiB."""


@dataclass(frozen=True, slots=True)
class Extension:
    """A row to compute: `ids` after the tokens of `past`. `select` holds indices of `ids`; for each, the
    log-probability that the token in `targets` comes next is computed."""

    past: Sequence[PrefixNode]
    ids: Ids
    select: tuple[int, ...] = ()
    targets: tuple[int, ...] = ()

    @property
    def past_length(self) -> int:
        """Tokens before `ids`."""
        return sum(len(node.ids) for node in self.past)


@dataclass(frozen=True, slots=True)
class Extended:
    """Result of an `Extension`: keys and values of its ids, and its targets' natural-log probabilities."""

    segment: Segment
    log_probabilities: list[float]


@dataclass(frozen=True, slots=True)
class ScoreTask:
    """A candidate's pieces, the closing part's ids and the indices of the answer's tokens in it."""

    pieces: tuple[Ids, ...]
    closing: Ids
    answer: tuple[int, ...]


@dataclass(slots=True)
class Prefix:
    """A prompt's nodes; `cached` is the number of its tokens that were not computed for it."""

    nodes: list[PrefixNode]
    cached: int


class ModelRunner:
    """One loaded model. All methods must be called from the same thread."""

    def __init__(
        self, model: Any, head: OutputHead, shape: KvShape, masks: Masks, max_length: int, prefix_cache_bytes: int
    ) -> None:
        self._model = model
        self._head = head
        self._shape = shape
        self._masks = masks
        self._max_length = max_length
        self._cache_bytes = prefix_cache_bytes
        self.numbers_by_cache = False
        """True if the model asked the cache for the number of earlier tokens, which differs from row to row."""
        self._cache = PrefixCache(prefix_cache_bytes)
        self._scratch = KvSlots(shape, 0, 0)
        self._forward_tokens = _FORWARD_TOKENS_CPU if shape.device.type == "cpu" else _FORWARD_TOKENS

    @property
    def device(self) -> torch.device:
        """The device of the model."""
        return self._shape.device

    @property
    def vocabulary(self) -> int:
        """Columns of the logits."""
        return self._head.vocabulary

    def slots(self, rows: int, length: int) -> KvSlots:
        """Empty slots for decoding."""
        return KvSlots(self._shape, rows, length)

    @torch.inference_mode()
    def decode(self, slots: KvSlots, tokens: torch.Tensor, positions: torch.Tensor, longest: int) -> torch.Tensor:
        """Logits [rows, vocabulary] after one more token in each of the slots 0 to rows - 1. `longest` is the number of
        tokens in the longest slot, this one included."""
        slots.open(positions[:, None], longest)
        return self._forward(tokens[:, None], positions[:, None], longest, slots)[:, 0]

    @torch.inference_mode()
    def prefixes(self, prompts: Sequence[Sequence[Ids]]) -> list[Prefix]:
        """Keys and values of whole prompts; parts that several prompts share are computed once.

        Computes in waves: each wave extends every distinct unfinished prefix by the pieces that all its prompts share.
        """
        prefixes = []
        for prompt in prompts:
            nodes = self._cache.match(prompt)
            prefixes.append(Prefix(nodes, sum(len(node.ids) for node in nodes)))
        while True:
            branches: dict[tuple[int | None, Ids], list[int]] = {}
            for index, (prompt, prefix) in enumerate(zip(prompts, prefixes, strict=True)):
                if len(prefix.nodes) < len(prompt):
                    last = id(prefix.nodes[-1]) if prefix.nodes else None
                    branches.setdefault((last, prompt[len(prefix.nodes)]), []).append(index)
            if not branches:
                return prefixes
            members = list(branches.values())
            chains = [_shared_pieces([prompts[i][len(prefixes[i].nodes) :] for i in group]) for group in members]
            rows = [
                Extension(list(prefixes[group[0]].nodes), tuple(token for piece in chain for token in piece))
                for group, chain in zip(members, chains, strict=True)
            ]
            for group, chain, extended in zip(members, chains, self.extend(rows), strict=True):
                nodes = self._add_chain(prefixes[group[0]].nodes, chain, extended.segment)
                for order, index in enumerate(group):
                    prefixes[index].nodes.extend(nodes)
                    prefixes[index].cached += 0 if order == 0 else sum(map(len, chain))

    def forget(self) -> None:
        """Empties the prefix cache."""
        self._cache = PrefixCache(self._cache_bytes)

    def fill(self, slots: KvSlots, row: int, prefix: Prefix) -> int:
        """Copies a prompt's keys and values into a slot; returns the position after them."""
        position = 0
        for node in prefix.nodes:
            position = slots.put(row, position, node.segment)
        return position

    def trim(self) -> None:
        """Keeps the prefix cache within its bound; call it when no prefix is in use."""
        self._cache.trim()

    @torch.inference_mode()
    def score(self, tasks: Sequence[ScoreTask]) -> list[tuple[list[float], int]]:
        """Natural-log probabilities of each task's answer tokens, in float64, and the number of its cached tokens."""
        parents = self.prefixes([task.pieces[:-1] for task in tasks])
        rows: list[Extension] = []
        rest_lengths: list[int] = []
        for task, parent in zip(tasks, parents, strict=True):
            nodes = self._cache.match(task.pieces)
            if len(nodes) < len(task.pieces):
                nodes = parent.nodes
            else:
                parent.cached += len(task.pieces[-1])
            if task.answer[0] == 0 and len(nodes) == len(task.pieces):
                nodes = nodes[:-1]  # the answer's first token is predicted by the last token of the last piece
            rest = tuple(token for piece in task.pieces[len(nodes) :] for token in piece)
            rest_lengths.append(len(rest))
            select = tuple(len(rest) + position - 1 for position in task.answer)
            targets = tuple(task.closing[position] for position in task.answer)
            rows.append(Extension(list(nodes), rest + task.closing[: task.answer[-1]], select, targets))
        results = []
        for task, row, length, parent, extended in zip(
            tasks, rows, rest_lengths, parents, self.extend(rows), strict=True
        ):
            if length and len(row.past) == len(task.pieces) - 1:
                parent_node = row.past[-1] if row.past else None  # a turn without steps begins a tree
                self._cache.add(parent_node, task.pieces[-1], extended.segment.part(0, length))
            results.append((extended.log_probabilities, parent.cached))
        return results

    def extend(self, rows: Sequence[Extension]) -> list[Extended]:
        """Computes `rows`, grouped by length to limit padding."""
        results: list[Extended | None] = [None] * len(rows)
        order = sorted(range(len(rows)), key=lambda index: (len(rows[index].ids), rows[index].past_length))
        while order:
            group = [order.pop()]
            width = max(1, len(rows[group[0]].ids))
            tokens = width
            while order:
                padded = (len(group) + 1) * width
                tokens += len(rows[order[-1]].ids)
                if padded > self._forward_tokens or tokens < (1 - _PADDING) * padded:
                    break
                group.append(order.pop())
            for index, extended in zip(group, self._extend_group([rows[i] for i in group]), strict=True):
                results[index] = extended
        return [result for result in results if result is not None]

    def _extend_group(self, rows: Sequence[Extension]) -> list[Extended]:
        device = self.device
        width = max(len(row.ids) for row in rows)
        starts = [row.past_length for row in rows]
        furthest = max(starts) + width
        slots = self._scratch_slots(len(rows), furthest)
        for index, row in enumerate(rows):
            position = 0
            for node in row.past:
                position = slots.put(index, position, node.segment)
            slots.clear(index, position + width, furthest)
        ids = torch.tensor([[*row.ids, *[0] * (width - len(row.ids))] for row in rows], device=device)
        positions = torch.tensor(starts, device=device)[:, None] + torch.arange(width, device=device)
        found: list[list[float]] = [[] for _ in rows]
        chunk = max(1, self._forward_tokens // len(rows))
        if sum(len(row.select) for row in rows) > _LOGIT_ROWS:
            chunk = min(chunk, max(1, _LOGIT_ROWS // len(rows)))
        for start in range(0, width, chunk):
            end = min(width, start + chunk)
            longest = max(starts) + end
            here = positions[:, start:end]
            wanted = [
                (index, column - start, target)
                for index, row in enumerate(rows)
                for column, target in zip(row.select, row.targets, strict=True)
                if start <= column < end
            ]
            row_index, column_index, targets = (
                torch.tensor([entry[part] for entry in wanted], dtype=torch.long, device=device) for part in range(3)
            )
            slots.open(here, longest)
            with self._head.only(row_index, column_index):
                logits = self._forward(ids[:, start:end], here, longest, slots)[:, 0]
            for (index, _, _), value in zip(wanted, log_probabilities(logits, targets), strict=True):
                found[index].append(value)
        return [
            Extended(slots.take(index, starts[index], starts[index] + len(row.ids)), found[index])
            for index, row in enumerate(rows)
        ]

    def _scratch_slots(self, rows: int, length: int) -> KvSlots:
        """Slots with undefined content, valid until the next call."""
        scratch = self._scratch
        if scratch.rows < rows or scratch.length < length:
            self._scratch = KvSlots(self._shape, 0, 0)
            scratch = KvSlots(self._shape, max(rows, scratch.rows), max(length, scratch.length))
            if scratch.nbytes <= _SCRATCH_BYTES:
                self._scratch = scratch
        return scratch

    def _forward(self, ids: torch.Tensor, positions: torch.Tensor, length: int, slots: KvSlots) -> torch.Tensor:
        slots.was_asked_for_length = False
        logits: torch.Tensor = self._model(
            input_ids=ids,
            position_ids=positions.clamp(max=self._max_length - 1),  # padding may lie beyond the context
            attention_mask=self._masks.build(positions, length),
            past_key_values=slots,
            use_cache=True,
        ).logits
        self.numbers_by_cache = self.numbers_by_cache or slots.was_asked_for_length
        return logits

    def _add_chain(self, nodes: Sequence[PrefixNode], chain: Sequence[Ids], segment: Segment) -> list[PrefixNode]:
        parent = nodes[-1] if nodes else None
        added: list[PrefixNode] = []
        start = 0
        for piece in chain:
            part = segment.part(start, start + len(piece)) if len(chain) > 1 else segment
            parent = self._cache.add(parent, piece, part)
            added.append(parent)
            start += len(piece)
        return added


def _shared_pieces(prompts: Sequence[Sequence[Ids]]) -> list[Ids]:
    """The longest list of pieces that all `prompts` begin with."""
    shared: list[Ids] = []
    for pieces in zip(*prompts, strict=False):
        if any(piece != pieces[0] for piece in pieces):
            break
        shared.append(pieces[0])
    return shared
