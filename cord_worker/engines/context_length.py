"""The length of a model's context, from its configuration alone: neither torch nor transformers is imported."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cord_worker.engines.settings import EngineSettings
from cord_worker.errors import EngineLoadError

_FIELDS = ("max_position_embeddings", "n_positions")


def own_context(field: Callable[[str], Any]) -> int | None:
    """The context (tokens) that a model's configuration names, or None. `field` returns one of its fields, or None."""
    return next((value for value in map(field, _FIELDS) if isinstance(value, int) and value > 0), None)


def max_length_of(settings: EngineSettings, config: Any) -> int:
    """Context length (tokens): `max_model_len`, or that of the model's `config`. Raises EngineLoadError."""
    own = own_context(lambda name: getattr(config, name, None))
    if own is None and settings.max_model_len is None:
        raise EngineLoadError(f"model {settings.path!r} does not say how long its context is; set max_model_len")
    if own is not None and settings.max_model_len is not None and settings.max_model_len > own:
        raise EngineLoadError(
            f"max_model_len = {settings.max_model_len} is more than the {own} tokens of the context of model "
            f"{settings.path!r}; lower it"
        )
    return settings.max_model_len or own or 0
