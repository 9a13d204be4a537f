"""The processes that a configuration needs on one machine: a worker for every model, and one coordinator."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from cord_worker.config import ModelConfig, RunConfig, Settings
from cord_worker.engines.needed_packages import shortage_of_engine
from cord_worker.errors import ConfigError
from cord_worker.local import limits, processes
from cord_worker.local.limits import Need
from cord_worker.local.services import Endpoints
from cord_worker.local.supervisor import ProcessSpec
from cord_worker.name_suggestions import unknown
from cord_worker.store.runs.runs import RunRow
from cord_worker.verify.by_math_verify import check_configured

COORDINATOR = "coordinator"
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_PROGRAM = "cord_worker.cli"
_PRELOADED = ("cord_worker.coordination.process.main", "cord_worker.engines.transformers.preloaded")


def preloaded_modules(config: RunConfig) -> tuple[str, ...]:
    """The modules that a fork server imports for the workers of `config`; empty if none of them can be forked, or if a
    package that they need is not installed."""
    if shortage_of_engine("transformers") is not None:
        return ()
    return _PRELOADED if any(map(_can_be_forked, config.served_models.values())) else ()


def _can_be_forked(model: ModelConfig) -> bool:
    # CUDA does not survive a fork, and vLLM starts its own processes. For other engines it is not worth it: they import
    # little.
    return model.engine == "transformers" and model.device == "cpu"


def process_specs(
    config: RunConfig, config_path: Path, settings: Settings, endpoints: Endpoints, state_dir: Path
) -> list[ProcessSpec]:
    """The processes that `run` and `up` keep running, with logs in `state_dir/logs`."""
    return specs_of(config.served_models, config_path, settings, endpoints, state_dir)


def specs_of(
    models: Mapping[str, ModelConfig],
    config_path: Path,
    settings: Settings,
    endpoints: Endpoints,
    state_dir: Path,
    *,
    has_coordinator: bool = True,
) -> list[ProcessSpec]:
    """A coordinator and workers of these models, by their names in the configuration file. The coordinator comes first,
    because it starts fastest."""
    environment = {
        # A worker imports this same package, whatever folder it is started from.
        "PYTHONPATH": processes.python_environment()["PYTHONPATH"],
        "CORD_DATABASE_URL": endpoints.database_url,
        "CORD_BROKER_URL": endpoints.broker_url,
        "CORD_STATE_DIR": str(state_dir),
        "CORD_KEY_PREFIX": settings.key_prefix,
        "PYTHONUNBUFFERED": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    specs = [_spec(COORDINATOR, ("coordinator",), environment, state_dir)] if has_coordinator else []
    for name, model in models.items():
        for number in range(1, model.workers + 1):
            process = name if number == 1 else f"{name}-{number}"
            command = ("worker", name, "--config", str(config_path.resolve()), "--name", process)
            spec = _spec(f"worker-{process}", command, environment | _threads(model), state_dir)
            specs.append(replace(spec, module=_PROGRAM) if _can_be_forked(model) else spec)
    return specs


def fleet_models(config: RunConfig) -> dict[str, str]:
    """Names of the models that need a worker, by fingerprint."""
    return {model.fingerprint(): name for name, model in config.served_models.items()}


def names_by_path(run: RunRow) -> dict[str, str]:
    """Names of the models in the run's configuration, by path; paths that several models share are left out."""
    try:
        config = RunConfig.from_stored(run.config)
    except ConfigError:
        return {}
    named: dict[str, list[str]] = {}
    for name, model in config.served_models.items():
        named.setdefault(model.path, []).append(name)
    return {path: names[0] for path, names in named.items() if len(names) == 1}


def check_startable(config: RunConfig) -> None:
    """Raises ConfigError, before anything is started, if a model's folder or bundled name does not exist, or the
    package of an engine or of verify.method is not installed."""
    check_configured(config.verify.method)
    check_models(config.served_models)


def check_models(models: Mapping[str, ModelConfig]) -> None:
    """Raises ConfigError if a package of a model's engine is not installed, or its folder or bundled name does not
    exist."""
    for name, model in models.items():
        check_engine(name, model)
        location = model.location()
        if Path(location).is_absolute() and not Path(location).is_dir():
            raise ConfigError(f"model {name!r}: there is no folder {location}. Correct its `path` in cord.toml.")


def check_engine(name: str, model: ModelConfig) -> None:
    """Raises ConfigError if a package of the model's engine is not installed."""
    if (shortage := shortage_of_engine(model.engine)) is not None:
        raise ConfigError(f"model {name!r}: {shortage}")


def need_of(model: ModelConfig) -> Need:
    """What a worker of this model needs of the machine, without the weights."""
    return limits.TORCH_WORKER if model.engine in {"transformers", "vllm"} else limits.WORKER


def needs(config: RunConfig, *, embedded: bool) -> list[Need]:
    """What `run` and `up` need of the machine: the command itself, embedded servers, a coordinator and the workers."""
    return needs_of(config.served_models, embedded=embedded)


def needs_of(models: Mapping[str, ModelConfig], *, embedded: bool) -> list[Need]:
    """What a command with workers of these models needs of the machine; see `needs`."""
    workers = [need_of(model) for model in models.values() for _ in range(model.workers)]
    clients = [limits.COMMAND, limits.COORDINATOR, *workers]
    return [*clients, limits.POSTGRES, limits.redis_for(clients)] if embedded else clients


def check_limits(config: RunConfig, settings: Settings) -> None:
    """Raises MachineLimit if the machine allows too little for all that `run` and `up` start."""
    check_limits_of(config.served_models, settings)


def check_limits_of(models: Mapping[str, ModelConfig], settings: Settings) -> None:
    """Raises MachineLimit if the machine allows too little for a command with workers of these models."""
    embedded = settings.database_url is None or settings.broker_url is None
    limits.check("this command", needs_of(models, embedded=embedded))


def _threads(model: ModelConfig) -> dict[str, str]:
    return {} if model.threads is None else dict.fromkeys(_THREAD_VARIABLES, str(model.threads))


def _spec(name: str, command: tuple[str, ...], environment: Mapping[str, str], state_dir: Path) -> ProcessSpec:
    # -P: a redis.py in the user's folder must not be imported instead of the library.
    argv = (sys.executable, "-P", "-m", _PROGRAM, *command)
    return ProcessSpec(name, argv, state_dir / "logs" / f"{name}.log", environment)


def model_named(config: RunConfig, name: str) -> ModelConfig:
    """The model with this name. Raises ConfigError, which names the existing models."""
    if name not in config.models:
        raise ConfigError(f"{unknown('model', name, sorted(config.models))} (in [models] of the configuration)")
    return config.models[name]
