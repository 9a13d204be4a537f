"""Every option of cord.toml reaches the engine, search or request that uses it."""

from __future__ import annotations

from dataclasses import MISSING, fields
from enum import Enum
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from cord_worker.config import IntegrationConfig, ModelConfig, OpenAiOptions, SearchConfig, TeacherConfig, VllmOptions
from cord_worker.engines.protocol import Sampling
from cord_worker.engines.settings import EngineSettings
from cord_worker.search.types import SearchSettings

MODEL = ModelConfig(path="org/one")
SEARCH = SearchConfig()
TEACHER = TeacherConfig(name="first", model="one")

OF_MODEL = {"workers": "the fleet's", "system_prompt": "a part of the first turn", "think_open": "", "think_close": ""}
OF_SEARCH = {"segmentation": "prompting's", "phrases": "prompting's", "answer_tokens": "Sampling's"}
OF_TEACHER = {"name": "the row's", "model": "the row's", "system_prompt": "a part of the first turn"}
"""Options that are not copied under their own names, and where they go."""

ODD: dict[str, Any] = {
    "gguf_file": "weights.gguf",
    "max_model_len": 4096,
    "revision": "abc",
    "threads": 3,
    "template_options": {"reasoning_effort": "high"},
    "vllm": VllmOptions(tensor_parallel_size=2),
    "openai": OpenAiOptions(base_url="http://127.0.0.1:1"),
    "total_tokens": 7,
}


def changed(table: BaseModel, name: str) -> Any:
    """A value of the option that differs from that in `table`."""
    value = getattr(table, name)
    if name in ODD:
        return ODD[name]
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    literals = [one for one in get_args(type(table).model_fields[name].annotation) if one != value]
    return literals[0] if literals else f"{value}-changed"


def copied(table: BaseModel, elsewhere: dict[str, str]) -> list[str]:
    assert set(elsewhere) <= set(type(table).model_fields)
    return [name for name in type(table).model_fields if name not in elsewhere]


def plain(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else value


@pytest.mark.parametrize("name", copied(MODEL, OF_MODEL))
def test_every_option_of_a_model_arrives_at_its_engine(name: str) -> None:
    value = changed(MODEL, name)
    assert value != getattr(MODEL, name)
    assert getattr(EngineSettings.of(MODEL.model_copy(update={name: value})), name) == value


def test_the_tags_of_a_model_arrive_at_its_engine() -> None:
    tags = EngineSettings.of(ModelConfig(path="org/one", think_open="[THINK]", think_close="[/THINK]")).think_tags
    assert tags is not None
    assert (tags.opening, tags.closing) == ("[THINK]", "[/THINK]")


@pytest.mark.parametrize("name", copied(SEARCH, OF_SEARCH))
def test_every_option_of_a_search_arrives_at_the_algorithm(name: str) -> None:
    value = changed(SEARCH, name)
    assert value != getattr(SEARCH, name)
    settings = SearchSettings.of(SEARCH.model_copy(update={name: value}), None)
    assert plain(getattr(settings, name)) == value


def test_the_cap_of_an_integrator_arrives_at_the_algorithm() -> None:
    assert SearchSettings.of(SEARCH, IntegrationConfig(model="one", max_tokens=77)).integration_tokens == 77


@pytest.mark.parametrize("name", copied(TEACHER, OF_TEACHER))
def test_every_setting_of_a_teacher_arrives_at_its_requests(name: str) -> None:
    value = changed(TEACHER, name)
    assert value != getattr(TEACHER, name)
    sampling = Sampling.of(TEACHER.model_copy(update={name: value}), 5, 6, answer_tokens=7)
    assert getattr(sampling, name) == value
    assert (sampling.max_tokens, sampling.seed, sampling.answer_tokens) == (5, 6, 7)


@pytest.mark.parametrize("settings", [EngineSettings, SearchSettings, Sampling])
def test_settings_have_no_defaults_so_that_a_forgotten_option_is_an_error(settings: type[Any]) -> None:
    assert fields(settings)
    assert [one.name for one in fields(settings) if (one.default, one.default_factory) != (MISSING, MISSING)] == []
