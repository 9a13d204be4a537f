"""Rotary positions whose angles depend on the length of the whole text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


class LengthDependence:
    """The lengths at which one model's angles change. Only RoPE of the kinds `longrope` and `dynamic` has such lengths.

    transformers takes the length from the last position of a forward. A text that shares a forward with a longer one
    would therefore get other angles than alone, and cached keys would have the old angles.
    """

    def __init__(self, model: Any) -> None:
        self._dynamic: list[tuple[Any, str]] = []
        self.limit: int | None = None
        """Maximum number of tokens for which the angles stay the same; None if they always do."""
        for module, prefix, kind, limit in _embeddings(model):
            self.limit = limit if self.limit is None else min(self.limit, limit)
            if kind != "longrope":
                self._dynamic.append((module, prefix))

    def regime(self, length: int) -> int:
        """A number for the angles of a text of `length` tokens: equal numbers mean equal angles."""
        if self.limit is None or length <= self.limit:
            return 0
        return length if self._dynamic else 1

    def forget(self) -> None:
        """Resets the angles that a longer text has left in the model: `dynamic` keeps those of the longest length."""
        for module, prefix in self._dynamic:
            original = getattr(module, f"{prefix}original_inv_freq")
            module.register_buffer(f"{prefix}inv_freq", original, persistent=False)
            setattr(module, f"{prefix}max_seq_len_cached", module.original_max_seq_len)


def _embeddings(model: Any) -> Iterator[tuple[Any, str, str, int]]:
    """Module, prefix of its attributes, kind and limit of every embedding that depends on the length."""
    for module in model.modules():
        kinds = getattr(module, "rope_type", None)
        by_layer = kinds if isinstance(kinds, dict) else {None: kinds}
        for layer, kind in by_layer.items():
            if not isinstance(kind, str) or not ("dynamic" in kind or kind == "longrope"):
                continue
            parameters = getattr(module.config, "rope_parameters", None) or {}
            parameters = parameters.get(layer, parameters)
            own = parameters.get("original_max_position_embeddings") if kind == "longrope" else None
            yield module, "" if layer is None else f"{layer}_", kind, int(own or module.original_max_seq_len)
