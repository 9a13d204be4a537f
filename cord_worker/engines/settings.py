"""The settings of one engine: which model it hosts, and how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from cord_worker.config import ModelConfig, OpenAiOptions, VllmOptions
from cord_worker.prompting.think_tags import ThinkTags

DType = Literal["auto", "float64", "float32", "bfloat16", "float16"]

PREFIX_CACHE_BYTES = 512 * 2**20
"""`EngineSettings.prefix_cache_bytes` of every model of cord.toml."""


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """One model and how it is hosted; `path` is a local folder or a hub id.

    No field has a default, so an option that `of` forgets is a type error.
    """

    path: str
    engine: str
    revision: str | None
    dtype: DType
    gguf_file: str | None
    max_model_len: int | None
    trust_remote_code: bool
    device: str
    batch_size: int
    """Maximum number of requests that are decoded together, and of scores that are computed together."""
    gather_seconds: float
    """Longest time a request waits for others to share its batch (transformers engine)."""
    threads: int | None
    prefix_cache_bytes: int
    """Maximum size of the prefix cache of the transformers engine; 0 switches it off."""
    head: Literal["language", "reward"]
    think_tags: ThinkTags | None
    """None if the tags must be found in the chat template or among the tokens."""
    template_options: Mapping[str, Any]
    """Further variables of the chat template."""
    vllm: VllmOptions | None
    openai: OpenAiOptions | None

    @classmethod
    def of(cls, model: ModelConfig) -> Self:
        """The settings of a model of cord.toml. Raises ConfigError for an unknown bundled model."""
        return cls(
            path=model.location(),
            engine=model.engine,
            revision=model.revision,
            dtype=model.dtype,
            gguf_file=model.gguf_file,
            max_model_len=model.max_model_len,
            trust_remote_code=model.trust_remote_code,
            device=model.device,
            batch_size=model.batch_size,
            gather_seconds=model.gather_seconds,
            threads=model.threads,
            prefix_cache_bytes=PREFIX_CACHE_BYTES,
            head=model.head,
            think_tags=None if model.think_open is None else ThinkTags(model.think_open, model.think_close or ""),
            template_options=model.template_options,
            vllm=model.vllm,
            openai=model.openai,
        )

    def loading_options(self) -> dict[str, Any]:
        """Arguments of every `from_pretrained`."""
        values: dict[str, Any] = {"trust_remote_code": self.trust_remote_code, "local_files_only": True}
        if self.gguf_file is not None:
            values["gguf_file"] = self.gguf_file
        return values
