"""What loading a model takes: its folder, weights digest, device, tokenizer, end tokens and `from_pretrained` options.

The model is a folder, a hub id or a GGUF file.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoTokenizer, GenerationConfig

from cord_worker.engines.protocol import Describe, ignore_condition
from cord_worker.engines.settings import EngineSettings
from cord_worker.errors import EngineLoadError

_SAMPLE_BYTES = 1 << 20
_WEIGHT_SUFFIXES = {".safetensors", ".gguf", ".bin", ".pt", ".pth"}
_TEXT_SUFFIXES = {".json", ".txt", ".model", ".jinja", ".py"}


def weights_digest_of(folder: Path, gguf_file: str | None = None) -> str:
    """64 hex digits over the names and sizes of a model's files, all bytes of text files and small weight files, and
    the first and last MiB of larger weight files.

    A change between the first and the last MiB is not seen. With `gguf_file`, other weight files are left out.
    Subfolders are ignored.
    """
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix not in _WEIGHT_SUFFIXES | _TEXT_SUFFIXES or not path.is_file():
            continue
        if gguf_file is not None and path.suffix in _WEIGHT_SUFFIXES and path.name != gguf_file:
            continue
        size = path.stat().st_size
        digest.update(f"{path.name}\0{size}\0".encode())
        with path.open("rb") as file:
            if path.suffix in _TEXT_SUFFIXES or size <= 2 * _SAMPLE_BYTES:
                digest.update(file.read())
            else:
                digest.update(file.read(_SAMPLE_BYTES))
                file.seek(-_SAMPLE_BYTES, 2)
                digest.update(file.read())
    return digest.hexdigest()


def device_of(name: str) -> torch.device:
    """The torch device called `name`. Raises EngineLoadError."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise EngineLoadError(f'device {name!r} is asked for, but torch sees no GPU; use device = "cpu" or "auto"')
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise EngineLoadError(f"torch does not know the device {name!r}: {error}") from error


def folder_of(settings: EngineSettings, describe: Describe = ignore_condition) -> Path:
    """The folder of the model's files; they are downloaded first if `path` is a hub id. Raises EngineLoadError."""
    local = Path(settings.path)
    if local.is_dir():
        if settings.gguf_file is not None and not (local / settings.gguf_file).is_file():
            raise EngineLoadError(f"there is no file {settings.gguf_file!r} in {settings.path!r}; correct gguf_file")
        return local
    if local.is_absolute() or settings.path.startswith((".", "~")) or settings.path.count("/") != 1:
        raise EngineLoadError(
            f"model folder {settings.path!r} does not exist; give a folder or a hub id such as owner/name"
        )
    from huggingface_hub import snapshot_download

    patterns = [f"*{suffix}" for suffix in (*_TEXT_SUFFIXES, ".safetensors")]
    if settings.gguf_file is not None:
        patterns = [*(f"*{suffix}" for suffix in _TEXT_SUFFIXES), settings.gguf_file]
    describe("fetches its model's files from the hub")
    try:
        return Path(snapshot_download(settings.path, revision=settings.revision, allow_patterns=patterns))
    except Exception as error:  # the hub client raises its own, requests' and OS errors
        raise EngineLoadError(
            f"model {settings.path!r}{_revision_suffix(settings.revision)} is not a local folder and could not be "
            f"fetched from the hub ({type(error).__name__}: {error}); check the name, the revision, the network, or "
            "download it first"
        ) from error


def _revision_suffix(revision: str | None) -> str:
    return "" if revision is None else f" at revision {revision!r}"


def weight_options(settings: EngineSettings) -> dict[str, Any]:
    """Further arguments of the `from_pretrained` of models."""
    dtype: Any = "auto" if settings.dtype == "auto" else getattr(torch, settings.dtype)
    if settings.gguf_file is None:
        return {"dtype": dtype}
    # Older transformers have no GgufConfig and always dequantise.
    gguf_config = getattr(transformers, "GgufConfig", None)
    dtype = torch.float32 if dtype == "auto" else dtype
    if gguf_config is None:
        return {"dtype": dtype}
    return {"dtype": dtype, "quantization_config": gguf_config(dequantize=True)}


def load_tokenizer(folder: Path, settings: EngineSettings) -> Any:
    """The tokenizer in `folder`. Raises EngineLoadError."""
    try:
        return AutoTokenizer.from_pretrained(
            folder, trust_remote_code=settings.trust_remote_code, local_files_only=True
        )
    except Exception as error:  # transformers and remote code raise whatever they like
        raise EngineLoadError(
            f"the tokenizer of model {settings.path!r} could not be loaded: {type(error).__name__}: {error}"
        ) from error


def end_tokens_of(folder: Path, tokenizer: Any, settings: EngineSettings) -> frozenset[int]:
    """Tokens that end a text, from the model's generation settings, its configuration and its tokenizer."""
    config = AutoConfig.from_pretrained(folder, trust_remote_code=settings.trust_remote_code, local_files_only=True)
    try:
        generation: GenerationConfig | None = GenerationConfig.from_pretrained(folder, local_files_only=True)
    except OSError:  # a model may lack this file
        generation = None
    return end_tokens_in(generation, config.get_text_config(), tokenizer)


def end_tokens_in(*sources: Any) -> frozenset[int]:
    """The tokens in `eos_token_id` (a number or a list) of all sources; a source without it has none."""
    ends: set[int] = set()
    for source in sources:
        value = getattr(source, "eos_token_id", None)
        ends.update(value if isinstance(value, (list, tuple)) else [] if value is None else [value])
    return frozenset(ends)
