"""What models cost: the table [prices] of cord.toml, or the same in a separate file."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, ValidationError, model_validator

from cord_worker.config.base import Table
from cord_worker.config.validation_messages import validation_message
from cord_worker.errors import ConfigError

_MILLION = 1_000_000
_HOUR = 3600.0


def _printable(value: str) -> str:
    if not value.isprintable() or value != value.strip():
        raise ValueError("must be a short name such as USD")
    return value


_Price = Annotated[float | None, Field(ge=0.0, allow_inf_nan=False)]


class ModelPrices(Table):
    """What one model costs: by its tokens, by the time of its GPUs, or both. All prices are in `Prices.currency`."""

    input: _Price = Field(
        None,
        description="Price of a million prompt tokens. If `cached` is given: of those that were not in the prefix "
        "cache.",
    )
    cached: _Price = Field(
        None, description="Price of a million prompt tokens from the prefix cache (default: as `input`)."
    )
    output: _Price = Field(None, description="Price of a million generated tokens.")
    gpu_hour: _Price = Field(None, description="Price of one GPU for an hour.")
    gpus: int = Field(1, ge=1, description="Number of GPUs of one worker of the model.")

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if self.input is None and self.output is None and self.cached is None and self.gpu_hour is None:
            raise ValueError("has no price: give `input` and `output` (a million tokens), or `gpu_hour`, or both")
        if (self.input is None) != (self.output is None):
            missing = "input" if self.input is None else "output"
            raise ValueError(f"`{missing}` is missing: give both `input` and `output`; 0 if it is free")
        if self.cached is not None and self.input is None:
            raise ValueError("`cached` needs `input` and `output` too")
        if self.gpu_hour is None and "gpus" in self.model_fields_set and self.gpus != 1:
            raise ValueError("`gpus` needs `gpu_hour`")
        return self

    def of_tokens(self, prompt_tokens: int, cached_tokens: int, completion_tokens: int) -> float:
        """The price of these tokens; `cached_tokens` are those of `prompt_tokens` that came from the cache."""
        if self.input is None or self.output is None:
            return 0.0
        cached = self.input if self.cached is None else self.cached
        price = (prompt_tokens - cached_tokens) * self.input + cached_tokens * cached + completion_tokens * self.output
        return price / _MILLION

    def gpu_hours(self, worker_seconds: float) -> float:
        """GPU hours of workers whose working times add up to `worker_seconds`."""
        return worker_seconds / _HOUR * self.gpus

    def of_gpus(self, hours: float) -> float:
        """The price of `hours` GPU hours."""
        return 0.0 if self.gpu_hour is None else hours * self.gpu_hour


class Prices(Table):
    """The prices of models, by their names in [models]."""

    currency: Annotated[str, Field(min_length=1, max_length=12), AfterValidator(_printable)] = Field(
        description="Name of the currency, as it is to be shown, such as USD."
    )
    models: Annotated[dict[str, ModelPrices], Field(min_length=1)]

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads a file of prices. Raises ConfigError, which names the file and every mistake in it."""
        try:
            document = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ConfigError(f"{path}: no such file. It should hold `currency` and a table [models.NAME]") from None
        except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ConfigError(f"{path}: not valid TOML: {error}") from None
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from None
        return cls._of(document, str(path))

    @classmethod
    def from_stored(cls, document: dict[str, Any]) -> Self:
        """The prices stored with a run. Raises ConfigError."""
        return cls._of(document, "the stored prices")

    @classmethod
    def _of(cls, document: dict[str, Any], source: str) -> Self:
        try:
            return cls.model_validate(document)
        except ValidationError as error:
            raise ConfigError(validation_message(error, source, cls)) from None
