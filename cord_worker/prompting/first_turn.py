"""The first turn: the chat template rendered once, ending with exactly one `<think>` (PAPER.md, Prompts).

The user's text must not break out of its turn. The template is rendered with placeholders, and the result is a
list of pieces that says which text came from the template and which from outside; the engine encodes control
tokens in template pieces only.

Decided here, where templates differ:
- The generation prompt ends with `<think>\\n` whether the template adds it, adds an empty `<think></think>`, or
  adds nothing.
- A template that refuses or drops a system turn gets the system text in front of the user's text.
- A tokenizer without a chat template (a base model) gets `Question: …\\n\\nAnswer: `.
- Templates that print today's date get a fixed one: the same run must send the same prompt tomorrow.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from cord_worker.errors import RequestError
from cord_worker.prompting.trajectory import THINK_OPEN

THINKING_OPENS = f"{THINK_OPEN}\n"
_USER = "\ue000cord-user\ue001"
_SYSTEM = "\ue000cord-system\ue001"
_THINKING_AT_END = re.compile(r"<think>\s*(?:</think>\s*)?$")
_DATE = datetime(2025, 1, 1)


class ChatTokenizer(Protocol):
    """What is needed of a Hugging Face tokenizer."""

    chat_template: Any

    def apply_chat_template(self, conversation: list[dict[str, str]], **options: Any) -> Any:
        """Renders a conversation."""
        ...


@dataclass(frozen=True, slots=True)
class TurnPiece:
    """A part of the first turn; `is_content` marks text from outside, in which no control token is meant."""

    text: str
    is_content: bool


@dataclass(frozen=True, slots=True)
class FirstTurn:
    """The first turn as pieces; their texts joined are what the model reads."""

    pieces: tuple[TurnPiece, ...]
    is_templated: bool

    @property
    def text(self) -> str:
        """The whole turn."""
        return "".join(piece.text for piece in self.pieces)


def render_first_turn(
    tokenizer: ChatTokenizer,
    *,
    question: str,
    system: str | None = None,
    passage: str | None = None,
    thinking: bool = True,
) -> FirstTurn:
    """The turn that asks `question`; whitespace around question, passage and system text is dropped.

    Without `thinking` the turn ends where a plain reply begins: the template is asked for none, and a `<think>` that it
    adds all the same is left to the model. A passage stands before the question, separated by a blank line. Raises
    RequestError for a blank question and for a template that cannot be rendered or that does not show the user's text
    exactly once.
    """
    question = question.strip()
    if not question:
        raise RequestError("the question is blank; give the problem a text")
    user = f"{passage.strip()}\n\n{question}" if passage and passage.strip() else question
    system = system.strip() if system and system.strip() else None
    if not tokenizer.chat_template:
        return _without_template(user, system, thinking)
    rendered = _rendered(tokenizer, thinking, with_system=system is not None)
    if system is not None and (rendered is None or rendered.count(_SYSTEM) != 1):
        user, system = f"{system}\n\n{user}", None
        rendered = _rendered(tokenizer, thinking, with_system=False)
    if rendered is None or rendered.count(_USER) != 1:
        raise RequestError(
            "the chat template does not show the user's text exactly once; give the model a chat template that "
            "takes a plain user turn"
        )
    return FirstTurn(_pieces(rendered, {_USER: user, _SYSTEM: system or ""}, thinking), is_templated=True)


def _without_template(user: str, system: str | None, thinking: bool) -> FirstTurn:
    pieces = [TurnPiece(f"{system}\n\n", True)] if system else []
    pieces += [
        TurnPiece("Question: ", False),
        TurnPiece(user, True),
        TurnPiece(f"\n\nAnswer: {THINKING_OPENS}" if thinking else "\n\nAnswer:", False),
    ]
    return FirstTurn(tuple(pieces), is_templated=False)


def _rendered(tokenizer: ChatTokenizer, thinking: bool, *, with_system: bool) -> str | None:
    """The conversation with placeholders, or None where the template refuses a system turn."""
    conversation = [{"role": "system", "content": _SYSTEM}] if with_system else []
    conversation.append({"role": "user", "content": _USER})
    try:
        rendered = tokenizer.apply_chat_template(
            conversation,
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=thinking,
            thinking=thinking,
            date_string=_DATE.strftime("%d %b %Y"),
            strftime_now=_fixed_date(),
        )
    except Exception as error:  # templates are code from outside: jinja2 errors, TypeError, whatever they raise
        if with_system:
            return None
        raise RequestError(f"the chat template cannot be rendered: {error}; give the model a working one") from error
    if not isinstance(rendered, str):
        raise RequestError(f"the chat template rendered a {type(rendered).__name__}, not a text")
    return rendered


def _fixed_date() -> Callable[[str], str]:
    return _DATE.strftime


def _pieces(rendered: str, contents: dict[str, str], thinking: bool) -> tuple[TurnPiece, ...]:
    pieces: list[TurnPiece] = []
    for part in re.split(f"({re.escape(_USER)}|{re.escape(_SYSTEM)})", rendered):
        if part in contents:
            pieces.append(TurnPiece(contents[part], True))
        elif part:
            pieces.append(TurnPiece(part, False))
    tail = pieces.pop().text if not pieces[-1].is_content else ""
    if thinking:
        tail = _THINKING_AT_END.sub("", tail) + THINKING_OPENS
    if tail:
        pieces.append(TurnPiece(tail, False))
    return tuple(pieces)
