"""`cordctl bench contamination`: how many planted copies of a benchmark's questions are found in a dataset, by kind.

The copies (`contamination.planting`) replace some questions of the dataset. A hit of another question is a false alarm,
unless the dataset has questions of the benchmark already.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from cord_worker.contamination import Hit, HitKind, NearIndex, Question, QuestionIndex
from cord_worker.contamination.planting import PLANTS
from cord_worker.errors import DatasetError

_MOST_NAMED = 50


@dataclass(slots=True)
class PlantFigures:
    """The copies of one kind: how many were `planted`, how many were `found` (by the kind of the hit), and the `missed`
    ones."""

    planted: int = 0
    found: Counter[HitKind] = field(default_factory=Counter)
    missed: list[dict[str, str]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """For scripts; keys are stable."""
        return {
            "planted": self.planted,
            "found": self.found.total(),
            "by_kind": {kind.value: count for kind, count in self.found.items()},
            "missed": self.missed[:_MOST_NAMED],
        }


@dataclass(slots=True)
class ContaminationFigures:
    """The results. `false_alarms` counts the dataset's own questions with a hit, and `alarms` holds the first of them.
    `found_near` counts the copies that only the index of near questions (`NearIndex`) finds, `false_near` its
    additional false alarms. Seconds are CPU time."""

    questions: int
    benchmark: int
    plants: dict[str, PlantFigures]
    false_alarms: int
    alarms: list[dict[str, Any]]
    found_near: int
    false_near: int
    index_seconds: float
    lookup_seconds: float

    def to_json(self) -> dict[str, Any]:
        """For scripts; keys are stable."""
        return {
            "questions": self.questions,
            "benchmark": self.benchmark,
            "planted": sum(one.planted for one in self.plants.values()),
            "found": sum(one.found.total() for one in self.plants.values()),
            "plants": {name: one.to_json() for name, one in self.plants.items()},
            "false_alarms": self.false_alarms,
            "alarms": self.alarms,
            "found_near": self.found_near,
            "false_near": self.false_near,
            "index_seconds": round(self.index_seconds, 3),
            "lookup_seconds": round(self.lookup_seconds, 3),
        }


def measure_contamination(
    questions: Sequence[Question], benchmark: Sequence[Question], copies: int, seed: int
) -> ContaminationFigures:
    """Replaces as many of the `questions` as `copies` says by copies of questions of `benchmark`, each kind of copy in
    turn. Then looks all questions up.

    Raises DatasetError if there are fewer questions or fewer questions of the benchmark than copies.
    """
    if copies > min(len(questions), len(benchmark)):
        raise DatasetError(
            f"{copies} copies need as many questions: there are {len(questions)} and, in the benchmark, "
            f"{len(benchmark)}. Plant fewer with --copies."
        )
    randomness = random.Random(seed)
    places = randomness.sample(range(len(questions)), copies)
    sources = randomness.sample(range(len(benchmark)), copies)
    texts = [question.text for question in questions]
    planted: dict[int, tuple[str, Question]] = {}
    for turn, (place, number) in enumerate(zip(places, sources, strict=True)):
        name = list(PLANTS)[turn % len(PLANTS)]
        texts[place] = PLANTS[name](benchmark[number].text, randomness)
        planted[place] = (name, benchmark[number])
    begun = time.process_time()
    index = QuestionIndex(benchmark)
    built = time.process_time()
    hits = index.hits(texts)
    done = time.process_time()
    near = NearIndex(benchmark).hits(texts)
    plants = {name: PlantFigures() for name in PLANTS}
    found_near = 0
    for place, (name, source) in planted.items():
        figures = plants[name]
        figures.planted += 1
        hit = _hit_on(hits[place], source)
        if hit is not None:
            figures.found[hit.kind] += 1
        else:
            found_near += _hit_on(near[place], source) is not None
            figures.missed.append({"question": texts[place], "benchmark_question": source.text})
    others = [place for place in range(len(questions)) if place not in planted]
    alarms = [place for place in others if hits[place]]
    return ContaminationFigures(
        questions=len(questions),
        benchmark=len(benchmark),
        plants=plants,
        false_alarms=len(alarms),
        alarms=[{"question": texts[place], **hits[place][0].to_json()} for place in alarms[:_MOST_NAMED]],
        found_near=found_near,
        false_near=sum(bool(near[place]) and not hits[place] for place in others),
        index_seconds=built - begun,
        lookup_seconds=done - built,
    )


def _hit_on(hits: Sequence[Hit], question: Question) -> Hit | None:
    return next((hit for hit in hits if hit.benchmark.text == question.text), None)
