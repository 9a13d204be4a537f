"""The format `prm`: trajectories whose steps are labelled as good or not, for training a process reward model. Rows are
those of TRL's stepwise supervision, which axolotl reads too.

There is a row for each valid candidate that no other one extends, losers included, so every valid candidate is
labelled. Steps have no markers, and the prompt ends where a plain reply begins, because this service shows candidates
to a reward model in that form.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from cord_worker.export.format import Labels, LeftOut, OptionError, Scope
from cord_worker.export.schema import Fields, Row
from cord_worker.search.gains import gain_over

if TYPE_CHECKING:
    from cord_worker.store.reports.search_trees import SearchTree, TreeCandidate

_FIELDS: Fields = {"id": "text", "prompt": "text", "completions": ["text"], "labels": ["flag"]}
RIGHT_SHARE = 0.5
"""The least share of right answers for a good step, if no threshold is given."""


def fields(scope: Scope) -> Fields:  # noqa: ARG001 - the same for all runs
    """Fields and their types."""
    return _FIELDS


def rows(scope: Scope, tree: SearchTree) -> Iterator[Row | LeftOut]:
    """The labelled paths of the tree; with `top_k` those whose last steps have the highest scores."""
    paths = [path for path in labelled_paths(tree) if scope.choices.take(*(one.teacher for one in path))]
    if scope.choices.top_k is not None:
        best = sorted(range(len(paths)), key=lambda place: -(paths[place][-1].score or 0.0))[: scope.choices.top_k]
        paths = [paths[place] for place in sorted(best)]
    prompt = scope.required_student.plain_turn(tree.question, tree.passage, scope.today)
    for path in paths:
        texts = [(one.text or "").strip() for one in path]
        if prompt is None or scope.required_student.holds_control_token(*texts):
            yield LeftOut.UNFIT
        else:
            labels = labels_of(path, scope, base_score=tree.base_score)
            yield {"id": tree.key, "prompt": prompt, "completions": texts, "labels": labels}


def sequences(scope: Scope, row: Row) -> list[str]:  # noqa: ARG001 - the row is the text
    """The text that the trainer reads, with the line break that it puts after each step."""
    return [row["prompt"] + "".join(f"{step}\n" for step in row["completions"])]


def labelled_paths(tree: SearchTree) -> list[list[TreeCandidate]]:
    """The paths from the root to each valid candidate that no valid one extends, in the order of the tree. A candidate
    without a text, which only closes the thinking, is not a step."""
    valid = {one.lineage: one for one in tree.candidates if one.is_valid and (one.text or "").strip()}
    extended = {one.parent for one in valid.values()}
    return [_path(one, valid) for one in valid.values() if one.lineage not in extended]


def labels_of(path: Sequence[TreeCandidate], scope: Scope, *, base_score: float | None) -> list[bool]:
    """The labels of a path's steps: True for a good one. By gain, the first step is compared with the problem's base
    score; it is good if there is none.

    Raises OptionError if the labels need a threshold and none is given.
    """
    scores = [one.score for one in path]
    labels, threshold = scope.choices.labels or Labels.GAIN, scope.choices.threshold
    if labels is Labels.GAIN:
        gains = [gain_over(score, before) for score, before in zip(scores, [base_score, *scores], strict=False)]
        return [one is None or one >= 0 for one in gains]
    if labels is Labels.RIGHT_SHARE:
        least = RIGHT_SHARE if threshold is None else threshold
        return [(one.judgment or 0.0) >= least for one in path]
    if threshold is None:
        raise OptionError("--labels threshold needs --threshold T, the least score of a good step")
    return [(score or 0.0) >= threshold for score in scores]


def _path(last: TreeCandidate, by_lineage: dict[str, TreeCandidate]) -> list[TreeCandidate]:
    path = [last]
    while (parent := path[-1].parent) is not None:
        path.append(by_lineage[parent])
    return path[::-1]
