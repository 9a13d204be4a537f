"""Keeps a float64 model in float64 throughout.

Models compute their norms in float32 whatever their dtype. In a float64 model that rounding can turn a difference of
1e-16 (another batch, another kernel) into one of 1e-8, and results would depend on the other requests in a batch.
Norms are therefore replaced by the same formula in float64, which is first checked against the original. Rotary
angles that depend on the position alone are read from a table that is computed once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn


def keep_float64(model: nn.Module) -> bool:
    """Removes the float32 steps of a float64 model; returns False if some module could not be replaced."""
    complete = True
    for module in list(model.modules()):
        if type(module).__name__.endswith("RMSNorm"):
            complete = _replace_norm(module) and complete
    return complete


_BY_POSITION = {"default", "linear", "llama3", "yarn"}
"""Kinds of RoPE whose angles depend on the position alone."""


def tabulate_rotary(model: nn.Module, positions: int) -> None:
    """Makes the model read cos and sin of up to `positions` positions from a table, if its kind of RoPE is in
    `_BY_POSITION`."""
    for module in model.modules():
        kinds = getattr(module, "rope_type", None)
        known = set(kinds.values() if isinstance(kinds, dict) else [kinds])  # a dict: one entry per kind of layer
        if type(module).__name__.endswith("RotaryEmbedding") and known <= _BY_POSITION:
            module.forward = _tabulated(module.forward, positions)


def _tabulated(original: Callable[..., Any], positions: int) -> Callable[..., Any]:
    tables: dict[Any, Any] = {}

    def forward(x: torch.Tensor, position_ids: torch.Tensor, layer_type: str | None = None, **kwargs: Any) -> Any:
        layer = {} if layer_type is None else {"layer_type": layer_type}
        if kwargs or position_ids.dim() != 2:  # models that read images have three positions per token
            return original(x, position_ids, **layer, **kwargs)
        if layer_type not in tables:
            found = original(x, torch.arange(positions, device=x.device)[None], **layer)
            # Either cos and sin, or both in one complex number.
            tables[layer_type] = found[0] if isinstance(found, torch.Tensor) else tuple(part[0] for part in found)
        table = tables[layer_type]
        return table[position_ids] if isinstance(table, torch.Tensor) else tuple(part[position_ids] for part in table)

    return forward


def _replace_norm(module: nn.Module) -> bool:
    weight = getattr(module, "weight", None)
    epsilon = getattr(module, "variance_epsilon", getattr(module, "eps", None))
    if not isinstance(weight, torch.Tensor) or not isinstance(epsilon, float):
        return False
    original = module.forward
    for shift in (0.0, 1.0):  # Gemma's norms multiply by 1 + weight

        def forward(x: torch.Tensor, shift: float = shift) -> torch.Tensor:
            scale = weight + shift if shift else weight
            return nn.functional.rms_norm(x, (x.shape[-1],), scale, epsilon)

        probe = torch.linspace(-2, 2, 3 * weight.shape[-1], dtype=weight.dtype, device=weight.device)
        probe = probe.view(3, -1)
        with torch.no_grad():
            if torch.allclose(forward(probe), original(probe), rtol=1e-5, atol=1e-6):
                module.forward = forward
                return True
    return False
