"""One family of each mechanism through the contract of `cordctl bench families`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from cord_worker.bench.families import FLOORS, ROUNDINGS, ScoreComparison, TextComparison, measure_families
from cord_worker.bench.family_models import FAMILIES, write_family
from cord_worker.engines.transformers.hosting import Mode
from cord_worker.engines.transformers.hosting_prediction import reason_against_batches
from cord_worker.errors import EngineLoadError

pytestmark = pytest.mark.slow

CACHED = {
    "Gemma 3 (with images)": "RoPE by layer, windows",
    "Mistral (sliding window)": "windows",
    "DeepSeek V3": "latent attention",
    "gpt-oss": "sinks",
}
REFUSED = {
    "T5 (encoder-decoder)": "encoder with a decoder",
    "BERT (encoder)": "lack 7 of its weights",
    "BERT written as a decoder": "reads what comes after a token",
    "GPTQ without its package": r"quantised \(gptq\), which cannot be read here",
    "AWQ without its package": r"quantised \(awq\), which cannot be read here",
    "bitsandbytes without its package": r"quantised \(bitsandbytes\), which cannot be read here",
    "compressed-tensors without its package": r"quantised \(compressed-tensors\), which cannot be read here",
    "Files that lack weights": "lack 18 of its weights",
}
SINGLE = {"Falcon-H1": "a hybrid", "Bloom": "ALiBi", "Phi-3 (longrope)": "length-dependent RoPE", "Llama 4": "chunks"}


@pytest.mark.parametrize("name", [*CACHED, *SINGLE])
@pytest.mark.long
def test_scores_of_a_family_equal_those_of_a_plain_forward(name: str) -> None:
    (found,) = measure_families([name], lambda _: None)
    assert found.hosted
    assert found.as_meant, found
    assert found.difference is not None
    assert found.noise is not None
    assert found.difference <= FLOORS[torch.float32] + ROUNDINGS * found.noise
    assert 0 < found.noise < 1e-3
    assert found.texts_equal is True
    assert found.texts_compared == 5
    assert found.tokens_compared >= 5
    assert found.mode == (Mode.CACHED if name in CACHED else Mode.SINGLE)
    assert bool(found.reason) is (name in SINGLE)


def test_a_model_with_experts_may_differ_by_its_own_noise_in_bfloat16() -> None:
    """The noise comes from many nudged forwards: only some send a token to another expert, as rounding may in the
    engine. A single one could miss that."""
    (found,) = measure_families(["OLMoE"], lambda _: None)
    assert found.as_meant, found
    assert found.bfloat16_noise is not None
    assert found.bfloat16_difference is not None
    assert found.bfloat16_noise > FLOORS[torch.bfloat16]
    assert found.bfloat16_difference <= FLOORS[torch.bfloat16] + ROUNDINGS * found.bfloat16_noise


@pytest.mark.parametrize(
    ("difference", "noise", "is_within"),
    [(0.09, 0.0, True), (0.11, 0.0, False), (0.69, 0.3, True), (0.71, 0.3, False), (float("inf"), 0.3, False)],
)
def test_a_difference_may_be_twice_the_noise_and_the_floor(difference: float, noise: float, is_within: bool) -> None:
    assert ScoreComparison(difference, noise).is_within(torch.bfloat16) is is_within


@pytest.mark.parametrize(
    ("compared", "equal"),
    [
        (TextComparison(0, 0, 0), None),
        (TextComparison(5, 0, 0), None),
        (TextComparison(5, 60, 0), True),
        (TextComparison(5, 60, 1), False),
    ],
)
def test_texts_count_as_equal_only_if_some_were_compared(compared: TextComparison, equal: bool | None) -> None:
    assert compared.equal is equal


@pytest.mark.parametrize("name", [family.name for family in FAMILIES if family.refused])
def test_a_model_that_cannot_be_hosted_is_refused_with_the_reason(name: str) -> None:
    (found,) = measure_families([name], lambda _: None)
    assert not found.hosted
    assert re.search(REFUSED[name], found.reason), found.reason
    assert found.texts_equal is None
    assert found.texts_compared == 0


@pytest.mark.parametrize(
    ("name", "reason"), [("T5", "encoder with a decoder"), ("GPTQ", "optimum"), ("AWQ", "gptqmodel")]
)
def test_doctor_refuses_by_the_configuration_alone(name: str, reason: str, tmp_path: Path) -> None:
    write_family(next(family for family in FAMILIES if family.name.startswith(name)), tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(EngineLoadError, match=reason):
        reason_against_batches(tmp_path, "m", None, trust_remote_code=False)


def test_doctor_names_models_that_will_be_computed_one_text_at_a_time(tmp_path: Path) -> None:
    write_family(next(family for family in FAMILIES if family.name.startswith("Phi-3 (longrope")), tmp_path)
    assert "256" in reason_against_batches(tmp_path, "m", None, trust_remote_code=False)
    assert reason_against_batches(tmp_path, "m", 256, trust_remote_code=False) == ""
