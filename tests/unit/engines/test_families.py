"""One family of each mechanism through the contract of `cordctl bench families`."""

from __future__ import annotations

from pathlib import Path

import pytest

from cord_worker.bench.families import FLOAT32, measure_families
from cord_worker.bench.family_models import FAMILIES, write_family
from cord_worker.engines.transformers.foreseen_model import foresee
from cord_worker.engines.transformers.hosting import Mode
from cord_worker.errors import EngineLoadError

CACHED = {
    "Gemma 3 (with images)": "RoPE by layer, windows",
    "Mistral (sliding window)": "windows",
    "DeepSeek V3": "latent attention",
    "gpt-oss": "sinks",
}
SINGLE = {"Falcon-H1": "a hybrid", "Bloom": "ALiBi", "Phi-3 (longrope)": "length-dependent RoPE", "Llama 4": "chunks"}


@pytest.mark.parametrize("name", [*CACHED, *SINGLE])
def test_scores_of_a_family_are_those_of_a_plain_forward(name: str) -> None:
    (found,) = measure_families([name], lambda _: None)
    assert found.hosted
    assert found.as_meant, found
    assert found.difference is not None
    assert found.difference <= FLOAT32
    assert found.mode == (Mode.CACHED if name in CACHED else Mode.SINGLE)
    assert bool(found.reason) is (name in SINGLE)


@pytest.mark.parametrize("name", [family.name for family in FAMILIES if family.refused])
def test_what_cannot_be_hosted_is_refused_with_the_reason(name: str) -> None:
    (found,) = measure_families([name], lambda _: None)
    assert not found.hosted
    assert found.reason


@pytest.mark.parametrize(
    ("name", "reason"), [("T5", "encoder with a decoder"), ("GPTQ", "optimum"), ("AWQ", "gptqmodel")]
)
def test_doctor_knows_from_the_configuration_alone(name: str, reason: str, tmp_path: Path) -> None:
    write_family(next(family for family in FAMILIES if family.name.startswith(name)), tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(EngineLoadError, match=reason):
        foresee(tmp_path, "m", None, trust_remote_code=False)


def test_doctor_says_what_will_be_computed_one_text_at_a_time(tmp_path: Path) -> None:
    write_family(next(family for family in FAMILIES if family.name.startswith("Phi-3 (longrope")), tmp_path)
    assert "256" in foresee(tmp_path, "m", None, trust_remote_code=False)
    assert foresee(tmp_path, "m", 256, trust_remote_code=False) == ""
