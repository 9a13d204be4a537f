"""How a turn and its steps become a chat request, for servers without raw prompts.

Styles, as the server has them:

- `continue`: vLLM and SGLang continue the last, assistant, message (`continue_final_message`). The model's own
  template renders it: where it strips whitespace or drops `<think>`, so does the prompt.
- `trailing`: llama.cpp continues a last assistant message by itself.
- `prefix`: `prefix: true` in the assistant message (DeepSeek, Mistral); other hosts are known to ignore the mark and
  to continue all the same. A step that opens with its own marker again loses it.
- `instruction`: a host that accepts no last assistant message is asked in words for the next step. A best effort: the
  text is what the model answers, not what it would have thought.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from cord_worker.dataset.chat_tags import TURN_TAG
from cord_worker.engines.openai.replies import Document
from cord_worker.engines.protocol import Turn
from cord_worker.errors import RequestError
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
    """The turn, after which the model replies.

    Raises RequestError for a blank question, and where question or passage hold a tag that begins or ends a turn: a
    chat server puts it into its template as text, and may obey it.
    """
    question = turn.question.strip()
    if not question:
        raise RequestError("the question is blank; give the problem a text")
    user = f"{turn.passage.strip()}\n\n{question}" if turn.passage and turn.passage.strip() else question
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
    """Takes the assistant's text that a server was asked to continue, and that it repeats, off its answers."""

    forms: tuple[str, ...]

    @classmethod
    def of(cls, opening: str, tags: ThinkTags) -> RepeatedPrefill:
        """For answers after `opening`, with its think tag or without; whitespace at both ends does not matter."""
        forms = (opening.strip(), opening.removeprefix(tags.opening).strip())
        return cls(tuple(form for form in dict.fromkeys(forms) if form))

    def is_in(self, text: str) -> bool:
        """Whether `text`, a whole answer or the beginning of one, begins with the prefill or with half of it."""
        text = text.strip()
        return any(
            text.startswith(form) or (len(text) > len(form) // 2 and form.startswith(text)) for form in self.forms
        )

    def taken_off(self, text: str) -> str | None:
        """What comes after the prefill; None where that has not come whole yet.

        Raises RequestError where the text is not the prefill.
        """
        begun = text.lstrip()
        for form in self.forms:
            if begun.startswith(form):
                return begun[len(form) :]
        if any(form.startswith(begun) for form in self.forms):
            return None
        raise RequestError(
            "the server repeats the assistant's text that it is to continue, as was noticed at start, but not this "
            "time: what of its answer is new cannot be told"
        )


def without_marker(text: str, style: ChatStyle) -> str:
    """The text without a marker at its start, where the style leads models to write it again."""
    return _MARKER_AGAIN.sub("", text) if style in {"prefix", "instruction"} else text
