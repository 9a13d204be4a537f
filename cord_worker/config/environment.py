"""Environment variables that begin with CORD_: where the services are, and their timeouts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from cord_worker.errors import ConfigError
from cord_worker.name_suggestions import did_you_mean
from cord_worker.service_url_checks import checked_broker_url, checked_database_url

OTHER_VARIABLES = {
    "CORD_DEBUG": "`1` shows tracebacks, as `cordctl --debug` does.",
    "CORD_HOPELESS_EXIT_CODE": "Exit code of a process that can never start like this, instead of 78.",
    "CORD_POSTGRES_BIN": "Folder of the programs of the embedded PostgreSQL; searched for by default.",
    "CORD_REDIS_SERVER": "Server program of the embedded Redis or Valkey; searched for by default.",
    "CORD_EMBEDDED_PREFER": "`wheel` or `system`: which programs of embedded servers are taken first: those of Python "
    "packages, or those of the system (default).",
    "CORD_ROOT_STRATEGY": "How root runs the embedded PostgreSQL: `namespace` (in a user namespace, the default if "
    "possible) or `user` (as user postgres or nobody).",
    "CORD_FAULT": "For tests: the fault point at which the process ends.",
    "CORD_INSTANT_LOG": 'For tests: file to which `engine = "instant"` writes its calls.',
    "CORD_INSTANT_SECONDS": 'For tests: time of every call of `engine = "instant"`, in seconds.',
}
"""Environment variables with the prefix CORD_ that are read outside of `Settings`, and what they mean."""
LIBRARY_VARIABLES = {
    "OPENAI_API_KEY": "Key of the servers of models; `openai.api_key_env` names another variable for a model.",
    "HF_TOKEN": "Token of the Hugging Face hub; it is never stored.",
    "HF_ENDPOINT": "Address of the hub, or of another server with its API.",
    "HF_HOME": "Folder of the hub's cache.",
    "HF_HUB_OFFLINE": "`1`: the hub is not used; `cordctl export --push` is then an error.",
    "CUDA_VISIBLE_DEVICES": "The GPUs that a worker sees.",
    "OMP_NUM_THREADS": "CPU threads of the libraries that compute. `cordctl run` and `up` set it for the workers of "
    "models with `threads`.",
    "VLLM_LOGGING_LEVEL": "Lowest level that vLLM logs; by default WARNING, or DEBUG if CORD_LOG_LEVEL is that.",
    "VLLM_CPU_KVCACHE_SPACE": "Memory of vLLM's KV cache on a CPU, in GiB, if `vllm.kv_cache_gib` is not set.",
    "TORCHINDUCTOR_CACHE_DIR": "Folder of the kernels that torch compiles for vLLM.",
    "FLOWER_BASIC_AUTH": "Names and passwords that Flower asks for.",
    "FLOWER_UNAUTHENTICATED_API": "`true`: Flower's API answers without a password.",
    "XDG_RUNTIME_DIR": "Folder of the embedded servers' sockets if the state folder's path is too long for them.",
}
"""Environment variables of others that this package reads or sets, and what they mean here."""
_TEST_PREFIX = "CORD_TEST_"
_MIN_SIMILARITY = 0.8
"""Lowest similarity (difflib's ratio) at which an unknown variable counts as a misspelt one."""


class Settings(BaseSettings):
    """Environment settings (prefix CORD_). The tables store only `metrics_port`; no message repeats a password."""

    model_config = SettingsConfigDict(env_prefix="CORD_", extra="ignore", frozen=True)

    database_url: str | None = Field(None, repr=False, description="SQLAlchemy URL of PostgreSQL.")
    broker_url: str | None = Field(None, repr=False, description="Celery broker URL.")
    state_dir: Path = Field(Path(".cord"), description="Folder of the embedded services.")
    key_prefix: str = Field("cord:", description="Prefix of every key in Redis and of every queue in RabbitMQ.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Lowest level that is logged.")
    log_format: Literal["text", "json"] = Field(
        "text", description="Lines of logs: plain text, or one JSON object each."
    )
    heartbeat_seconds: float = Field(3.0, gt=0, description="Pause between two heartbeats of a worker.")
    worker_timeout_seconds: float = Field(
        12.0, gt=0, description="Time without a heartbeat after which a worker counts as lost."
    )
    resend_seconds: float = Field(
        20.0, gt=0, description="Age after which the message of unclaimed work is sent again."
    )
    sweep_seconds: float = Field(2.0, gt=0, description="Pause between two rounds of the sweeper.")
    grace_seconds: float = Field(
        20.0, gt=0, description="Longest time that running work may take to finish at shutdown."
    )
    load_timeout_seconds: float = Field(
        1800.0,
        gt=0,
        description="Longest time that a worker may take to load its model; waiting for a server does not count.",
    )
    ready_file: Path | None = Field(
        None, description="File that a process removes at its start and creates once it is ready for work."
    )
    steal_seconds: float = Field(
        1.0,
        gt=0,
        description="Age at which work that waits for one replica of a model may be taken over by an idle one.",
    )
    stuck_seconds: float = Field(
        240.0,
        gt=0,
        description="Time at the same piece of work after which a thread counts as hanging: twice the two minutes that "
        "a process waits for PostgreSQL.",
    )
    metrics_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="Port of every process's Prometheus metrics; 0 is any free one. Off by default.",
    )
    view_token: str | None = Field(
        None, repr=False, description="Token that `cordctl view` asks for; a random one by default, none on loopback."
    )
    metrics_host: str = Field("127.0.0.1", description="Address on which the metrics are served.")

    @field_validator("database_url")
    @classmethod
    def _postgresql_only(cls, value: str | None) -> str | None:
        return None if value is None else checked_database_url(value)

    @field_validator("broker_url")
    @classmethod
    def _known_broker(cls, value: str | None) -> str | None:
        return None if value is None else checked_broker_url(value)

    @classmethod
    def from_environment(cls) -> Settings:
        """Reads the CORD_ variables. Raises ConfigError, without repeating any value.

        An unknown variable is refused if its name is similar to a known one, because it is probably misspelt.
        """
        known = {f"CORD_{name.upper()}" for name in cls.model_fields} | set(OTHER_VARIABLES)
        for name in sorted(os.environ):
            if name.startswith("CORD_") and name not in known and not name.startswith(_TEST_PREFIX):
                near = did_you_mean(name, known, least=_MIN_SIMILARITY)
                if near:
                    raise ConfigError(f"environment: nothing reads {name}:{near} Correct or unset it")
        try:
            return cls()
        except ValidationError as error:
            lines = []
            for item in error.errors():
                name = f"CORD_{'_'.join(str(part) for part in item['loc']).upper()}"
                lines.append(f"{name}: {item['msg'].removeprefix('Value error, ')}")
            raise ConfigError("environment: " + "; ".join(lines)) from None
