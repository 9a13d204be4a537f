"""Options of single engines: the tables [models.NAME.vllm] and [models.NAME.openai]."""

from __future__ import annotations

import re
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, JsonValue, field_validator

from cord_worker.config.base import Table


class VllmOptions(Table):
    """How vLLM hosts the model: the table [models.NAME.vllm]. Only the first two fields decide what is computed."""

    quantization: str | None = Field(
        None, description="vLLM's name of the quantisation, such as `fp8` or `awq`; by default that of the weights."
    )
    kv_cache_dtype: str = Field("auto", description="Number format of the KV cache, such as `fp8`.")
    tensor_parallel_size: int = Field(1, ge=1, description="GPUs that share the model.")
    gpu_memory_utilization: float = Field(0.9, gt=0.0, le=1.0, description="Share of a GPU's memory that vLLM takes.")
    kv_cache_gib: float | None = Field(
        None, gt=0.0, description="GiB of the KV cache; by default what `gpu_memory_utilization` leaves; 2 on a CPU."
    )
    max_batched_tokens: int = Field(
        4096,
        ge=64,
        description="Token limit of one engine step. A score needs prompt log-probabilities, for which vLLM "
        "builds logits of batched tokens x vocabulary in float32, outside of the memory that it plans with (4,096 "
        "tokens of a 152 k vocabulary: 2.3 GiB): raise it for teachers, never for provers.",
    )
    enforce_eager: bool = Field(False, description="No CUDA graphs, no compilation: starts faster, runs slower.")
    engine_args: dict[str, JsonValue] = Field(
        default_factory=dict, description="Further arguments of vLLM's AsyncEngineArgs, passed through unchanged."
    )


class OpenAiOptions(Table):
    """A server that speaks OpenAI's HTTP API: the table [models.NAME.openai].

    The model's `path` then names the tokenizer (a local folder or hub id) that renders prompts and counts tokens. A
    server that only offers chat needs no tokenizer; there, `path` is the model's name. A hosted teacher:

        [models.r1]
        engine = "openai"
        path = "deepseek-ai/DeepSeek-R1"        # only the tokenizer's files are fetched
        batch_size = 32                         # concurrent requests
        [models.r1.openai]
        base_url = "https://api.example.com/v1"
        model = "deepseek-r1"                   # its name at the server
        api_key_env = "EXAMPLE_API_KEY"         # the variable that holds the key, not the key

    Only servers that return log-probabilities of the prompt can host the prover. `vllm serve` does, and uses its prefix
    cache; with `--enable-prompt-tokens-details` it reports how much of each prompt came from there.
    """

    base_url: str = Field(description="URL such as http://127.0.0.1:8000/v1, without key, user or password.")
    model: str | None = Field(None, description="The model's name at the server; `path` by default.")
    api: Literal["auto", "completions", "chat"] = Field(
        "auto",
        description="`completions` sends raw prompts and can score; `chat` continues an assistant turn, as far as the "
        "server allows that. `auto` uses completions if the server has them; the worker's log says which one is used.",
    )
    api_key_env: str = Field(
        "OPENAI_API_KEY", description="Environment variable that holds the API key; cord.toml never holds keys."
    )

    @field_validator("api_key_env")
    @classmethod
    def _variable_name(cls, value: str) -> str:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value):
            raise ValueError(
                "must be the name of an environment variable, such as OPENAI_API_KEY, never the key itself"
            )
        return value

    timeout_seconds: float = Field(600.0, gt=0.0, description="Longest time of one attempt at a request, in seconds.")
    max_retries: int = Field(
        6,
        ge=0,
        le=100,
        description="Retries of one request after a 429, a 5xx or a lost connection, with growing pauses. After them "
        "the request fails alone; if other requests fail at the server too, its lease is returned and it waits.",
    )

    @field_validator("base_url")
    @classmethod
    def _plain_url(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("must be an http(s) URL such as http://127.0.0.1:8000/v1")
        if parts.username or parts.password or parts.query:
            raise ValueError("must not contain user, password or query: the key comes from the variable `api_key_env`")
        return value.rstrip("/")
