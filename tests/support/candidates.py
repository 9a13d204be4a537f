"""Candidates of a search without models."""

from __future__ import annotations

import dataclasses

from cord_worker.search.types import Candidate, Expansion, SeedScope

SCOPE = SeedScope(run_seed=3, problem_key="limo-17")


def candidate_of(item: Expansion, id: int, **changes: object) -> Candidate:
    """The candidate of an expansion after a good proposal, with a score of 0.5."""
    candidate = Candidate(
        id=id,
        parent_id=item.parent_id,
        step=item.step,
        round=item.round,
        teacher=item.teacher,
        sample=item.sample,
        lineage=item.lineage,
        text=f"text {id}",
        finish_reason="step",
        score=0.5,
        thinking_tokens=9,
        invalid_reason=None,
        parent_rank=item.parent_rank,
        depth=item.depth,
        whole=item.whole,
    )
    return dataclasses.replace(candidate, **changes)  # type: ignore[arg-type]


def drawn_candidate(item: Expansion, id: int, **changes: object) -> Candidate:
    """Like `candidate_of`, with a text and a score that follow from the seed."""
    drawn = {"text": f"text {item.seed}", "score": (1 + item.seed % 1000) / 1001}
    return candidate_of(item, id, **{**drawn, "finish_reason": "think_end" if item.whole else "step", **changes})
