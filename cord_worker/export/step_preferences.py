"""The format `step-dpo`: pairs of a step of the winning path and a sibling that lost to it, for preference training on
single steps.

Siblings have the same parent and were proposed for the same decision, so the two texts continue the same prompt.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from cord_worker.export.format import LeftOut, Scope
from cord_worker.export.schema import Fields, Row

if TYPE_CHECKING:
    from cord_worker.store.reports.search_trees import SearchTree, TreeCandidate

_FIELDS: Fields = {
    "id": "text",
    "step": "integer",
    "prompt": "text",
    "chosen": "text",
    "rejected": "text",
    "chosen_teacher": "text",
    "rejected_teacher": "text",
    "chosen_score": "number",
    "rejected_score": "number",
    "margin": "number",
}
_ENDS_OF_THINKING = frozenset({"think_end", "eos"})


def fields(scope: Scope) -> Fields:  # noqa: ARG001 - the same for all runs
    """Fields and their types; `step` counts in the trajectory from 1, `margin` is the difference of log scores."""
    return _FIELDS


def rows(scope: Scope, tree: SearchTree) -> Iterator[Row | LeftOut]:
    """The pairs of the tree, by step; with `top_k` those of the largest margins."""
    path = winning_path(tree)
    found = [
        (step, loser, margin)
        for step in path
        for loser in siblings(tree, step)
        if scope.choices.take(step.teacher, loser.teacher)
        and (margin := margin_of(step, loser)) > 0
        and margin >= (scope.choices.min_margin or 0.0)
    ]
    if scope.choices.top_k is not None:
        best = sorted(range(len(found)), key=lambda place: -found[place][2])[: scope.choices.top_k]
        found = [found[place] for place in sorted(best)]
    for step, loser, margin in found:
        yield _row(scope, tree, [one.text or "" for one in path[: step.depth - 1]], step, loser, margin)


def sequences(scope: Scope, row: Row) -> list[str]:  # noqa: ARG001 - the row is the text
    """The two texts that the trainer reads."""
    return [row["prompt"] + row["chosen"], row["prompt"] + row["rejected"]]


def winning_path(tree: SearchTree) -> list[TreeCandidate]:
    """The candidates of the winning path, from the root; empty without a winner."""
    return sorted((one for one in tree.candidates if one.winning), key=lambda one: one.depth)


def siblings(tree: SearchTree, step: TreeCandidate) -> list[TreeCandidate]:
    """The other valid candidates with a text that were proposed for the same decision and parent."""
    place = (step.parent, step.step, step.whole)
    return [
        one
        for one in tree.candidates
        if (one.parent, one.step, one.whole) == place and one.lineage != step.lineage and one.is_valid and one.text
    ]


def margin_of(step: TreeCandidate, other: TreeCandidate) -> float:
    """The log score of `step` minus that of `other`; 0 if `step` has no text or either has no score."""
    if step.score is None or other.score is None or not (step.text or "").strip():
        return 0.0
    return math.log(step.score) - math.log(other.score)


def _row(
    scope: Scope, tree: SearchTree, earlier: list[str], step: TreeCandidate, loser: TreeCandidate, margin: float
) -> Row | LeftOut:
    texts = [
        scope.required_student.step(
            tree.question,
            tree.passage,
            earlier,
            one.text or "",
            scope.segmentation,
            scope.today,
            closes=one.finish_reason in _ENDS_OF_THINKING,
        )
        for one in (step, loser)
    ]
    if texts[0] is None or texts[1] is None:
        return LeftOut.UNFIT
    return {
        "id": tree.key,
        "step": step.depth,
        "prompt": texts[0][0],
        "chosen": texts[0][1],
        "rejected": texts[1][1],
        "chosen_teacher": step.teacher,
        "rejected_teacher": loser.teacher,
        "chosen_score": step.score,
        "rejected_score": loser.score,
        "margin": margin,
    }
