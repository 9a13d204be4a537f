"""What an engine must know to host one model; the caller maps its configuration to this."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from cord_worker.config import OpenAiOptions, VllmOptions
from cord_worker.prompting.think_tags import ThinkTags

DType = Literal["auto", "float64", "float32", "bfloat16", "float16"]


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """One model and how it is hosted; `path` is a local folder or a hub id."""

    path: str
    engine: str = "transformers"
    revision: str | None = None
    dtype: DType = "auto"
    gguf_file: str | None = None
    max_model_len: int | None = None
    trust_remote_code: bool = False
    device: str = "auto"
    batch_size: int = 16
    """Most requests decoded together; also most scores computed together."""
    gather_seconds: float = 0.0
    """Longest wait of a request for companions in its batch (transformers engine), in seconds."""
    threads: int | None = None
    prefix_cache_bytes: int = 512 * 2**20
    """Bound of the keys and values that the transformers engine keeps between requests; 0 keeps nothing."""
    head: Literal["language", "reward"] = "language"
    think_tags: ThinkTags | None = None
    """None to find them in the chat template or among the tokens."""
    template_options: Mapping[str, Any] = field(default_factory=dict)
    """Further variables of the chat template."""
    vllm: VllmOptions | None = None
    openai: OpenAiOptions | None = None
