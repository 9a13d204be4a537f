"""The format `candidates`: one flat row for every candidate of every search, losers and invalid ones included.

As in `jsonl`, nothing that differs between two equal runs is written. So a candidate is named by its lineage, not by
its database key.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from cord_worker.export.format import LeftOut, Scope
from cord_worker.export.schema import Fields, Row

if TYPE_CHECKING:
    from cord_worker.store.reports.search_trees import SearchTree

_CANDIDATE_FIELDS: Fields = {
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
    "mean_probability": "number",
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
_RESCORE_FIELDS: Fields = {
    "rescore_score": "number",
    "rescore_log_prob_sum": "number",
    "rescore_answer_tokens": "integer",
    "rescore_thinking_tokens": "integer",
    "rescore_invalid_reason": "text",
}
"""The fields that `--rescoring` adds."""
FIELDS: Fields = {
    "id": "text",
    "question": "text",
    "answer": "text",
    "problem_state": "text",
    "base_score": "number",
    **_CANDIDATE_FIELDS,
}


def fields(scope: Scope) -> Fields:
    """Fields and their types; see `TreeCandidate`."""
    return {**FIELDS, **_rescore_fields(scope)}


def _rescore_fields(scope: Scope) -> Fields:
    return {} if scope.choices.rescoring is None else _RESCORE_FIELDS


def rows(scope: Scope, tree: SearchTree) -> Iterator[Row | LeftOut]:
    """A row for each candidate."""
    for one in filter(lambda candidate: scope.choices.take(candidate.teacher), tree.candidates):
        yield {
            "id": tree.key,
            "question": tree.question,
            "answer": tree.answer,
            "problem_state": tree.state,
            "base_score": tree.base_score,
            **{name: getattr(one, name) for name in _CANDIDATE_FIELDS},
            "sources": list(one.sources),
            **{name: getattr(one, name) for name in _rescore_fields(scope)},
        }
