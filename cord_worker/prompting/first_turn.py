"""The first turn: the chat template rendered once, with exactly one `<think>` at its end
(docs/what-is-computed.md#prompts).

The user's text must not break out of its turn. The template is rendered with placeholders, and the result is a
list of pieces that says which text came from the template and which from outside; the engine encodes control
tokens in template pieces only.

Templates differ; this module decides:
- The generation prompt ends with one opening of the model's think tags (`<think>\\n` for most, see `think_tags`),
  whether the template adds it, adds an empty thinking, or adds nothing. A template that begins the thinking itself,
  with words in it, is refused.
- If a template refuses or drops a system turn, the system text is put before the user's text.
- If a template ignores content that is a text, it gets a list of one text part instead.
- A tokenizer without a chat template (a base model) gets `Question: …\\n\\nAnswer: `.
- Templates that print today's date get the run's date (`Turn.date`): the same run must send the same prompt on every
  day and from every machine.
- Templates are told to enable thinking (`enable_thinking`, `thinking`); other switches, such as `reasoning_effort`,
  are a model's `template_options`.

`require_template` tries a template when its model is loaded, so that an unusable one is refused at once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from functools import cache
from string import ascii_letters
from typing import Any, Protocol

from cord_worker.errors import EngineLoadError, RequestError
from cord_worker.prompting.think_tags import USUAL_TAGS, ThinkTags

DEFAULT_DATE = date(2025, 1, 1)
"""Today's date for templates that are rendered outside of a run."""
_NO_OPTIONS: Mapping[str, Any] = {}
_DATE_MACRO = (
    "{%- macro strftime_now(format) -%}{%- for part in format.split('%%') -%}"
    "{%- set written = namespace(text=part) -%}"
    "{%- for code, value in cord_date.items() -%}{%- if code in written.text -%}"
    "{%- set written.text = written.text.replace(code, value) -%}"
    "{%- endif -%}{%- endfor -%}{{- '' if loop.first else '%' -}}{{- written.text -}}{%- endfor -%}{%- endmacro %}\n"
)
"""Put before the template. Jinja drops the line break (`trim_blocks`), so the template's own start is unchanged."""
_RENDERINGS = 16
"""How often each turn is rendered at load. A template that chooses one of two texts at random passes about once in
30,000 loads."""
_USER = "\ue000cord-user\ue001"
_SYSTEM = "\ue000cord-system\ue001"


class ChatTokenizer(Protocol):
    """The part of a Hugging Face tokenizer that renders its chat template."""

    chat_template: Any

    def apply_chat_template(self, conversation: list[dict[str, Any]], **options: Any) -> Any:
        """Renders a conversation."""
        ...


@dataclass(frozen=True, slots=True)
class TurnPiece:
    """A part of the first turn; `is_content` marks text from outside, which must not be encoded as control tokens."""

    text: str
    is_content: bool


@dataclass(frozen=True, slots=True)
class FirstTurn:
    """The first turn as pieces; the model reads their texts joined."""

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
    today: date = DEFAULT_DATE,
    tags: ThinkTags = USUAL_TAGS,
    options: Mapping[str, Any] = _NO_OPTIONS,
) -> FirstTurn:
    """The turn that asks `question`; whitespace around question, passage and system text is dropped.

    Without `thinking` the turn ends where a plain reply begins: the template is told to disable thinking; if it opens a
    thinking anyway, the opening stays. A passage stands before the question, separated by a blank line. `options` are
    further variables of the template. Raises RequestError for a blank question, and for a template that cannot be
    rendered, that does not show the user's text exactly once, or that begins a thinking with words in it.
    """
    question = question.strip()
    if not question:
        raise RequestError("the question is blank; give the problem a text")
    user = user_text(question, passage)
    system = system.strip() if system and system.strip() else None
    if not tokenizer.chat_template:
        return _without_template(user, system, tags.opening if thinking else None)
    variables = {"enable_thinking": thinking, "thinking": thinking, **_date_variables(today), **options}
    variables |= _dated(tokenizer.chat_template, today)
    rendered = None if system is None else _rendered(tokenizer, variables, (_SYSTEM, _USER))
    if rendered is None:
        user, system = f"{system}\n\n{user}" if system else user, None
        rendered = _rendered(tokenizer, variables, (_USER,))
    if rendered is None:
        raise RequestError(
            "the chat template does not show the user's text exactly once; give the model a chat template that "
            "takes a plain user turn"
        )
    pieces = _pieces(rendered, {_USER: user, _SYSTEM: system or ""}, tags if thinking else None)
    return FirstTurn(pieces, is_templated=True)


def user_text(question: str, passage: str | None) -> str:
    """The user turn: the question, after the passage if there is one, without surrounding whitespace."""
    return f"{passage.strip()}\n\n{question.strip()}" if passage and passage.strip() else question.strip()


def require_template(
    tokenizer: ChatTokenizer, *, tags: ThinkTags = USUAL_TAGS, options: Mapping[str, Any] = _NO_OPTIONS
) -> None:
    """Raises EngineLoadError if the tokenizer's chat template cannot render the turns that models get, or renders one
    as a different text each time."""
    try:
        for thinking in (True, False):
            for system in (None, "Be brief."):
                turns = {
                    render_first_turn(
                        tokenizer, question="1 + 1", system=system, thinking=thinking, tags=tags, options=options
                    ).text
                    for _ in range(_RENDERINGS if tokenizer.chat_template else 1)
                }
                if len(turns) > 1:
                    raise EngineLoadError(
                        "the chat template renders the same turn as another text each time (by `random`?): no run "
                        "could be repeated; give the model a chat template without chance"
                    )
    except RequestError as error:
        raise EngineLoadError(str(error)) from error


def _without_template(user: str, system: str | None, opening: str | None) -> FirstTurn:
    pieces = [TurnPiece(f"{system}\n\n", True)] if system else []
    pieces += [
        TurnPiece("Question: ", False),
        TurnPiece(user, True),
        TurnPiece("\n\nAnswer:" if opening is None else f"\n\nAnswer: {opening}", False),
    ]
    return FirstTurn(tuple(pieces), is_templated=False)


def _rendered(tokenizer: ChatTokenizer, variables: Mapping[str, Any], contents: tuple[str, ...]) -> str | None:
    """The conversation with these placeholders as contents; the last is the user's, the one before it the system's.

    None if the template does not show each of them exactly once, or refuses the system turn. Raises RequestError if it
    refuses the user's turn.
    """
    refusal: Exception | None = None
    for in_parts in (False, True):
        conversation = [
            {"role": "user" if content == _USER else "system", "content": _parts(content) if in_parts else content}
            for content in contents
        ]
        try:
            rendered = tokenizer.apply_chat_template(
                conversation, tokenize=False, add_generation_prompt=True, **variables
            )
        except Exception as error:  # noqa: BLE001 - templates are foreign code and can raise any error
            refusal = refusal or error
            continue
        if not isinstance(rendered, str):
            raise RequestError(f"the chat template rendered a {type(rendered).__name__}, not a text")
        if all(rendered.count(content) == 1 for content in contents):
            return rendered
    if refusal is not None and len(contents) == 1:
        raise RequestError(
            f"the chat template cannot be rendered: {refusal}; give the model a working one"
        ) from refusal
    return None


def _parts(content: str) -> list[dict[str, str]]:
    """Content in the form that templates of image models require."""
    return [{"type": "text", "text": content}]


def _date_variables(today: date) -> dict[str, Any]:
    """The variable from which some templates (Llama) take the date; most others call a function (`_dated`)."""
    return {"date_string": today.strftime("%d %b %Y")}


def _dated(template: Any, today: date) -> dict[str, Any]:
    """The chat template with its own `strftime_now`, and the data that it formats; empty if it does not ask for the
    date.

    A template cannot get a Python function from us: transformers passes it data only, and transformers' own
    function reads the clock. A macro of the same name inside the template takes precedence over it.
    """
    text = template.get("default") if isinstance(template, dict) else template
    if not isinstance(text, str) or "strftime_now" not in text:
        return {}
    return {"chat_template": _DATE_MACRO + text, "cord_date": _date_parts(today)}


@cache
def _date_parts(today: date) -> dict[str, str]:
    """The value of each directive of `strftime` for the day."""
    moment = datetime.combine(today, time(), UTC)
    codes = [f"%{flag}{letter}" for flag in ("", *"-_0^#") for letter in ascii_letters]
    parts = {code: moment.replace(tzinfo=None).strftime(code) for code in codes}
    parts["%s"] = str(int(moment.timestamp()))  # the only one that depends on the machine's time zone
    return {code: value for code, value in parts.items() if value != code}


def _pieces(rendered: str, contents: dict[str, str], tags: ThinkTags | None) -> tuple[TurnPiece, ...]:
    """The rendered turn with its contents, ready for a thinking with these `tags`; for a plain reply if they are
    None."""
    pieces: list[TurnPiece] = []
    for part in re.split(f"({re.escape(_USER)}|{re.escape(_SYSTEM)})", rendered):
        if part in contents:
            pieces.append(TurnPiece(contents[part], True))
        elif part:
            pieces.append(TurnPiece(part, False))
    tail = pieces.pop().text if not pieces[-1].is_content else ""
    if tags is not None:
        tail = _opened(tail, tags)
    if tail:
        pieces.append(TurnPiece(tail, False))
    return tuple(pieces)


def _opened(tail: str, tags: ThinkTags) -> str:
    """The generation prompt, ending with one opening. Raises RequestError if it ends inside a thinking."""
    openings = "|".join(map(re.escape, tags.openings))
    closings = "|".join(map(re.escape, tags.closings))
    if tags.answer_opening:
        tail = tail.removesuffix(tags.answer_opening)
    tail = re.sub(rf"(?:{openings})\s*(?:(?:{closings})\s*)?$", "", tail)
    last = max((match.end() for match in re.finditer(openings, tail)), default=None)
    if last is not None and not re.search(closings, tail[last:]):
        raise RequestError(
            f"the chat template opens the thinking and begins it with words ({tail[last:].strip()!r:.80}), where a "
            "step must be written; give the model a chat template that ends with the assistant's turn"
        )
    return tail + tags.opening
