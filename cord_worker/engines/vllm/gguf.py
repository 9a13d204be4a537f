"""Unpacks GGUF weights, which vLLM cannot read, into a folder in Hugging Face format, once."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import platformdirs
import torch

from cord_worker.engines import loading
from cord_worker.engines.needed_packages import require_gguf
from cord_worker.engines.settings import EngineSettings
from cord_worker.errors import EngineLoadError


def unpacked(settings: EngineSettings, folder: Path, digest: str) -> Path:
    """A folder with the weights of `settings.gguf_file`, unpacked by an earlier call or now. Raises EngineLoadError.

    `digest` is that of the GGUF's folder, so that another file never finds these weights.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    dtype = "float32" if settings.dtype == "auto" else settings.dtype
    home = Path(platformdirs.user_cache_dir("cord-worker")) / "unpacked"
    target = home / f"{digest[:32]}-{dtype}"
    if target.is_dir():
        return target
    require_gguf()
    home.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{digest[:8]}-", dir=home))
    try:
        options = settings.loading_options()
        AutoTokenizer.from_pretrained(folder, **options).save_pretrained(partial)
        model = AutoModelForCausalLM.from_pretrained(folder, **options, **loading.weight_options(settings))
        config = model.config
        if hasattr(config, "quantization_config"):
            del config.quantization_config
        model.to(getattr(torch, dtype)).save_pretrained(partial)
        try:
            partial.rename(target)
        except OSError:  # another process was faster
            if not target.is_dir():
                raise
    except Exception as error:  # transformers and gguf raise whatever they like
        raise EngineLoadError(
            f"{settings.gguf_file!r} of model {settings.path!r} could not be unpacked for vLLM into {str(home)!r}: "
            f"{type(error).__name__}: {error}"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target
