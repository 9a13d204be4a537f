"""The length of a context: that of the model, under the names that models have for it, or the shorter configured
one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from cord_worker.config import ModelConfig
from cord_worker.engines.context_length import max_length_of, own_context
from cord_worker.engines.settings import EngineSettings
from cord_worker.errors import EngineLoadError


def settings(max_model_len: int | None = None) -> EngineSettings:
    return EngineSettings.of(ModelConfig(path="/nowhere", max_model_len=max_model_len))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"max_position_embeddings": 2048}, 2048),
        ({"n_positions": 1024}, 1024),
        ({"max_position_embeddings": None, "n_positions": 1024}, 1024),
        ({"max_position_embeddings": 2048, "n_positions": 1024}, 2048),
        ({"max_position_embeddings": "2048"}, None),
        ({"max_position_embeddings": 0}, None),
        ({}, None),
    ],
)
def test_a_file_and_a_loaded_configuration_name_the_same_context(fields: dict[str, Any], expected: int | None) -> None:
    assert own_context(fields.get) == expected
    if expected is not None:
        assert max_length_of(settings(), SimpleNamespace(**fields)) == expected
        assert max_length_of(settings(512), SimpleNamespace(**fields)) == 512


def test_a_context_that_nothing_names_or_that_is_too_long_is_refused() -> None:
    assert max_length_of(settings(512), SimpleNamespace()) == 512
    with pytest.raises(EngineLoadError, match="does not say how long its context is; set max_model_len"):
        max_length_of(settings(), SimpleNamespace())
    with pytest.raises(EngineLoadError, match="max_model_len = 4096 is more than the 2048 tokens"):
        max_length_of(settings(4096), SimpleNamespace(max_position_embeddings=2048))
