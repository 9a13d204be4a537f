"""The format `prm`: trajectories whose steps are labelled as good or not, for training a process reward model. Rows are
those of TRL's stepwise supervision, which axolotl reads too.

Every valid candidate that none extends ends a row, losers included, so that the label of each valid candidate appears.
Steps have no markers, and the prompt ends where a plain reply begins: so this service reads a candidate if it uses the
trained model as its reward model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from cord_worker.export.format import Labels, LeftOut, OptionError, Scope
from cord_worker.export.schema import Fields, Row

if TYPE_CHECKING:
    from cord_worker.store.reports.search_trees import SearchTree, TreeCandidate

_FIELDS: Fields = {"id": "text", "prompt": "text", "completions": ["text"], "labels": ["flag"]}
RIGHT_SHARE = 0.5
"""The least share of right answers of a good step, if none is given."""


def fields(scope: Scope) -> Fields:  # noqa: ARG001 - the same for all runs
    """Fields and their types."""
    return _FIELDS


def rows(scope: Scope, tree: SearchTree) -> Iterator[Row | LeftOut]:
    """The labelled paths of the tree; with `top_k` those of the highest last scores."""
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
            yield {"id": tree.key, "prompt": prompt, "completions": texts, "labels": labels_of(path, scope)}


def sequences(scope: Scope, row: Row) -> list[str]:  # noqa: ARG001 - the row is the text
    """The text that the trainer reads, with the line break that it puts after each step."""
    return [row["prompt"] + "".join(f"{step}\n" for step in row["completions"])]


def labelled_paths(tree: SearchTree) -> list[list[TreeCandidate]]:
    """The paths from the root to each valid candidate that no valid one extends, in the order of the tree. A candidate
    without a text, which only closes the thinking, is no step."""
    valid = {one.lineage: one for one in tree.candidates if one.is_valid and (one.text or "").strip()}
    extended = {one.parent for one in valid.values()}
    return [_path(one, valid) for one in valid.values() if one.lineage not in extended]


def labels_of(path: Sequence[TreeCandidate], scope: Scope) -> list[bool]:
    """The labels of a path's steps. The first step has no score before it, so it cannot fall: by gain it is good.

    Raises OptionError if the threshold is missing.
    """
    scores = [one.score or 0.0 for one in path]
    labels, threshold = scope.choices.labels or Labels.GAIN, scope.choices.threshold
    if labels is Labels.GAIN:
        return [place == 0 or score >= scores[place - 1] for place, score in enumerate(scores)]
    if labels is Labels.RIGHT_SHARE:
        least = RIGHT_SHARE if threshold is None else threshold
        return [(one.judgment or 0.0) >= least for one in path]
    if threshold is None:
        raise OptionError("--labels threshold needs --threshold T, the least score of a good step")
    return [score >= threshold for score in scores]


def _path(last: TreeCandidate, by_lineage: dict[str, TreeCandidate]) -> list[TreeCandidate]:
    path = [last]
    while (parent := path[-1].parent) is not None:
        path.append(by_lineage[parent])
    return path[::-1]
