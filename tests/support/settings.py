"""Settings of engines and searches as cord.toml has them by default, with changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from cord_worker.config import ModelConfig, SearchConfig
from cord_worker.engines.settings import EngineSettings
from cord_worker.search.types import SearchSettings


def engine_settings(path: Path | str, **changes: Any) -> EngineSettings:
    """How the model at `path` is hosted."""
    return replace(EngineSettings.of(ModelConfig(path=str(path))), **changes)


def search_settings(**changes: Any) -> SearchSettings:
    """What decides a search without an integrator."""
    return replace(SearchSettings.of(SearchConfig(), None), **changes)
