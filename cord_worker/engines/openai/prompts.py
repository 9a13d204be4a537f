"""Writes a turn and its steps as a chat request, for servers that take no raw prompts.

Servers differ in how they continue a text. The chat styles:

- `continue`: vLLM and SGLang continue the last message, which is the assistant's (`continue_final_message`). The
  model's own template renders it: if the template strips whitespace or drops `<think>`, the prompt lacks them.
- `trailing`: llama.cpp continues a last assistant message by itself.
- `prefix`: `prefix: true` in the assistant message (DeepSeek, Mistral). Some other hosts ignore the field and continue
  nevertheless. If a step repeats its own marker, the marker is removed.
- `instruction`: the host accepts no last assistant message, so an instruction asks for the next step. A best effort:
  the text is the model's answer to the instruction, not its own next thought.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from cord_worker.dataset.chat_tags import TURN_TAG
from cord_worker.engines.openai.replies import Document
from cord_worker.engines.protocol import Turn
from cord_worker.errors import RequestError
from cord_worker.prompting.first_turn import user_text
from cord_worker.prompting.think_tags import ThinkTags
from cord_worker.prompting.trajectory import STEP_HEADING, THINK_CLOSE, SegmentationRule

ChatStyle = Literal["none", "continue", "trailing", "prefix", "instruction"]

_UNITS = {
    SegmentationRule.PROMPTED: f"write the text of its last step only, then a new line with `{STEP_HEADING}`",
    SegmentationRule.LINE_BREAK: "write its next paragraph only, then a blank line",
    SegmentationRule.PHRASES: "go on with the reasoning",
}
_MARKER_AGAIN = re.compile(rf"^\s*{re.escape(STEP_HEADING)} \d+\.")


def turn_messages(turn: Turn) -> list[Document]:
    """The messages of the turn, to which the model replies.

    Raises RequestError for a blank question, and for a question or passage with a tag that begins or ends a turn: a
    chat server puts it into its template as text, and may obey it.
    """
    if not turn.question.strip():
        raise RequestError("the question is blank; give the problem a text")
    user = user_text(turn.question, turn.passage)
    tag = TURN_TAG.search(user)
    if tag is not None:
        raise RequestError(
            f"the question or passage holds the chat tag {tag[0]!r}, which a chat server may obey; remove it, or use a "
            "server that takes token ids (vLLM, SGLang, llama.cpp)"
        )
    messages: list[Document] = []
    if turn.system and turn.system.strip():
        messages.append({"role": "system", "content": turn.system.strip()})
    return [*messages, {"role": "user", "content": user}]


def chat_messages(turn: Turn, opening: str, style: ChatStyle) -> list[Document]:
    """Messages after which the model continues the assistant turn that begins with `opening`."""
    *messages, asked = turn_messages(turn)
    user = asked["content"]
    if style == "instruction":
        task = (
            "Now write the final answer."
            if THINK_CLOSE in opening
            else f"Continue exactly where this text stops: {_UNITS[turn.segmentation.rule]}; once the question is "
            f"answered, write `{THINK_CLOSE}` instead."
        )
        return [*messages, {"role": "user", "content": f"{user}\n\nThe reasoning so far:\n\n{opening}\n\n{task}"}]
    assistant: Document = {"role": "assistant", "content": opening}
    if style == "prefix":
        assistant["prefix"] = True
    return [*messages, {"role": "user", "content": user}, assistant]


def chat_fields(style: ChatStyle) -> Document:
    """Further fields of the request's body."""
    if style == "continue":
        return {"continue_final_message": True, "add_generation_prompt": False}
    return {}


@dataclass(frozen=True, slots=True)
class RepeatedPrefill:
    """Removes the prefill (the assistant's text to continue) from the answers of a server that repeats it."""

    forms: tuple[str, ...]

    @classmethod
    def of(cls, opening: str, tags: ThinkTags) -> RepeatedPrefill:
        """For answers after `opening`, with or without its think tag; whitespace at both ends does not matter."""
        forms = (opening.strip(), opening.removeprefix(tags.opening).strip())
        return cls(tuple(form for form in dict.fromkeys(forms) if form))

    def is_in(self, text: str) -> bool:
        """True if `text`, a whole answer or its beginning, begins with the prefill or holds only its first part, more
        than half of it."""
        text = text.strip()
        return any(
            text.startswith(form) or (len(text) > len(form) // 2 and form.startswith(text)) for form in self.forms
        )

    def text_after(self, text: str) -> str | None:
        """The text after the prefill; None if the prefill has not arrived completely.

        Raises RequestError if the text does not begin with the prefill.
        """
        begun = text.lstrip()
        for form in self.forms:
            if begun.startswith(form):
                return begun[len(form) :]
        if any(form.startswith(begun) for form in self.forms):
            return None
        raise RequestError(
            "at start the server repeated the assistant's text that it must continue, but this time it did not, so "
            "the new part of its answer is unknown"
        )


def without_marker(text: str, style: ChatStyle) -> str:
    """The text without a marker at its start, in styles that lead models to repeat the marker."""
    return _MARKER_AGAIN.sub("", text) if style in {"prefix", "instruction"} else text
