"""The report on a measurement: figures for a table, and one flat JSON object for scripts."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cord_worker.errors import ConfigError

MIN_ROUNDS = 3
"""Fewer rounds are too few for a median."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of a measurement, with a value per round; `values` are in `unit`."""

    name: str
    values: tuple[float, ...]
    unit: str = ""
    digits: int = 1

    @property
    def median(self) -> float:
        """The median of all rounds."""
        return statistics.median(self.values)


@dataclass(frozen=True, slots=True)
class Report:
    """A measurement: `keys` are the stable figures of `--json`, `notes` say what was measured and how."""

    bench: str
    figures: Sequence[Figure]
    keys: Mapping[str, Any]
    notes: Sequence[str] = field(default_factory=tuple)

    def to_json(self) -> dict[str, Any]:
        """One object: the keys, and under `figures` the values of all rounds."""
        return {
            "bench": self.bench,
            **self.keys,
            "figures": {item.name: {"unit": item.unit, "values": list(item.values)} for item in self.figures},
            "notes": list(self.notes),
        }


def check_rounds(rounds: int) -> None:
    """Raises ConfigError for fewer than 3 rounds."""
    if rounds < MIN_ROUNDS:
        raise ConfigError(f"{rounds} rounds are too few for a median: give --rounds {MIN_ROUNDS} or more")


def quotients(above: Sequence[float], below: Sequence[float]) -> tuple[float, ...]:
    """The quotient of two measurements, round by round."""
    return tuple(one / other for one, other in zip(above, below, strict=True))
