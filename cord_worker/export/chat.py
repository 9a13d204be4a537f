"""The format `messages`, and what it shares with the other formats of chat messages.

A trainer renders messages with the student's chat template, which may add think tags, drop the thinking or expect it in
another field (docs/exports.md#chat-messages). A trajectory with think tags in its texts is left out, so that the
thinking is opened and closed once. If a student is named, a trajectory with its control tokens is left out too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cord_worker.export.format import LeftOut, Scope, Think
from cord_worker.export.schema import Fields, Row, Schema
from cord_worker.prompting.first_turn import user_text
from cord_worker.prompting.trajectory import ANSWER_OPENING, THINK_CLOSE, THINK_OPEN, trajectory_text

if TYPE_CHECKING:
    from cord_worker.store.reports.results import Result


@dataclass(frozen=True, slots=True)
class Exchange:
    """The texts of a trajectory as a conversation of one turn."""

    user: str
    thinking: str
    answer: str

    @property
    def reply(self) -> str:
        """Thinking and final answer as one text."""
        return f"{THINK_OPEN}\n{self.thinking}{ANSWER_OPENING}{self.answer}"


def exchange(scope: Scope, result: Result) -> Exchange | None:
    """The conversation of a trajectory; None if it has no answer, or if a text holds think tags or control tokens."""
    steps = [step.text for step in result.steps]
    texts = [user_text(result.question, result.passage), *steps, result.answer_text]
    if not result.answer_text.strip() or not steps or not is_plain(scope, texts):
        return None
    return Exchange(texts[0], trajectory_text(steps, scope.segmentation), result.answer_text.strip())


def is_plain(scope: Scope, texts: Sequence[str]) -> bool:
    """Whether no text holds a think tag, or a control token of the student if there is one."""
    if any(tag in text for text in texts for tag in (THINK_OPEN, THINK_CLOSE)):
        return False
    return scope.student is None or not scope.student.holds_control_token(*texts)


def sequence(scope: Scope, user: str, reply: str) -> str:
    """The user's turn and the `reply`, which begins with `<think>`, as one text of the student's template."""
    return scope.required_student.thinking_turn(user, scope.today) + reply.removeprefix(f"{THINK_OPEN}\n")


def fields(scope: Scope) -> Fields:
    """Fields and their types."""
    message: dict[str, Schema] = {"role": "text", "content": "text"}
    if _think(scope) is Think.FIELD:
        message["reasoning_content"] = "text"
    return {"id": "text", "messages": [message]}


def rows(scope: Scope, results: Sequence[Result]) -> Iterator[Row | LeftOut]:
    """A row for each trajectory."""
    for result in results:
        found = exchange(scope, result)
        if found is None:
            yield LeftOut.UNFIT
        else:
            yield {"id": result.key, "messages": _messages(found, _think(scope))}


def sequences(scope: Scope, row: Row) -> list[str]:
    """The text that the trainer reads."""
    user, assistant = row["messages"]
    thinking = assistant.get("reasoning_content")
    reply = assistant["content"]
    if thinking is not None:
        reply = Exchange(user["content"], thinking, reply).reply
    return [sequence(scope, user["content"], reply)]


def _think(scope: Scope) -> Think:
    return scope.choices.think or Think.FIELD


def _messages(found: Exchange, think: Think) -> list[dict[str, str | None]]:
    if think is Think.INLINE:
        return [{"role": "user", "content": found.user}, {"role": "assistant", "content": found.reply}]
    return [
        {"role": "user", "content": found.user, "reasoning_content": None},
        {"role": "assistant", "content": found.answer, "reasoning_content": found.thinking},
    ]
