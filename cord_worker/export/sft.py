"""The format `sft`, for supervised fine-tuning: TRL's `trl sft` reads it directly, with text columns `prompt` and
`completion`.

The prompt is the first turn, rendered with the student's template and ending with `<think>`. The completion is the
steps, `</think>` and the final answer. Chat messages would be unsafe: a student's template may drop the thinking of a
reply (those of DeepSeek's distilled models do), and training would then silently teach only the answer. The trainer
adds the student's end token to the completion, and computes the loss on the completion alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from cord_worker.export.format import LeftOut, Scope
from cord_worker.export.schema import Fields, Row

if TYPE_CHECKING:
    from cord_worker.store.reports.results import Result

FIELDS: Fields = {"id": "text", "prompt": "text", "completion": "text"}


def fields(scope: Scope) -> Fields:  # noqa: ARG001 - the same for all runs
    """Fields and their types."""
    return FIELDS


def rows(scope: Scope, results: Sequence[Result]) -> Iterator[Row | LeftOut]:
    """A row for each trajectory."""
    for result in results:
        texts = scope.required_student.trajectory(result, scope.segmentation, scope.today)
        if texts is None:
            yield LeftOut.UNFIT
        else:
            yield {"id": result.key, "prompt": texts[0], "completion": texts[1]}


def sequences(scope: Scope, row: Row) -> list[str]:  # noqa: ARG001 - the row is the text
    """The text that the trainer reads."""
    return [row["prompt"] + row["completion"]]
