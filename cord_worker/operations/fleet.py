"""The processes that a configuration needs on one machine: a worker for every model, and one coordinator."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from cord_worker.config import ModelConfig, RunConfig, Settings
from cord_worker.errors import ConfigError
from cord_worker.local import processes
from cord_worker.local.services import Endpoints
from cord_worker.local.supervisor import ProcessSpec
from cord_worker.suggesting import unknown

COORDINATOR = "coordinator"
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def process_specs(
    config: RunConfig, config_path: Path, settings: Settings, endpoints: Endpoints, state_dir: Path
) -> list[ProcessSpec]:
    """What `run` and `up` keep running; logs go to `state_dir/logs`. The coordinator comes first: it loads fastest."""
    environment = {
        # A worker started from any folder imports this very package.
        "PYTHONPATH": processes.python_environment()["PYTHONPATH"],
        "CORD_DATABASE_URL": endpoints.database_url,
        "CORD_BROKER_URL": endpoints.broker_url,
        "CORD_STATE_DIR": str(state_dir),
        "CORD_KEY_PREFIX": settings.key_prefix,
        "PYTHONUNBUFFERED": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    specs = [_spec(COORDINATOR, ("coordinator",), environment, state_dir)]
    for name, model in config.served_models.items():
        for number in range(1, model.workers + 1):
            process = name if number == 1 else f"{name}-{number}"
            command = ("worker", name, "--config", str(config_path.resolve()), "--name", process)
            specs.append(_spec(f"worker-{process}", command, environment | _threads(model), state_dir))
    return specs


def fleet_models(config: RunConfig) -> dict[str, str]:
    """Names of the models that the configuration needs a worker of, by fingerprint."""
    return {model.fingerprint(): name for name, model in config.served_models.items()}


def check_locations(config: RunConfig) -> None:
    """Raises ConfigError where a model's folder or bundled name does not exist, before anything is started."""
    for name, model in config.served_models.items():
        location = model.location()
        if Path(location).is_absolute() and not Path(location).is_dir():
            raise ConfigError(f"model {name!r}: there is no folder {location}. Correct its `path` in cord.toml.")


def _threads(model: ModelConfig) -> dict[str, str]:
    return {} if model.threads is None else dict.fromkeys(_THREAD_VARIABLES, str(model.threads))


def _spec(name: str, command: tuple[str, ...], environment: Mapping[str, str], state_dir: Path) -> ProcessSpec:
    # -P: a redis.py in the user's folder must not take the place of the library.
    argv = (sys.executable, "-P", "-m", "cord_worker.cli", *command)
    return ProcessSpec(name, argv, state_dir / "logs" / f"{name}.log", environment)


def model_named(config: RunConfig, name: str) -> ModelConfig:
    """The model called so. Raises ConfigError that names the models there are."""
    if name not in config.models:
        raise ConfigError(f"{unknown('model', name, sorted(config.models))} (in [models] of the configuration)")
    return config.models[name]
