"""Checks from a model's config.json whether it can be hosted, before gigabytes of weights are read."""

from __future__ import annotations

from typing import Any

from transformers import AutoModelForCausalLM
from transformers.quantizers.auto import AutoHfQuantizer

from cord_worker.errors import EngineLoadError


def require_language_model(config: Any, path: str) -> None:
    """Raises EngineLoadError if the model does not generate token by token, or needs a package that is missing."""
    names = list(getattr(config, "architectures", None) or [])
    name = names[0] if names else config.model_type
    if any(each.endswith("Classification") for each in names):  # it would load with a head of random weights
        raise EngineLoadError(
            f"model {path!r} ({name}) is a classifier: it can be neither teacher nor prover; host it with "
            'head = "reward" and name it in [reward]'
        )
    if getattr(config, "is_encoder_decoder", False):
        raise EngineLoadError(
            f"model {path!r} ({name}) is an encoder with a decoder: it does not continue a text, so it can be neither "
            "teacher nor prover; name a causal language model"
        )
    if any(each.endswith(("ForMaskedLM", "ForPreTraining", "EncoderModel")) for each in names):
        raise EngineLoadError(
            f"model {path!r} ({name}) is an encoder, which reads what comes after a token: it can be neither teacher "
            "nor prover; name a causal language model"
        )
    remote = "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {})
    if not remote and type(config) not in AutoModelForCausalLM._model_mapping:
        raise EngineLoadError(
            f"model {path!r} ({name}): transformers has no causal language model of type {config.model_type!r}; name "
            "another one"
        )
    require_packages(config, path)


def require_packages(config: Any, path: str) -> None:
    """Raises EngineLoadError if quantised weights need a package that is missing, or another device."""
    found = getattr(config, "quantization_config", None)
    if found is None and hasattr(config, "get_text_config"):
        found = getattr(config.get_text_config(), "quantization_config", None)
    if not found:
        return
    method = found.get("quant_method") if isinstance(found, dict) else getattr(found, "quant_method", None)
    try:
        AutoHfQuantizer.from_config(found, pre_quantized=True).validate_environment(device_map=None)
    except Exception as error:  # each quantizer raises what it likes
        raise EngineLoadError(
            f"model {path!r} is quantised ({getattr(method, 'value', method)}), which cannot be read here: "
            f"{' '.join(str(error).split())[:300]}"
        ) from error
