"""Attention masks for transformers' models: which earlier tokens each layer sees."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

_FULL, _SLIDING, _CHUNKED = "full_attention", "sliding_attention", "chunked_attention"
_WIDTHS = {_SLIDING: "sliding_window", _CHUNKED: "attention_chunk_size"}
"""Kind of layer → the configuration's field with its width in tokens."""


class UnknownLayers(Exception):
    """The model has layers other than attention over earlier tokens; the message names their kinds."""


class Masks:
    """The masks of one model: one tensor if all layers see the same tokens, otherwise one per kind of layer, by name.

    Widths are read from the configuration at every forward, as the model itself does.
    """

    def __init__(self, model: Any) -> None:
        self._config = model.config.get_text_config()
        self._kinds = _kinds(self._config)
        unknown = sorted(set(self._kinds) - {_FULL, *_WIDTHS})
        if unknown:
            raise UnknownLayers(f"layers of kind {', '.join(unknown)}")
        # Eager attention adds the mask to its scores; the other implementations take True and False.
        self._adds = getattr(self._config, "_attn_implementation", None) == "eager"
        self._dtype = model.dtype

    def build(self, positions: torch.Tensor, length: int) -> torch.Tensor | dict[str, torch.Tensor]:
        """Masks [rows, 1, tokens, length] of tokens at `positions` ([rows, tokens]) over the first `length` positions
        of the slots."""
        masks = {kind: self._mask(kind, positions, length) for kind in self._kinds}
        return masks if len(masks) > 1 else next(iter(masks.values()))

    def _mask(self, kind: str, positions: torch.Tensor, length: int) -> torch.Tensor:
        columns, rows = torch.arange(length, device=positions.device), positions[:, :, None]
        sees = columns <= rows
        if kind in _WIDTHS:
            width = getattr(self._config, _WIDTHS[kind])
            sees &= columns > rows - width if kind == _SLIDING else columns // width == rows // width
        sees = sees[:, None]
        if not self._adds:
            return sees
        least = torch.finfo(self._dtype).min
        return torch.zeros(sees.shape, dtype=self._dtype, device=sees.device).masked_fill_(~sees, least)


def _kinds(config: Any) -> list[str]:
    layers = getattr(config, "layer_types", None)
    if layers:
        return sorted(set(layers))
    return [next((kind for kind, name in _WIDTHS.items() if getattr(config, name, None) is not None), _FULL)]


@contextmanager
def narrowed(model: Any, width: int) -> Iterator[None]:
    """Within the `with`, no window is wider than `width` tokens, so that a short text exceeds it."""
    configs = {id(config): config for module in model.modules() if (config := getattr(module, "config", None))}
    before = [
        (config, name, value)
        for config in configs.values()
        for name in _WIDTHS.values()
        if isinstance(value := getattr(config, name, None), int) and value > width
    ]
    try:
        for config, name, _ in before:
            setattr(config, name, width)
        yield
    finally:
        for config, name, value in before:
            setattr(config, name, value)
