"""The format `axolotl`: chat messages whose content is a list of parts. Steps whose score fell have `"train": false`:
the student reads them, but does not learn to write them.

The thinking is inline by default, because axolotl masks what a template adds between two fields: with the thinking in a
field of its own, the student would not learn to write `</think>`. The user's part has no `train`, because otherwise
axolotl would train on the end of the user's turn. The line breaks before a step stand at the end of the previous part,
because a line break is mostly one token with the punctuation before it, and axolotl masks a token that lies in two
parts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from cord_worker.export.chat import Exchange, exchange, sequence
from cord_worker.export.format import LeftOut, Scope, Think
from cord_worker.export.schema import Fields, Row, Schema
from cord_worker.prompting.trajectory import ANSWER_OPENING, THINK_OPEN, Segmentation, trajectory_text

if TYPE_CHECKING:
    from cord_worker.store.reports.results import Result, ResultStep

_PARTS: list[Schema] = [{"type": "text", "text": "text", "train": "flag"}]


def fields(scope: Scope) -> Fields:
    """Fields and their types."""
    message: dict[str, Schema] = {"role": "text", "content": _PARTS}
    if _think(scope) is Think.FIELD:
        message["reasoning_content"] = _PARTS
    return {"id": "text", "messages": [message]}


def rows(scope: Scope, results: Sequence[Result]) -> Iterator[Row | LeftOut]:
    """A row for each trajectory."""
    for result in results:
        found = exchange(scope, result)
        if found is None:
            yield LeftOut.UNFIT
        else:
            thinking = step_parts(result.steps, scope.segmentation)
            yield {"id": result.key, "messages": _messages(found, thinking, _think(scope))}


def sequences(scope: Scope, row: Row) -> list[str]:
    """The text that the trainer reads."""
    user, assistant = row["messages"]
    reply = _text(assistant["content"])
    thinking = assistant.get("reasoning_content")
    if thinking is not None:
        reply = Exchange("", _text(thinking), reply).reply
    return [sequence(scope, _text(user["content"]), reply)]


def falls(scores: Sequence[float | None]) -> list[bool]:
    """For each step, whether its score is below that of the step before it. False for the first step, and if one of the
    two has no score."""
    before = [None, *scores]
    return [
        score is not None and earlier is not None and score < earlier
        for earlier, score in zip(before, scores, strict=False)
    ]


def step_parts(steps: Sequence[ResultStep], segmentation: Segmentation) -> list[dict[str, Any]]:
    """The thinking as parts, one for each step; their texts joined are the trajectory's text."""
    texts = [f"{segmentation.opening(number)}{step.text}" for number, step in enumerate(steps, start=1)]
    # trajectory_text drops whitespace at the end, and a last step that only closes the thinking. Cut the same here.
    left = len(trajectory_text([step.text for step in steps], segmentation))
    for index, text in enumerate(texts):
        texts[index] = text[:left]
        left -= len(texts[index])
    for index in range(1, len(texts)):
        rest = texts[index].lstrip("\n")
        texts[index - 1] += texts[index][: len(texts[index]) - len(rest)]
        texts[index] = rest
    return [
        _part(text, train=not fell)
        for text, fell in zip(texts, falls([step.score for step in steps]), strict=True)
        if text
    ]


def _think(scope: Scope) -> Think:
    return scope.choices.think or Think.INLINE


def _messages(found: Exchange, thinking: list[dict[str, Any]], think: Think) -> list[dict[str, Any]]:
    user = [_part(found.user, train=None)]
    if think is Think.FIELD:
        return [
            {"role": "user", "content": user, "reasoning_content": None},
            {"role": "assistant", "content": [_part(found.answer, train=True)], "reasoning_content": thinking},
        ]
    opening, closing = _part(f"{THINK_OPEN}\n", train=True), _part(ANSWER_OPENING, train=True)
    content = [opening, *thinking, closing, _part(found.answer, train=True)]
    return [{"role": "user", "content": user}, {"role": "assistant", "content": content}]


def _part(text: str, *, train: bool | None) -> dict[str, Any]:
    return {"type": "text", "text": text, "train": train}


def _text(parts: Sequence[Row]) -> str:
    return "".join(part["text"] for part in parts)
