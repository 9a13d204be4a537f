"""The formats `sharegpt` and `alpaca`, and the entries of `dataset_info.json` with which LLaMA-Factory finds them.

The thinking stands inside the reply: LLaMA-Factory's templates of reasoning models look for `<think>` there, and add an
empty one only if there is none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from cord_worker.export.chat import exchange, sequence
from cord_worker.export.format import LeftOut, Scope
from cord_worker.export.schema import Fields, Row

if TYPE_CHECKING:
    from cord_worker.store.reports.results import Result

_CONVERSATION: Fields = {"id": "text", "conversations": [{"from": "text", "value": "text"}]}
_INSTRUCTION: Fields = {"id": "text", "instruction": "text", "input": "text", "output": "text"}

ENTRIES: dict[str, dict[str, Any]] = {
    "sharegpt": {
        "formatting": "sharegpt",
        "columns": {"messages": "conversations"},
        "tags": {"role_tag": "from", "content_tag": "value", "user_tag": "human", "assistant_tag": "gpt"},
    },
    "alpaca": {
        "formatting": "alpaca",
        "columns": {"prompt": "instruction", "query": "input", "response": "output"},
    },
}
"""The entry of `dataset_info.json` for each of the two formats, without the name of the file."""


def conversation_fields(scope: Scope) -> Fields:  # noqa: ARG001 - the same for all runs
    """Fields of `sharegpt` and their types."""
    return _CONVERSATION


def conversations(scope: Scope, results: Sequence[Result]) -> Iterator[Row | LeftOut]:
    """A row of `sharegpt` for each trajectory."""
    for result in results:
        found = exchange(scope, result)
        if found is None:
            yield LeftOut.UNFIT
        else:
            turns = [{"from": "human", "value": found.user}, {"from": "gpt", "value": found.reply}]
            yield {"id": result.key, "conversations": turns}


def conversation_sequences(scope: Scope, row: Row) -> list[str]:
    """The text that the trainer reads."""
    user, reply = row["conversations"]
    return [sequence(scope, user["value"], reply["value"])]


def instruction_fields(scope: Scope) -> Fields:  # noqa: ARG001 - the same for all runs
    """Fields of `alpaca` and their types."""
    return _INSTRUCTION


def instructions(scope: Scope, results: Sequence[Result]) -> Iterator[Row | LeftOut]:
    """A row of `alpaca` for each trajectory. A passage stands before the question, where the teachers read it, and not
    in `input`, which trainers put after the instruction."""
    for result in results:
        found = exchange(scope, result)
        if found is None:
            yield LeftOut.UNFIT
        else:
            yield {"id": result.key, "instruction": found.user, "input": "", "output": found.reply}


def instruction_sequences(scope: Scope, row: Row) -> list[str]:
    """The text that the trainer reads."""
    return [sequence(scope, row["instruction"], row["output"])]
