"""The models of a run: the tables [models.NAME]."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, JsonValue, model_validator

from cord_worker.config.base import Table, checked_name, short_hash
from cord_worker.config.engine_options import OpenAiOptions, VllmOptions
from cord_worker.errors import ConfigError
from cord_worker.name_suggestions import did_you_mean, unknown

BUNDLED_PREFIX = "bundled:"
"""Prefix of the `path` of a model that is shipped with the package."""

_BUNDLED = Path(__file__).resolve().parents[1] / "demo" / "models"
_MODEL_IDENTITY = {"path", "revision", "engine", "dtype", "gguf_file", "max_model_len", "trust_remote_code"}


class ModelConfig(Table):
    """One set of weights hosted by one engine; may serve several teachers and the prover.

    The first group of fields, up to `template_options`, decides what the model computes. It is part of the model's
    fingerprint, except the system prompt, which belongs to the run. Four options of its engine are too:
    `vllm.quantization`, `vllm.kv_cache_dtype`, `openai.model` and `openai.api`. All other fields and options may differ
    between machines. But all scores of a run need one scoring mode: with vLLM, one kind of device
    (`Engine.scoring_mode`).
    """

    path: str = Field(
        description="Local folder, `bundled:NAME` for a model shipped with the package, or a hub id. A relative "
        "folder is relative to the folder of cord.toml."
    )
    revision: str | None = Field(None, description="Hub revision (commit, tag or branch); pin it for long runs.")
    engine: Literal["transformers", "vllm", "openai", "instant"] = Field(
        "transformers",
        description="Engine that hosts it; `openai` is any server with OpenAI's HTTP API; `instant` loads no weights "
        "and answers at once with seeded text, to measure and test the service itself.",
    )
    dtype: Literal["auto", "float64", "float32", "bfloat16", "float16"] = Field(
        "auto",
        description="Number format of weights and activations. float64 makes tiny models deterministic.",
    )
    gguf_file: str | None = Field(None, description="File inside `path` if the weights are GGUF; they are dequantised.")
    max_model_len: int | None = Field(None, ge=64, description="Context length in tokens; by default the model's own.")
    trust_remote_code: bool = Field(False, description="Run Python code that comes with the weights.")
    head: Literal["language", "reward"] = Field(
        "language",
        description="`reward`: a process reward model, a sequence or token classifier with one or two labels, or (vLLM "
        'only) a Qwen2ForProcessRewardModel; it serves search.selection = "reward_model" and nothing else.',
    )
    system_prompt: str | None = Field(
        None, description="System turn, such as the model's card recommends; none by default."
    )
    think_open: str | None = Field(
        None,
        description="Text that opens the model's thinking, whitespace included, such as `[THINK]`. By default it is "
        "found in the chat template or among the tokens; if neither shows one, it is `<think>` and a new line. Needs "
        "think_close.",
    )
    think_close: str | None = Field(
        None,
        description="Text between its thinking and its final answer, such as `[/THINK]`. The first tag in it ends "
        "the thinking. Stored and exported text always has `<think>` and `</think>`.",
    )
    template_options: dict[str, JsonValue] = Field(
        default_factory=dict,
        description='Further variables for its chat template, such as { reasoning_effort = "high" }.',
    )

    device: str = Field("auto", description="`auto`, `cpu`, `cuda` or `cuda:N`.")
    batch_size: int = Field(
        16,
        ge=1,
        le=4096,
        description="Maximum number of requests per batch of the engine; a worker leases up to twice as many.",
    )
    gather_seconds: float = Field(
        0.0,
        ge=0.0,
        le=10.0,
        description="Longest time that a request waits for others to join its batch. More than 0 costs latency and "
        "saves forward passes. Use it for long runs of small models whose engines share processors (transformers "
        "engine only).",
    )
    threads: int | None = Field(None, ge=1, description="CPU threads of the engine's process.")
    workers: int = Field(1, ge=1, description="Worker processes of this model that `cordctl run` and `up` start.")

    vllm: VllmOptions | None = Field(None, description='Options of `engine = "vllm"`.')
    openai: OpenAiOptions | None = Field(None, description='The server of `engine = "openai"`.')

    @model_validator(mode="after")
    def _options_agree(self) -> Self:
        for engine, options in (("vllm", self.vllm), ("openai", self.openai)):
            if options is not None and self.engine != engine:
                raise ValueError(f'the table `{engine}` needs engine = "{engine}" (it is "{self.engine}")')
        if (self.think_open is None) != (self.think_close is None):
            raise ValueError("think_open and think_close go together: set both or neither")
        if self.think_open is not None and not (self.think_open.strip() and (self.think_close or "").strip()):
            raise ValueError("think_open and think_close must not be blank: they delimit the model's thinking")
        if self.engine == "openai" and self.openai is None:
            raise ValueError('engine = "openai" needs a table [models.NAME.openai] with base_url')
        if self.gather_seconds and (self.engine != "transformers" or self.head != "language"):
            raise ValueError('gather_seconds needs engine = "transformers" and head = "language"; leave it out')
        if self.head == "reward" and self.engine == "openai":
            raise ValueError('head = "reward" needs engine = "transformers" or "vllm" (it is "openai")')
        if self.head == "reward" and self.gguf_file is not None:
            raise ValueError('head = "reward" needs weights with that head; GGUF files hold none')
        return self

    def location(self) -> str:
        """Folder of a bundled model, else `path` unchanged. Raises ConfigError for an unknown bundled name."""
        return model_location(self.path)

    def identity(self) -> dict[str, Any]:
        """The fields that decide what the model computes."""
        identity = self.model_dump(mode="json", include=_MODEL_IDENTITY)
        if self.think_open is not None:
            identity["think"] = [self.think_open, self.think_close]
        if self.template_options:
            identity["template_options"] = self.template_options
        if self.vllm is not None:
            identity["vllm"] = self.vllm.model_dump(mode="json", include={"quantization", "kv_cache_dtype"})
        if self.head != "language":
            identity["head"] = self.head
        if self.openai is not None:
            identity["openai"] = self.openai.model_dump(mode="json", include={"model", "api"})
        return identity

    def fingerprint(self) -> str:
        """16 hex digits. They name the model's queue, so that a worker with other weights never serves a run."""
        return fingerprint_of(self.identity())


def model_location(path: str) -> str:
    """Folder of a bundled model, else `path` unchanged. Raises ConfigError for an unknown bundled name."""
    if not path.startswith(BUNDLED_PREFIX):
        return path
    name = path.removeprefix(BUNDLED_PREFIX)
    known = sorted(found.parent.name for found in _BUNDLED.glob("*/config.json"))
    if name not in known:
        raise ConfigError(unknown("bundled model", name, known))
    return str(_BUNDLED / name)


def fingerprint_of(identity: dict[str, Any]) -> str:
    """Fingerprint of the model with this stored identity (see `ModelConfig.identity`)."""
    return short_hash(identity)


def require_model(option: str, name: str, models: Mapping[str, ModelConfig]) -> None:
    """Raises ValueError if `name` is not one of the models; `option` is the option that names it."""
    if name in models:
        return
    names = sorted(models)
    near = did_you_mean(name, names)
    raise ValueError(
        f"{option} names {name!r}, which is not in [models]{':' if near else '.'}{near} There are: {', '.join(names)}"
    )


def require_names(models: Iterable[str]) -> None:
    """Raises ValueError if there are no models, or if one has an invalid name."""
    names = list(models)
    if not names:
        raise ValueError("[models] is empty: define at least one model")
    for name in names:
        checked_name(name, "model name")


def require_distinct_models(models: Mapping[str, ModelConfig]) -> None:
    """Raises ValueError if two models have the same fingerprint."""
    names: dict[str, str] = {}
    for name, model in models.items():
        other = names.setdefault(model.fingerprint(), name)
        if other != name:
            servers = (models[other].openai, model.openai)
            addresses = {server.base_url for server in servers if server is not None}
            differing = (
                " (openai.base_url does not distinguish models; openai.model and path do)" if len(addresses) > 1 else ""
            )
            raise ValueError(
                f"models {other!r} and {name!r} are the same model{differing}: define it once and let several "
                "teachers name it"
            )


def require_language_heads(names: Iterable[str], models: Mapping[str, ModelConfig]) -> None:
    """Raises ValueError if one of these models, which write or score, has a reward head."""
    for name in sorted(names):
        if models[name].head == "reward":
            raise ValueError(
                f"model {name!r} has a reward head, so it can be neither teacher nor prover nor judge of answers: "
                "name it in [reward] only"
            )
