"""Loads a model with transformers, onto its device and in its number format."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from cord_worker.engines.config_json_checks import require_language_model
from cord_worker.engines.context_length import max_length_of
from cord_worker.engines.loading import (
    device_of,
    end_tokens_in,
    folder_of,
    weight_options,
    weights_digest_of,
)
from cord_worker.engines.needed_packages import require_gguf
from cord_worker.engines.protocol import Describe, ignore_condition
from cord_worker.engines.settings import EngineSettings
from cord_worker.engines.transformers.float64 import keep_float64, tabulate_rotary
from cord_worker.engines.transformers.load_progress import report_progress
from cord_worker.errors import EngineLoadError


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model ready to compute; `max_length` is its context in tokens, `numerics` the name of its number format."""

    model: Any
    tokenizer: Any
    device: torch.device
    max_length: int
    end_tokens: frozenset[int]
    weights_digest: str
    numerics: str


def load_model(settings: EngineSettings, describe: Describe = ignore_condition) -> LoadedModel:
    """Loads what `settings` name; `describe` receives the progress. Raises EngineLoadError."""
    if settings.gguf_file is not None:
        require_gguf()
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    device = device_of(settings.device)
    folder = folder_of(settings, describe)
    try:
        config = AutoConfig.from_pretrained(folder, **settings.loading_options())
        require_language_model(config, settings.path)
        tokenizer = AutoTokenizer.from_pretrained(folder, **settings.loading_options())
        with report_progress(describe, folder, (".safetensors", ".gguf")):
            model: Any = read_weights(AutoModelForCausalLM, folder, settings)
    except EngineLoadError:
        raise
    except Exception as error:  # transformers, safetensors and remote code raise whatever they like
        raise EngineLoadError(
            f"model {settings.path!r} could not be loaded: {type(error).__name__}: {error}"
        ) from error
    model = on_device(model, device, settings.path)
    config = model.config.get_text_config()
    max_length = max_length_of(settings, config)
    numerics = str(model.dtype).removeprefix("torch.")
    if model.dtype == torch.float64 and not keep_float64(model):
        numerics = "float64-mixed"
    tabulate_rotary(model, max_length)
    return LoadedModel(
        model=model,
        tokenizer=tokenizer,
        device=device,
        max_length=max_length,
        end_tokens=end_tokens_in(getattr(model, "generation_config", None), model.config, tokenizer),
        weights_digest=weights_digest_of(folder, settings.gguf_file),
        numerics=numerics,
    )


def read_weights(kind: Any, folder: Path, settings: EngineSettings) -> Any:
    """The model of `kind` (an `AutoModelFor…`) in `folder`. Raises EngineLoadError if its files lack a weight, which
    transformers would fill with random numbers; other errors of transformers pass through."""
    model, report = kind.from_pretrained(
        folder, **settings.loading_options(), **weight_options(settings), output_loading_info=True
    )
    lacking = sorted({*report.get("missing_keys", ()), *(entry[0] for entry in report.get("mismatched_keys", ()))})
    if lacking:
        raise EngineLoadError(
            f"the files of model {settings.path!r} lack {len(lacking)} of its weights, or have them in another shape "
            f"({', '.join(lacking[:3])}): they are not those of a {type(model).__name__}; correct config.json or fetch "
            "them again"
        )
    return model


def on_device(model: Any, device: torch.device, path: str) -> Any:
    """The model on `device`, ready to compute. Raises EngineLoadError if it does not fit there."""
    try:
        return model.to(device).eval().requires_grad_(False)
    except RuntimeError as error:  # torch.OutOfMemoryError is one
        raise EngineLoadError(
            f"model {path!r} does not fit on device {device} ({' '.join(str(error).split())[:300]}). Free its memory "
            "(nvidia-smi shows which processes hold it), choose another `device`, or a smaller `dtype`."
        ) from error
