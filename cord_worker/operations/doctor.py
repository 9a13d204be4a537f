"""`cordctl doctor`: checks the machine, the services and the configuration, and says what to do."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cord_worker import endpoints
from cord_worker.config import BUNDLED_PREFIX, ModelConfig, OpenAiOptions, RunConfig, Settings
from cord_worker.display_text import counted
from cord_worker.engines import needed_packages
from cord_worker.errors import ConfigError, CordError, DatabaseRefused, LocalServiceError, SchemaMismatch
from cord_worker.verify import by_math_verify

_OPTIONAL_PACKAGES = {
    "torch": "hosts models on this machine",
    "transformers": "hosts models on this machine, and reads tokenizers",
}
_PACKAGES = (*_OPTIONAL_PACKAGES, "celery", "kombu", "redis", "sqlalchemy", "psycopg", "alembic", "pint")
_MIN_FREE_BYTES = 2 * 2**30
_MIN_SHARED_MEMORY = 16 * 2**20
_MIN_PROCESS_MEMORY = 256 * 2**20
"""Bytes, without a model's weights."""
_TIMEOUT_SECONDS = 5.0


class Level(StrEnum):
    """How serious a diagnosis is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The result of one check; `advice` says what to do if it is not ok."""

    level: Level
    subject: str
    found: str
    advice: str = ""

    def to_json(self) -> dict[str, Any]:
        """For scripts; keys are stable."""
        return asdict(self)


def run_checks(settings: Settings, config_path: Path | None) -> list[Diagnosis]:
    """The results of all checks; nothing is started."""
    config, config_diagnoses = _configuration(config_path)
    checks: tuple[Callable[[], Iterator[Diagnosis]], ...] = (
        _python,
        lambda: _limits(config, settings),  # before checks that take much memory themselves
        lambda: _binaries(settings),
        lambda: _database(settings),
        lambda: _broker(settings),
        lambda: iter(config_diagnoses),
        lambda: _math_verify(config),
        lambda: _models(config),
        lambda: _contexts(config),
        lambda: _devices(config),
        lambda: _shared_memory(settings),
        _temporary_folder,
        lambda: _disk(settings),
    )
    return [diagnosis for check in checks for diagnosis in _results_of(check)]


def _results_of(check: Callable[[], Iterator[Diagnosis]]) -> Iterator[Diagnosis]:
    """The results of a check; an exception within it is a result too."""
    try:
        yield from check()
    except Exception as error:  # noqa: BLE001 - the results of the other checks may show the cause
        from cord_worker.local.limits import limit_that_caused

        cause = limit_that_caused(error) or f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        yield Diagnosis(Level.FAIL, "doctor", f"a check failed: {cause}", "see the other results")


def _python() -> Iterator[Diagnosis]:
    supported = (3, 11) <= sys.version_info[:2] < (3, 14)
    yield Diagnosis(
        Level.OK if supported else Level.FAIL,
        "python",
        f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        "" if supported else "use Python 3.11, 3.12 or 3.13",
    )
    for package in _PACKAGES:
        try:
            yield Diagnosis(Level.OK, package, importlib.metadata.version(package))
        except importlib.metadata.PackageNotFoundError:
            use = _OPTIONAL_PACKAGES.get(package)
            if use is None:
                yield Diagnosis(Level.FAIL, package, "not installed", f"pip install {package}")
            else:
                installing = needed_packages.OF_ENGINE["transformers"].installing
                yield Diagnosis(Level.OK, package, f"not installed; it {use} ({installing})")


def _binaries(settings: Settings) -> Iterator[Diagnosis]:
    from cord_worker.local import binaries

    external = {"postgres": settings.database_url is not None, "redis": settings.broker_url is not None}
    for row in binaries.describe():
        subject = f"embedded {row['service']}"
        if row["status"] == "chosen":
            yield Diagnosis(Level.OK, subject, f"{row['version']} from {row['source']}: {row['path']}")
        elif row["status"] == "missing":
            level = Level.WARN if external[row["service"]] else Level.FAIL
            yield Diagnosis(level, subject, "no server program", row["detail"])


def _database(settings: Settings) -> Iterator[Diagnosis]:
    from cord_worker.operations.database import any_database
    from cord_worker.store.schema.roles import find_hindrances
    from cord_worker.store.schema.version import check_schema
    from cord_worker.store.session_settings import Pooling

    try:
        url = endpoints.database_url(settings)
    except ConfigError:
        yield Diagnosis(Level.OK, "database", "none runs now; cordctl run and cordctl up start the embedded one")
        return
    try:
        with any_database(url) as database:
            pooling = database.pooling()
            if pooling is not Pooling.NONE:
                yield Diagnosis(Level.OK, "pooler", f"PostgreSQL is behind one, in {pooling}; that is supported")
            check_schema(database)
            yield Diagnosis(Level.OK, "database", "reachable, schema current")
            hindrances = database.run(find_hindrances, read_only=True)
    except CordError as error:
        has_advice = isinstance(error, DatabaseRefused | SchemaMismatch)
        advice = "" if has_advice else "cordctl up starts an embedded one if none is named"
        yield Diagnosis(Level.FAIL, "database", str(error), advice)
        return
    for what, advice in hindrances:
        yield Diagnosis(Level.FAIL, "database writes", what, advice)


def _broker(settings: Settings) -> Iterator[Diagnosis]:
    from cord_worker.coordination.broker.broker_check import broker_warnings, check_broker

    try:
        url = endpoints.broker_url(settings)
    except ConfigError:
        yield Diagnosis(Level.OK, "broker", "none runs now; cordctl run and cordctl up start the embedded one")
        return
    try:
        yield Diagnosis(Level.OK, "broker", f"reachable ({check_broker(url, settings.key_prefix)})")
        for warning in broker_warnings(url, settings.key_prefix):
            yield Diagnosis(Level.WARN, "broker", warning.found, warning.advice)
    except CordError as error:
        yield Diagnosis(Level.FAIL, "broker", str(error), "cordctl up starts an embedded one if none is named")


def _configuration(path: Path | None) -> tuple[RunConfig | None, list[Diagnosis]]:
    if path is None and not Path("cord.toml").is_file():
        diagnosis = Diagnosis(
            Level.WARN, "configuration", "no cord.toml here", "cordctl init --preset tiny > cord.toml, or --config"
        )
        return None, [diagnosis]
    source = path or Path("cord.toml")
    try:
        config = RunConfig.load(source)
    except ConfigError as error:
        return None, [Diagnosis(Level.FAIL, "configuration", str(error), "correct it")]
    facts = f"{source}: {counted(len(config.models), 'model')}, {counted(len(config.teachers), 'teacher')}, fingerprint"
    return config, [Diagnosis(Level.OK, "configuration", f"{facts} {config.fingerprint()}")]


def _math_verify(config: RunConfig | None) -> Iterator[Diagnosis]:
    if config is None or config.verify.method != "math_verify":
        return
    found = by_math_verify.version()
    if found is None:
        yield Diagnosis(Level.FAIL, "math-verify", "not installed; verify.method needs it", by_math_verify.INSTALLING)
    else:
        yield Diagnosis(Level.OK, "math-verify", found)


def _models(config: RunConfig | None) -> Iterator[Diagnosis]:
    for name, model in config.models.items() if config else ():
        needed = needed_packages.OF_ENGINE.get(model.engine)
        missing = needed.missing() if needed else []
        if needed and missing:
            found = f"its engine needs the package{'s' if len(missing) > 1 else ''} {' and '.join(missing)}"
            yield Diagnosis(Level.FAIL, f"model {name}", found, needed.installing)
        if model.openai is not None:
            yield _server(f"model {name}", model, model.openai)
        if model.openai is None or Path(model.location()).is_dir():
            yield _model(f"model {name}", model)


def _server(subject: str, model: ModelConfig, options: OpenAiOptions) -> Diagnosis:
    parts = urlsplit(options.base_url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    key = "set" if os.environ.get(options.api_key_env) else "not set"
    facts = f"{options.model or model.path} at {options.base_url}, key variable {options.api_key_env} {key}"
    try:
        socket.create_connection((parts.hostname or "", port), timeout=_TIMEOUT_SECONDS).close()
    except OSError as error:
        return Diagnosis(
            Level.FAIL, subject, f"{facts}: no connection: {error}", "start the server or correct base_url"
        )
    return Diagnosis(Level.OK, subject, f"{facts}, accepts connections")


def _model(subject: str, model: ModelConfig) -> Diagnosis:
    try:
        location = model.location()
    except ConfigError as error:
        return Diagnosis(Level.FAIL, subject, str(error), "name a bundled model that exists")
    folder = Path(location)
    if not folder.is_dir():
        if folder.is_absolute() or location.startswith("."):
            return Diagnosis(Level.FAIL, subject, f"no folder {location}", "correct `path`, or put the weights there")
        return Diagnosis(Level.WARN, subject, f"{location}: a hub id, which is downloaded when a worker starts")
    if model.gguf_file is not None:
        if not (folder / model.gguf_file).is_file():
            return Diagnosis(Level.FAIL, subject, f"no file {folder / model.gguf_file}", "correct `gguf_file`")
        if importlib.util.find_spec("gguf") is None:
            return Diagnosis(
                Level.FAIL, subject, "its weights are GGUF, which needs a package", needed_packages.OF_GGUF.installing
            )
    elif not (folder / "config.json").is_file():
        return Diagnosis(
            Level.FAIL, subject, f"{location} holds no config.json", "name a folder in Hugging Face format"
        )
    is_installed = needed_packages.shortage_of_engine("transformers") is None
    if model.engine == "transformers" and model.gguf_file is None and model.head == "language" and is_installed:
        if _torch_lacks_memory():
            return _not_checked(subject)
        from cord_worker.engines.transformers.hosting_prediction import reason_against_batches

        try:
            slow_reason = reason_against_batches(
                folder, location, model.max_model_len, trust_remote_code=model.trust_remote_code
            )
        except CordError as error:
            return Diagnosis(Level.FAIL, subject, str(error), "name a model that can be hosted")
        if slow_reason:
            return Diagnosis(
                Level.WARN, subject, f"{location}: computed one text at a time: {slow_reason}", "slower; see models.md"
            )
    kind = "bundled" if model.path.startswith(BUNDLED_PREFIX) else location
    return Diagnosis(Level.OK, subject, f"{kind}, {model.engine}, {model.dtype}, device {model.device}")


def _contexts(config: RunConfig | None) -> Iterator[Diagnosis]:
    if config is None:
        return
    if needed_packages.OF_TOKENIZERS.missing():
        yield Diagnosis(
            Level.WARN, "contexts", "not counted: no package reads tokenizers", needed_packages.OF_TOKENIZERS.installing
        )
        return
    if _torch_lacks_memory():
        yield _not_checked("contexts")
        return
    from cord_worker.operations.fitting import ContextCheck

    try:
        fits = ContextCheck(config).fits
    except CordError as error:
        yield Diagnosis(
            Level.WARN, "contexts", f"not counted: {error}", "correct the model's tokenizer or chat template"
        )
        return
    for fit in fits:
        level = Level.OK if fit.has_room else Level.WARN if fit.holds_a_step else Level.FAIL
        yield Diagnosis(level, f"context of {fit.role}", fit.budget, fit.shortage)


def _devices(config: RunConfig | None) -> Iterator[Diagnosis]:
    from cord_worker.local import limits

    cores = os.cpu_count() or 1
    if importlib.util.find_spec("torch") is None:
        yield Diagnosis(Level.OK, "devices", f"{counted(cores, 'CPU core')}; torch, which finds GPUs, is not installed")
        return
    if _torch_lacks_memory():
        yield _not_checked("devices")
        return
    try:
        import torch

        gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    except (ImportError, RuntimeError, OSError, MemoryError) as error:
        limit = limits.limit_that_caused(error) or limits.limit_named_in(str(error))
        cause = limit or " ".join(str(error).split())[:300]
        advice = "see the other results" if limit else "reinstall torch for this machine"
        yield Diagnosis(Level.FAIL, "devices", f"torch cannot list the devices: {cause}", advice)
        return
    yield Diagnosis(Level.OK, "devices", f"{counted(cores, 'CPU core')}, GPUs: {', '.join(gpus) or 'none'}")
    for name, model in config.models.items() if config else ():
        if model.device.startswith("cuda") and not gpus:
            yield Diagnosis(
                Level.FAIL, f"model {name}", f"device {model.device}, but no GPU is seen", "set device to auto or cpu"
            )
        if model.threads is not None and model.threads > cores:
            yield Diagnosis(
                Level.WARN,
                f"model {name}",
                f"{counted(model.threads, 'thread')} on {counted(cores, 'core')}",
                f"set threads to {cores}",
            )
        on_cpu = model.device == "cpu" or (model.device == "auto" and not gpus)
        if on_cpu and model.dtype in {"bfloat16", "float16"}:
            yield Diagnosis(Level.WARN, f"model {name}", f"{model.dtype} on a CPU is slow and coarse", "use float32")


def _torch_lacks_memory() -> bool:
    """Whether there may be too little address space to import torch, which would end this process."""
    from cord_worker.local import limits

    return limits.memory_shortage([limits.WORKER]) is not None


def _not_checked(subject: str) -> Diagnosis:
    return Diagnosis(Level.WARN, subject, "not checked: torch gets too little memory (see `memory`)")


def _limits(config: RunConfig | None, settings: Settings) -> Iterator[Diagnosis]:
    """Whether the machine allows the processes of `run` and `up`, or a coordinator and a worker if `config` is None."""
    from cord_worker.local import limits
    from cord_worker.operations.fleet import needs

    embedded = settings.database_url is None or settings.broker_url is None
    wanted = [limits.COMMAND, limits.COORDINATOR, limits.WORKER] if config is None else needs(config, embedded=embedded)
    found = limits.shortages(wanted)
    for shortage in found:
        yield Diagnosis(Level.FAIL, shortage.limit, shortage.found, shortage.advice)
    if not found:
        allowed = "enough open files, address space, processes and file size"
        yield Diagnosis(
            Level.OK, "limits", f"{allowed} for {'this configuration' if config else 'a coordinator and a worker'}"
        )
    memory = limits.container_memory()
    if memory is not None:
        needed = _MIN_PROCESS_MEMORY * len(wanted)
        yield Diagnosis(
            Level.OK if memory >= needed else Level.WARN,
            "memory",
            f"this container may use {memory / 2**30:.1f} GiB",
            "" if memory >= needed else f"{needed / 2**30:.1f} GiB and the weights are needed: give it more",
        )


def _shared_memory(settings: Settings) -> Iterator[Diagnosis]:
    from cord_worker.local import limits

    if not limits.SHARED_MEMORY.is_dir():
        return
    free = limits.free_shared_memory()
    if free is None or free < _MIN_SHARED_MEMORY:
        there = "cannot be written" if free is None else f"has {free / 2**20:.1f} MiB free"
        embedded = settings.database_url is None
        yield Diagnosis(
            Level.FAIL if embedded and (free is None or not free) else Level.WARN,
            str(limits.SHARED_MEMORY),
            f"{limits.SHARED_MEMORY} {there}: checking answers, PostgreSQL, torch and vLLM need some",
            limits.ENLARGE_SHARED_MEMORY,
        )


def _temporary_folder() -> Iterator[Diagnosis]:
    try:
        with tempfile.TemporaryFile() as file:
            file.write(b"\0")
    except OSError as error:
        yield Diagnosis(
            Level.FAIL,
            "temporary files",
            f"none can be made: {error.strerror or error}",
            "set TMPDIR to a folder that can be written",
        )


def _disk(settings: Settings) -> Iterator[Diagnosis]:
    from cord_worker.local.state import check_usable

    try:
        check_usable(settings.state_dir)
    except LocalServiceError as error:
        yield Diagnosis(Level.FAIL, "state folder", str(error), "set CORD_STATE_DIR to another folder")
        return
    folder = settings.state_dir.expanduser().absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    enough = free >= _MIN_FREE_BYTES
    yield Diagnosis(
        Level.OK if enough else Level.WARN,
        "disk",
        f"{free / 2**30:.1f} GiB free for {settings.state_dir}",
        "" if enough else "about 1.7 KB per candidate are needed: free some, or set CORD_STATE_DIR to another disk",
    )
