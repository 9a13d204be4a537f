"""The formats `dpo` (pairs of a right and a wrong result of one problem) and `kto` (results with a label), for the
trainers of the same names in TRL.

Both hold text that is already rendered with the student's template, as `sft` does. With chat messages, a template that
drops the thinking would leave only the answers to compare.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from cord_worker.export.format import LeftOut, Scope
from cord_worker.export.schema import Fields, Row

if TYPE_CHECKING:
    from cord_worker.store.reports.results import Result

_PAIR: Fields = {"id": "text", "prompt": "text", "chosen": "text", "rejected": "text"}
_LABELLED: Fields = {"id": "text", "prompt": "text", "completion": "text", "label": "flag"}


def pair_fields(scope: Scope) -> Fields:  # noqa: ARG001 - the same for all runs
    """Fields of `dpo` and their types."""
    return _PAIR


def pairs(scope: Scope, results: Sequence[Result]) -> Iterator[Row | LeftOut]:
    """At most `top_k` pairs of results of one problem: the first right one with the first wrong one, the second with
    the second, and so on. Each result is used once."""
    rendered: dict[bool, list[tuple[str, str]]] = {True: [], False: []}
    for result in results:
        texts = scope.required_student.trajectory(result, scope.segmentation, scope.today)
        if result.correct is None:
            yield LeftOut.UNDECIDED
        elif texts is None:
            yield LeftOut.UNFIT
        else:
            rendered[result.correct].append(texts)
    matched = zip(rendered[True], rendered[False], strict=False)
    for (prompt, chosen), (_, rejected) in islice(matched, scope.choices.top_k):
        yield {"id": results[0].key, "prompt": prompt, "chosen": chosen, "rejected": rejected}


def pair_sequences(scope: Scope, row: Row) -> list[str]:  # noqa: ARG001 - the row is the text
    """The two texts that the trainer reads."""
    return [row["prompt"] + row["chosen"], row["prompt"] + row["rejected"]]


def labelled_fields(scope: Scope) -> Fields:  # noqa: ARG001 - the same for all runs
    """Fields of `kto` and their types."""
    return _LABELLED


def labelled(scope: Scope, results: Sequence[Result]) -> Iterator[Row | LeftOut]:
    """A row for each result with a right or wrong answer."""
    for result in results:
        texts = scope.required_student.trajectory(result, scope.segmentation, scope.today)
        if result.correct is None:
            yield LeftOut.UNDECIDED
        elif texts is None:
            yield LeftOut.UNFIT
        else:
            prompt, completion = texts
            yield {"id": result.key, "prompt": prompt, "completion": completion, "label": result.correct}


def labelled_sequences(scope: Scope, row: Row) -> list[str]:  # noqa: ARG001 - the row is the text
    """The text that the trainer reads."""
    return [row["prompt"] + row["completion"]]
