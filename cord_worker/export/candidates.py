"""The format `candidates`: one flat row for every candidate of every search, losers and invalid ones included.

As in `jsonl`, nothing that differs between two equal runs is written; lineages take the place of keys.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from cord_worker.export.format import LeftOut, Scope
from cord_worker.export.schema import Fields, Row

if TYPE_CHECKING:
    from cord_worker.store.reports.search_trees import SearchTree

_OF_CANDIDATES: Fields = {
    "lineage": "text",
    "parent": "text",
    "step": "integer",
    "depth": "integer",
    "round": "integer",
    "slot": "integer",
    "teacher": "text",
    "sample": "integer",
    "whole": "flag",
    "sources": ["text"],
    "seed": "integer",
    "max_tokens": "integer",
    "state": "text",
    "text": "text",
    "finish_reason": "text",
    "invalid_reason": "text",
    "duplicate_of": "text",
    "score": "number",
    "log_prob_sum": "number",
    "answer_tokens": "integer",
    "thinking_tokens": "integer",
    "completion_tokens": "integer",
    "judgment": "number",
    "rank": "integer",
    "kept": "flag",
    "winning": "flag",
    "finish": "text",
    "dropped_at_step": "integer",
    "final_answer": "text",
    "correct": "flag",
}
FIELDS: Fields = {"id": "text", "question": "text", "answer": "text", "problem_state": "text", **_OF_CANDIDATES}


def fields(scope: Scope) -> Fields:  # noqa: ARG001 - the same for all runs
    """Fields and their types; see `TreeCandidate`."""
    return FIELDS


def rows(scope: Scope, tree: SearchTree) -> Iterator[Row | LeftOut]:
    """A row for each candidate."""
    for one in filter(lambda candidate: scope.choices.take(candidate.teacher), tree.candidates):
        yield {
            "id": tree.key,
            "question": tree.question,
            "answer": tree.answer,
            "problem_state": tree.state,
            **{name: getattr(one, name) for name in _OF_CANDIDATES},
            "sources": list(one.sources),
        }
