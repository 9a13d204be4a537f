"""Making float64 mean float64.

Models compute their norms in float32 whatever their dtype. In a float64 model that rounding turns a difference of
1e-16 (another batch, another kernel) into one of 1e-8, now and then, and results would depend on who shares a
batch. Norms are therefore replaced by the same formula without the detour, checked against the original first;
rotary angles, which depend on the position alone, are read from a table computed once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn


def keep_float64(model: nn.Module) -> bool:
    """Removes float32 detours of a float64 model; False where some module could not be replaced."""
    complete = True
    for module in list(model.modules()):
        if type(module).__name__.endswith("RMSNorm"):
            complete = _replace_norm(module) and complete
    return complete


def tabulate_rotary(model: nn.Module, positions: int) -> None:
    """Reads cos and sin from a table where they depend on the position alone (not for length-dependent RoPE)."""
    for module in model.modules():
        if type(module).__name__.endswith("RotaryEmbedding") and getattr(module, "rope_type", None) in {
            "default",
            "linear",
            "llama3",
            "yarn",
        }:
            module.forward = _tabulated(module.forward, positions)


def _tabulated(original: Callable[..., Any], positions: int) -> Callable[..., Any]:
    tables: list[tuple[torch.Tensor, torch.Tensor]] = []

    def forward(x: torch.Tensor, position_ids: torch.Tensor, **kwargs: Any) -> Any:
        if kwargs:
            return original(x, position_ids, **kwargs)
        if not tables:
            cos, sin = original(x, torch.arange(positions, device=x.device)[None])
            tables.append((cos[0], sin[0]))
        cos, sin = tables[0]
        return cos[position_ids], sin[position_ids]

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
