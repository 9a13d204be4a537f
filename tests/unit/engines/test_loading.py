from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from cord_worker.engines import EngineSettings, load_engine
from cord_worker.engines.loading import weights_digest_of
from cord_worker.engines.transformers.load_model import load_model, on_device
from cord_worker.errors import EngineLoadError
from tests.support.settings import engine_settings

SettingsOf = Callable[..., EngineSettings]


def test_a_missing_folder_is_named(settings_of: SettingsOf, tmp_path: Path) -> None:
    with pytest.raises(EngineLoadError, match=r"nowhere.*does not exist"):
        load_engine(settings_of(tmp_path / "nowhere"))


def test_an_unknown_engine_is_named(settings_of: SettingsOf, parrot_folder: Path) -> None:
    with pytest.raises(EngineLoadError, match="no engine 'magic'"):
        load_engine(settings_of(parrot_folder, engine="magic"))


def test_a_hub_model_that_cannot_be_fetched_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(EngineLoadError, match="could not be fetched from the hub"):
        load_model(engine_settings("nobody/no-such-model-of-cord"))


def test_torn_weights_are_refused(settings_of: SettingsOf, parrot_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(parrot_folder, tmp_path / "torn"))
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(EngineLoadError, match="could not be loaded"):
        load_model(settings_of(folder))


def test_a_missing_gguf_file_is_named(settings_of: SettingsOf, parrot_folder: Path) -> None:
    pytest.importorskip("gguf", reason="package gguf is not installed")
    with pytest.raises(EngineLoadError, match=r"no file 'x\.gguf'"):
        load_model(settings_of(parrot_folder, gguf_file="x.gguf"))


def test_a_context_beyond_the_models_own_is_refused(settings_of: SettingsOf, parrot_folder: Path) -> None:
    with pytest.raises(EngineLoadError, match="more than the 256 tokens"):
        load_model(settings_of(parrot_folder, max_model_len=257))


def test_a_device_that_torch_does_not_know_is_named(settings_of: SettingsOf, parrot_folder: Path) -> None:
    with pytest.raises(EngineLoadError, match="toaster"):
        load_model(settings_of(parrot_folder, device="toaster"))


def test_loading_reports_how_much_of_the_files_is_read(settings_of: SettingsOf, parrot_folder: Path) -> None:
    told: list[tuple[str, float | None]] = []

    def describe(condition: str | None, *, since: float | None = None) -> None:
        told.append((str(condition), since))

    load_model(settings_of(parrot_folder), describe)
    size = (parrot_folder / "model.safetensors").stat().st_size
    progress = [re.fullmatch(r"loads its model, (\d+) % of (\d+\.\d) MB", text) for text, _ in told]
    assert all(progress), told
    shares = [int(match[1]) for match in progress if match]
    assert shares[0] == 0
    assert shares[-1] >= 50
    assert shares == sorted(set(shares))
    assert {float(match[2]) for match in progress if match} == {round(size / 1e6, 1)}
    assert len({since for _, since in told}) == 1, "the time counts from the beginning of loading"


def test_every_end_token_of_the_generation_config_ends_a_text(
    fast_tokenizer: PreTrainedTokenizerFast, settings_of: SettingsOf, tmp_path: Path
) -> None:
    fast = fast_tokenizer
    model = LlamaForCausalLM(
        LlamaConfig(vocab_size=410, hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2)
    )
    model.generation_config.eos_token_id = [5, 7]
    model.save_pretrained(tmp_path)
    fast.save_pretrained(tmp_path)
    assert load_model(settings_of(tmp_path)).end_tokens >= {5, 7, fast.eos_token_id}


def test_the_digest_changes_with_weights_and_configuration_only(parrot_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(parrot_folder, tmp_path / "copy"))
    before = weights_digest_of(folder)
    assert before == weights_digest_of(parrot_folder)
    (folder / "README.md").write_text("notes")
    assert weights_digest_of(folder) == before
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    changed = weights_digest_of(folder)
    assert changed != before
    (folder / "generation_config.json").write_text("{}")
    assert weights_digest_of(folder) != changed


def test_a_model_that_does_not_fit_on_its_device_is_named_with_a_remedy() -> None:
    class TooBig(torch.nn.Module):
        def to(self, *_: object, **__: object) -> TooBig:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 64.00 GiB.")

    with pytest.raises(EngineLoadError, match=r"model 'big' does not fit on device cuda.*64\.00 GiB.*nvidia-smi"):
        on_device(TooBig(), torch.device("cuda"), "big")
