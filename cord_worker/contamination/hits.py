"""What is found: a question of a dataset that is, or contains, a question of a benchmark."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class HitKind(StrEnum):
    """How a question matches a benchmark's question, the strongest first; a pair of questions has one hit."""

    EXACT = "exact"
    """The same normal form."""
    RENUMBERED = "renumbered"
    """The same normal form, except for the numbers."""
    NGRAM = "ngram"
    """A run of consecutive tokens in common that is too long to be an accident."""
    CONTAINMENT = "containment"
    """Most of the benchmark question's short n-grams, in any order and with anything between them."""
    NEAR = "near"
    """Similar sets of short n-grams on both sides (Jaccard similarity)."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question with its place: `location` is `file.jsonl:17` (see `ProblemRecord`), `file` the path as given."""

    file: str
    location: str
    text: str


@dataclass(frozen=True, slots=True)
class Hit:
    """One match.

    Attributes:
        kind: the strongest kind that applies.
        benchmark: the benchmark's question.
        score: in (0, 1]; 1 for `exact` and `renumbered`; for `ngram` the longest common run as a share of the benchmark
            question's tokens; for `containment` the share of its n-grams; for `near` the Jaccard similarity.
        matching: the tokens in common, as they stand in the dataset's question; gaps are `…`.
    """

    kind: HitKind
    benchmark: Question
    score: float
    matching: str

    def to_json(self) -> dict[str, Any]:
        """The hit as JSON for scripts; keys are stable."""
        return {
            "kind": self.kind.value,
            "score": round(self.score, 4),
            "matching": self.matching,
            "benchmark_file": self.benchmark.file,
            "benchmark_location": self.benchmark.location,
            "benchmark_question": self.benchmark.text,
        }
