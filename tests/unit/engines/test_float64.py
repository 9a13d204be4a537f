from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from transformers import AutoModelForCausalLM
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from cord_worker.engines.settings import EngineSettings
from cord_worker.engines.transformers.float64 import keep_float64
from cord_worker.engines.transformers.load_model import load_model


def change_through(module: nn.Module, difference: float) -> float:
    x = torch.linspace(-1, 1, 16, dtype=torch.float64)[None]
    moved = x.clone()
    moved[0, 0] += difference
    return float((module(moved) - module(x)).abs().max().detach())


def test_a_replaced_norm_keeps_digits_that_float32_cannot_hold() -> None:
    for kind in (LlamaRMSNorm, GemmaRMSNorm):
        norm = kind(16).double()
        norm.weight.data.uniform_(0.5, 1.5)
        assert change_through(norm, 1e-12) == 0
        before = norm(torch.ones(1, 16, dtype=torch.float64))
        assert keep_float64(norm)
        assert 1e-13 < change_through(norm, 1e-12) < 1e-11
        torch.testing.assert_close(norm(torch.ones(1, 16, dtype=torch.float64)), before, rtol=1e-6, atol=1e-6)


def test_a_norm_of_an_unknown_kind_is_left_unchanged_and_reported() -> None:
    class OddRMSNorm(LlamaRMSNorm):
        def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
            return super().forward(hidden_states) * 3

    norm = OddRMSNorm(16).double()
    expected = norm(torch.ones(1, 16, dtype=torch.float64))
    assert not keep_float64(norm)
    assert torch.equal(norm(torch.ones(1, 16, dtype=torch.float64)), expected)


def test_the_prepared_model_gives_the_results_of_the_plain_one(
    random_folder: Path, settings_of: Callable[..., EngineSettings]
) -> None:
    prepared = load_model(settings_of(random_folder)).model
    plain = AutoModelForCausalLM.from_pretrained(random_folder, dtype=torch.float64).eval()
    ids = torch.arange(60)[None]
    with torch.no_grad():
        torch.testing.assert_close(prepared(ids).logits, plain(ids).logits, rtol=1e-4, atol=1e-4)
