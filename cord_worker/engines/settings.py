"""What an engine needs to know to host one model; the caller maps its configuration to this."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cord_worker.config import OpenAiOptions, VllmOptions

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
    """Requests decoded together at most; also scores computed together."""
    gather_seconds: float = 0.0
    """Longest wait of a request for others to be computed with (transformers engine)."""
    threads: int | None = None
    prefix_cache_bytes: int = 512 * 2**20
    """Bound of the KV that the transformers engine keeps between requests; 0 keeps nothing."""
    head: Literal["language", "reward"] = "language"
    vllm: VllmOptions | None = None
    openai: OpenAiOptions | None = None
