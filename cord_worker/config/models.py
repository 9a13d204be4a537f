"""Models that a run names: the tables [models.NAME]."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, JsonValue, model_validator

from cord_worker.config.base import Section, checked_name, digest_of
from cord_worker.config.engine_options import OpenAiOptions, VllmOptions
from cord_worker.errors import ConfigError
from cord_worker.suggesting import did_you_mean, unknown

BUNDLED_PREFIX = "bundled:"
"""What the `path` of a model begins with that is shipped with the package."""

_BUNDLED = Path(__file__).resolve().parents[1] / "demo" / "models"
_MODEL_IDENTITY = {"path", "revision", "engine", "dtype", "gguf_file", "max_model_len", "trust_remote_code"}


class ModelConfig(Section):
    """One set of weights hosted by one engine; may serve several teachers and the prover.

    The first group of fields decides what the model computes and is part of its fingerprint (but for the system
    prompt, which belongs to the run); the second decides only how fast, and may differ between machines.
    """

    path: str = Field(
        description="Local folder, `bundled:NAME` for a model shipped with the package, or a hub id. A relative "
        "folder is taken from the folder of cord.toml."
    )
    revision: str | None = Field(None, description="Hub revision (commit, tag or branch); pin it for long runs.")
    engine: Literal["transformers", "vllm", "openai", "instant"] = Field(
        "transformers",
        description="Which engine hosts it; `openai` is any server with OpenAI's HTTP API; `instant` loads no weights "
        "and answers at once with seeded text, for measuring and testing the service itself.",
    )
    dtype: Literal["auto", "float64", "float32", "bfloat16", "float16"] = Field(
        "auto",
        description="Number format of weights and activations. float64 makes tiny models deterministic.",
    )
    gguf_file: str | None = Field(None, description="File inside `path` when the weights are GGUF (dequantised).")
    max_model_len: int | None = Field(None, ge=64, description="Context length in tokens; the model's own by default.")
    trust_remote_code: bool = Field(False, description="Run code that comes with the weights. Off unless asked.")
    head: Literal["language", "reward"] = Field(
        "language",
        description="`reward`: a process reward model, a sequence or token classifier with one or two labels, or (vLLM "
        'only) a Qwen2ForProcessRewardModel; it serves search.selection = "reward_model" and nothing else.',
    )
    system_prompt: str | None = Field(None, description="System turn, as the model's card recommends.")
    think_open: str | None = Field(
        None,
        description="What opens the model's thinking, whitespace included, such as `[THINK]`; by default found in its "
        "chat template or among its tokens, `<think>` and a new line where they show none. Needs think_close.",
    )
    think_close: str | None = Field(
        None,
        description="What stands between its thinking and its final answer, such as `[/THINK]`. Its first tag ends the "
        "thinking. Stored and exported text has `<think>` and `</think>` in any case.",
    )
    template_options: dict[str, JsonValue] = Field(
        default_factory=dict,
        description='Further variables of its chat template, such as { reasoning_effort = "high" }.',
    )

    device: str = Field("auto", description="`auto`, `cpu`, `cuda` or `cuda:N`.")
    batch_size: int = Field(
        16, ge=1, le=4096, description="Requests that the engine batches at most; a worker leases twice as many."
    )
    gather_seconds: float = Field(
        0.0,
        ge=0.0,
        le=10.0,
        description="Longest wait of a request for others to share its batch with. More than 0 costs latency and saves "
        "forwards: for long runs of small models whose engines share processors (transformers engine only).",
    )
    threads: int | None = Field(None, ge=1, description="CPU threads of the engine's process.")
    workers: int = Field(1, ge=1, description="Worker processes of this model that `run` and `up` start.")

    vllm: VllmOptions | None = Field(None, description='Options of `engine = "vllm"`.')
    openai: OpenAiOptions | None = Field(None, description='The server of `engine = "openai"`.')

    @model_validator(mode="after")
    def _options_of_its_engine(self) -> Self:
        for engine, options in (("vllm", self.vllm), ("openai", self.openai)):
            if options is not None and self.engine != engine:
                raise ValueError(f'the table `{engine}` needs engine = "{engine}" (it is "{self.engine}")')
        if (self.think_open is None) != (self.think_close is None):
            raise ValueError("think_open and think_close go together: give both, or leave both to be found")
        if self.think_open is not None and not (self.think_open.strip() and (self.think_close or "").strip()):
            raise ValueError("think_open and think_close must not be blank: a model's thinking is told by them")
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
        """Folder of a bundled model, else `path` as it is. Raises ConfigError for an unknown bundled name."""
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
        """16 hex digits; names the model's queue, so that a worker with other weights never serves a run."""
        return fingerprint_of(self.identity())


def model_location(path: str) -> str:
    """Folder of a bundled model, else `path` as it is. Raises ConfigError for an unknown bundled name."""
    if not path.startswith(BUNDLED_PREFIX):
        return path
    name = path.removeprefix(BUNDLED_PREFIX)
    known = sorted(found.parent.name for found in _BUNDLED.glob("*/config.json"))
    if name not in known:
        raise ConfigError(unknown("bundled model", name, known))
    return str(_BUNDLED / name)


def fingerprint_of(identity: dict[str, Any]) -> str:
    """Fingerprint of the model with this stored identity."""
    return digest_of(identity)


def require_model(who: str, name: str, models: Mapping[str, ModelConfig]) -> None:
    """Raises ValueError where `name` is none of the models; `who` is the option that names it."""
    if name in models:
        return
    names = sorted(models)
    near = did_you_mean(name, names)
    raise ValueError(
        f"{who} names {name!r}, which is not in [models]{':' if near else '.'}{near} There are: {', '.join(names)}"
    )


def require_names(models: Iterable[str]) -> None:
    """Raises ValueError where there are no models, or one whose name is none."""
    names = list(models)
    if not names:
        raise ValueError("[models] is empty: define at least one model")
    for name in names:
        checked_name(name, "model name")


def require_different(models: Mapping[str, ModelConfig]) -> None:
    """Raises ValueError where two of the models are the same one."""
    names: dict[str, str] = {}
    for name, model in models.items():
        other = names.setdefault(model.fingerprint(), name)
        if other != name:
            servers = (models[other].openai, model.openai)
            addresses = {server.base_url for server in servers if server is not None}
            differing = (
                " (openai.base_url does not tell models apart, openai.model and path do)" if len(addresses) > 1 else ""
            )
            raise ValueError(
                f"models {other!r} and {name!r} are the same model{differing}: define it once and let several "
                "teachers name it"
            )


def require_language_heads(names: Iterable[str], models: Mapping[str, ModelConfig]) -> None:
    """Raises ValueError where one of these models, which write or score, can only reward."""
    for name in sorted(names):
        if models[name].head == "reward":
            raise ValueError(
                f"model {name!r} has a reward head, so it can be neither teacher nor prover nor judge of answers: "
                "name it in [reward] only"
            )
