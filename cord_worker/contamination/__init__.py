"""Finds questions of a benchmark in a dataset, and questions of a dataset that repeat others. Pure: no I/O.

See docs/contamination.md for what is found and what is not.
"""

from __future__ import annotations

from cord_worker.contamination.hits import Hit, HitKind, Question
from cord_worker.contamination.index import QuestionIndex, Thresholds
from cord_worker.contamination.near import NearIndex, NearThresholds
from cord_worker.contamination.normal_form import tokens

__all__ = ["Hit", "HitKind", "NearIndex", "NearThresholds", "Question", "QuestionIndex", "Thresholds", "tokens"]
