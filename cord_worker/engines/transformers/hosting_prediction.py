"""Predicts how a model will be hosted, from its architecture alone: its weights are neither read nor allocated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from cord_worker.engines.config_json_checks import require_language_model
from cord_worker.engines.transformers.masks import Masks, UnknownLayers
from cord_worker.engines.transformers.rotary import LengthDependence
from cord_worker.errors import EngineLoadError


def reason_against_batches(folder: Path, path: str, max_model_len: int | None, *, trust_remote_code: bool) -> str:
    """Why the model will be computed one text at a time; empty if batches seem possible, which is tested when the model
    is loaded. Raises EngineLoadError if the model cannot be hosted."""
    options = {"trust_remote_code": trust_remote_code, "local_files_only": True}
    try:
        config: Any = AutoConfig.from_pretrained(folder, **options)
        require_language_model(config, path)
        with torch.device("meta"):
            kind: Any = AutoModelForCausalLM
            model = kind.from_config(config, trust_remote_code=trust_remote_code)
    except EngineLoadError:
        raise
    except Exception as error:  # transformers and remote code raise whatever they like
        raise EngineLoadError(
            f"model {path!r} could not be built: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
        ) from error
    try:
        Masks(model)
    except UnknownLayers as unknown:
        return str(unknown)
    limit = LengthDependence(model).limit
    length = max_model_len or getattr(config.get_text_config(), "max_position_embeddings", None)
    if limit is not None and (length is None or length > limit):
        return f"its rotary angles change beyond {limit} tokens"
    return ""
