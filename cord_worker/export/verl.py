"""The format `verl`: problems for reinforcement learning with verl, one per row. The reward function compares replies
with the known answer.

verl chooses its reward function by `data_source`. It does not know the default, which is the run's name, so training
ends with an error unless verl is given a reward function. The name of a dataset that verl knows selects that dataset's
rules.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from cord_worker.export.chat import is_plain
from cord_worker.export.format import LeftOut, Scope
from cord_worker.export.schema import Fields, Row
from cord_worker.prompting.first_turn import user_text

if TYPE_CHECKING:
    from cord_worker.store.reports.results import Result

_FIELDS: Fields = {
    "data_source": "text",
    "prompt": [{"role": "text", "content": "text"}],
    "ability": "text",
    "reward_model": {"style": "text", "ground_truth": "text"},
    "extra_info": {"index": "integer", "id": "text", "results": "integer", "right": "integer", "score": "number"},
}
_ABILITY = "reasoning"


def fields(scope: Scope) -> Fields:  # noqa: ARG001 - the same for all runs
    """Fields and their types."""
    return _FIELDS


def rows(scope: Scope, results: Sequence[Result]) -> Iterator[Row | LeftOut]:
    """The row of the problem. `extra_info` holds its position in the dataset, its id, the number of its results, the
    number of right ones, and the highest score."""
    first = results[0]
    user = user_text(first.question, first.passage)
    if not is_plain(scope, [user]):
        yield LeftOut.UNFIT
        return
    yield {
        "data_source": scope.choices.data_source or scope.run,
        "prompt": [{"role": "user", "content": user}],
        "ability": _ABILITY,
        "reward_model": {"style": "rule", "ground_truth": first.answer},
        "extra_info": {
            "index": first.position,
            "id": first.key,
            "results": len(results),
            "right": sum(result.correct is True for result in results),
            "score": max((result.score for result in results if result.score is not None), default=None),
        },
    }


def sequences(scope: Scope, row: Row) -> list[str]:
    """The text that the policy continues."""
    return [scope.required_student.thinking_turn(row["prompt"][0]["content"], scope.today)]
