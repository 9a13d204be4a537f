"""Configurations that a Python program gives: a cord.toml, a mapping with its tables, or a `RunConfig`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cord_worker.config import RunConfig
from cord_worker.errors import ConfigError
from cord_worker.local.state import StateDir, write_atomically

_FOLDER = "configurations"
_NO_FOLDER = Path(os.devnull)
"""Base for relative model folders in the text of a loaded configuration, which has only absolute ones."""


@dataclass(frozen=True, slots=True)
class GivenConfig:
    """A configuration, and the file that it was read from; without such a file, `text` has it as TOML."""

    config: RunConfig
    path: Path | None
    text: str

    def file(self, state_dir: Path) -> Path:
        """The file that worker processes read: `path`, or one that this method writes into the state folder. It stays
        there for workers that are started again later."""
        if self.path is not None:
            return self.path
        folder = StateDir.open(state_dir).path / _FOLDER
        folder.mkdir(mode=0o700, exist_ok=True)
        path = folder / f"{self.config.fingerprint()[:16]}.toml"
        write_atomically(path, self.text)
        return path


def given_config(config: str | os.PathLike[str] | Mapping[str, Any] | RunConfig) -> GivenConfig:
    """The configuration. A mapping has the tables of a cord.toml; relative model folders in it are relative to the
    working folder.

    Raises:
        ConfigError: it cannot be read or is wrong.
    """
    if isinstance(config, Mapping):
        config = RunConfig.parse(_toml(config), source="the configuration", folder=Path.cwd())
    if isinstance(config, RunConfig):
        text = _toml(config.model_dump(mode="json", exclude_none=True))
        if RunConfig.parse(text, source="the configuration", folder=_NO_FOLDER) != config:
            raise ConfigError("this configuration cannot be written as a cord.toml: write that file, and give its path")
        return GivenConfig(config, None, text)
    if not isinstance(config, str | os.PathLike):
        raise ConfigError(
            f"{type(config).__name__} is not a configuration: give the path of a cord.toml, a mapping with its tables, "
            "or a RunConfig"
        )
    path = Path(config)
    if not path.name:
        raise ConfigError("the path of the configuration is empty: name a cord.toml")
    return GivenConfig(RunConfig.load(path), path, "")


def _toml(document: Mapping[str, Any]) -> str:
    import tomlkit

    try:
        return tomlkit.dumps(_plain(document))
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"the configuration cannot be written as TOML: {error}; leave out options without a value"
        ) from None


def _plain(value: Any) -> Any:
    """Converts mappings and sequences of any kind to those that TOML has, and paths to texts."""
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return os.fspath(value) if isinstance(value, os.PathLike) else value
