"""Settings of engines, sampling and searches, with changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from cord_worker.config import ModelConfig, SearchConfig
from cord_worker.engines.protocol import Sampling
from cord_worker.engines.settings import EngineSettings
from cord_worker.search.types import SearchSettings


def engine_settings(path: Path | str, **changes: Any) -> EngineSettings:
    """How the model at `path` is hosted, by default."""
    return replace(EngineSettings.of(ModelConfig(path=str(path))), **changes)


def search_settings(**changes: Any) -> SearchSettings:
    """What decides a search without an integrator, by default."""
    return replace(SearchSettings.of(SearchConfig(), None), **changes)


def small_search(**changes: Any) -> SearchSettings:
    """Four slots, six short steps, one sample of each teacher."""
    small = {"beam_width": 4, "samples_per_teacher": 1, "max_steps": 6, "thinking_tokens": 60, "step_tokens": 16}
    return search_settings(**{**small, "loop_ngram": 12, "loop_repeats": 8, "max_rounds": 3, **changes})


def sampling(**changes: Any) -> Sampling:
    """A teacher's usual sampling, up to 64 tokens."""
    usual = {"temperature": 0.6, "top_p": 0.95, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
    return Sampling(**{**usual, "max_tokens": 64, "seed": 1, "answer_tokens": 0, **changes})


def greedy(**changes: Any) -> Sampling:
    """The most likely token every time, up to 64 tokens."""
    return sampling(**{"temperature": 0.0, "top_p": 1.0, **changes})
