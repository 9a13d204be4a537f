"""Stored values and scopes from which export formats make rows in tests."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import cord_worker.demo
from cord_worker.export.format import Choices, Facts, Scope
from cord_worker.export.metadata import Metadata
from cord_worker.export.student import Student
from cord_worker.prompting.trajectory import PROMPTED, Segmentation
from cord_worker.store.reports.results import Result, ResultStep
from cord_worker.store.reports.search_trees import SearchTree, TreeCandidate

MODELS = Path(cord_worker.demo.__file__).parent / "models"

RESULT = Result(
    position=7,
    key="p1",
    question="How many?",
    answer="4",
    passage=None,
    attributes={},
    base_score=0.1,
    score=0.9,
    finish="think_end",
    answer_text=" The final answer is 4.\n",
    correct=True,
    verification=None,
    steps=(
        ResultStep(1, "a", " Count: 2 and 2.", 0.5, "step", 5),
        ResultStep(2, "b", " Then 2 + 2 = 5.", 0.3, "step", 5),
        ResultStep(3, "b", " So 2 + 2 = 4.\n", 0.9, "think_end", 5),
    ),
)
THINKING = "### Step 1. Count: 2 and 2.\n### Step 2. Then 2 + 2 = 5.\n### Step 3. So 2 + 2 = 4."
REPLY = f"<think>\n{THINKING}\n</think>\n\nThe final answer is 4."


def scope(
    choices: Choices | None = None,
    *,
    student: Student | None = None,
    segmentation: Segmentation = PROMPTED,
    has_samples: bool = False,
) -> Scope:
    """The scope of a run called `mine`."""
    return Scope(
        run="mine",
        segmentation=segmentation,
        today=datetime.date(2025, 1, 1),
        choices=choices or Choices(),
        student=student,
        facts=lambda: Facts({"run": "mine"}, Metadata({}), has_samples=has_samples, has_passages=False),
    )


def candidate(
    lineage: str, text: str | None, score: float | None, parent: str | None = None, **more: Any
) -> TreeCandidate:
    """A scored candidate that was not kept; its depth is the length of its lineage."""
    values: dict[str, Any] = {
        "lineage": lineage, "parent": parent, "step": len(lineage), "depth": len(lineage), "round": 0, "slot": 0,
        "teacher": "a", "sample": 0, "whole": False, "sources": (), "seed": 1, "max_tokens": 10, "state": "scored",
        "text": text, "finish_reason": "step", "invalid_reason": None, "duplicate_of": None, "score": score,
        "log_prob_sum": None, "mean_probability": score, "answer_tokens": 1, "thinking_tokens": 5,
        "completion_tokens": 5, "judgment": None,
        "rank": None, "kept": False, "winning": False, "finish": None, "dropped_at_step": None, "final_answer": None,
        "correct": None,
    }  # fmt: skip
    return TreeCandidate(**{**values, **more})


def tree(*candidates: TreeCandidate, **more: Any) -> SearchTree:
    """The tree of a done problem."""
    values: dict[str, Any] = {
        "key": "p1", "question": "How many?", "answer": "4", "passage": None, "state": "done",
        "base_score": 0.1, "score": 0.9, "correct": True,
    }  # fmt: skip
    return SearchTree(**{**values, **more}, candidates=candidates)


TREE = tree(
    candidate("A", " Count: 2 and 2.", 0.5, winning=True, kept=True),
    candidate("B", " Count: 2 and 3.", 0.2, teacher="b", kept=True),
    candidate("C", " Count: 2 and 2.", None, state="invalid", invalid_reason="duplicate", duplicate_of="A"),
    candidate("D", " Guess: 7.", 0.45, teacher="b"),
    candidate("AA", " So 2 + 2 = 4.\n", 0.9, "A", winning=True, kept=True, finish_reason="think_end"),
    candidate("AB", " So 2 + 2 = 5.", 0.4, "A", teacher="b"),
    candidate("BA", " So 2 + 3 = 5.", 0.1, "B"),
)
"""A winning path A, AA; B and D lost at step 1, AB at step 2; BA extends the loser B; C is a duplicate."""
