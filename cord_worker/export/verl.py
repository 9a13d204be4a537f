"""The format `verl`: problems for reinforcement learning with verl, one row for each, whose known answer is the
reference of the reward.

verl chooses its reward function by `data_source`. The run's name, the default, is not one that it knows, so training
ends with an error unless it is given a function of its own; the name of a dataset that it knows selects its rules.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from cord_worker.export.chat import is_plain, user_text
from cord_worker.export.format import LeftOut, Scope
from cord_worker.export.schema import Fields, Row

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
    """The row of the problem. `extra_info` has its place in the dataset, its id, the number of its results and of the
    right ones among them, and the highest score."""
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
