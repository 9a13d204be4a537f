"""The output head of a model, computed only at the positions whose logits are needed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

_FLOAT64_ROWS = 64
"""Positions turned into float64 log-probabilities at once."""


class OutputHead:
    """Limits a forward's logits to some positions, because the logits of every token, at a vocabulary of 150 k, would
    fill memory."""

    def __init__(self, model: Any) -> None:
        self._head = model.get_output_embeddings()
        self._chosen: tuple[torch.Tensor, torch.Tensor] | None = None
        self._head.register_forward_pre_hook(self._only_chosen)

    @property
    def vocabulary(self) -> int:
        """Columns of the logits."""
        size: int = self._head.weight.shape[0]
        return size

    @contextmanager
    def only(self, rows: torch.Tensor, columns: torch.Tensor) -> Iterator[None]:
        """Within the `with`, a forward's logits are [positions, 1, vocabulary], only at these positions."""
        self._chosen = rows, columns
        try:
            yield
        finally:
            self._chosen = None

    def _only_chosen(self, _head: Any, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...] | None:
        if self._chosen is None:
            return None
        rows, columns = self._chosen
        return (inputs[0][rows, columns][:, None],)


def log_probabilities(logits: torch.Tensor, targets: torch.Tensor) -> list[float]:
    """Natural-log probability of each row's target, in float64."""
    values: list[float] = []
    for part, wanted in zip(logits.split(_FLOAT64_ROWS), targets.split(_FLOAT64_ROWS), strict=True):  # type: ignore[no-untyped-call]
        values += torch.log_softmax(part.double(), -1).gather(1, wanted[:, None])[:, 0].tolist()
    return values
