"""Extracts the question, the answer, the passage or the id of a problem from a field's value."""

from __future__ import annotations

import re

from cord_worker.dataset.invisible import stripped
from cord_worker.dataset.records import Change, Json
from cord_worker.dataset.solutions import AmbiguousAnswer, final_answer
from cord_worker.dataset.values import Flaw, NotText, number_text, type_name

MAX_KEY = 512
"""Maximum number of characters of an id; a B-tree index of PostgreSQL holds no value above 2,704 bytes."""

Taken = tuple[str, tuple[Change, ...]]
"""A text, and how it differs from the field from which it was taken."""

_NOT_TEXT = Flaw(None, "holds bytes that are not UTF-8 text: write the column as text")
_MESSAGES_AS_TEXT = re.compile(r"""\[\s*\{\s*(["'])(?:role|content)\1\s*:""")
_USERS = ("user", "human")
_SYSTEMS = ("system", "developer")


def question(value: Json) -> Taken | Flaw:
    """The question: a text, or the only user turn in a list of messages."""
    if isinstance(value, NotText):
        return _NOT_TEXT
    if isinstance(value, str):
        text = stripped(value)
        if not text:
            return Flaw(None, "is empty: write the question, or take the row out")
        if _MESSAGES_AS_TEXT.match(text):
            return Flaw(None, "is the text of a list of messages: write the question itself, or a real list")
        return text, ()
    if value is None:
        return Flaw(None, "is missing: write the question, or take the row out")
    if isinstance(value, list) and value and all(isinstance(turn, dict) for turn in value):
        return _taken_from_messages([turn for turn in value if isinstance(turn, dict)])
    if isinstance(value, dict):
        return _object_flaw(value, "question")
    return Flaw(None, f"is of type {type_name(value)}: write the question as text")


def _taken_from_messages(turns: list[dict[str, Json]]) -> Taken | Flaw:
    roles = [str(turn.get("role", turn.get("from"))).lower() for turn in turns]
    if unknown := [role for role in roles if role not in (*_USERS, *_SYSTEMS)]:
        return Flaw(None, f"holds messages with a turn of {unknown[0]!r}: only one turn of the user makes a question")
    asked = [turn for turn, role in zip(turns, roles, strict=True) if role in _USERS]
    if len(asked) != 1:
        return Flaw(None, f"holds messages with {len(asked)} turns of the user: one makes a question")
    text = _content(asked[0].get("content", asked[0].get("value")))
    if text is None:
        return Flaw(None, "holds a message whose content is not text (an image?): write the question as text")
    changes = (Change.MESSAGES, Change.SYSTEM_TURN) if len(turns) > 1 else (Change.MESSAGES,)
    return (text, changes) if (text := stripped(text)) else Flaw(None, "is empty: the user's message has no text")


def _content(value: Json) -> str | None:
    if isinstance(value, str) and not isinstance(value, NotText):
        return value
    if isinstance(value, list) and all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in value):
        return "\n".join(str(part["text"]) for part in value if isinstance(part, dict))
    return None


def _object_flaw(value: dict[str, Json], role: str) -> Flaw:
    names = ", ".join(list(value)[:10]) or "none"
    return Flaw(None, f"is an object with the fields {names}: name one of them, --{role}-field FIELD.NAME")


def answer(value: Json, *, as_is: bool) -> Taken | Flaw:
    """The answer: a text or number as written, the final answer of a worked solution, or the values of a list."""
    if isinstance(value, NotText):
        return _NOT_TEXT
    if isinstance(value, str):
        text = stripped(value)
        if not text:
            return Flaw(None, "is empty: every problem needs its reference answer")
        return (text, ()) if as_is else _answer_of_text(text)
    if value is None:
        return Flaw(None, "is missing: every problem needs its reference answer")
    if isinstance(value, bool):
        # True, true and yes are different answers, because the prover scores their tokens.
        return Flaw(None, "is a boolean: write the answer as the text that is expected, such as 'yes'")
    if isinstance(value, int | float):
        return number_text(value), ()
    if isinstance(value, list):
        return _answer_of_list(value, as_is=as_is)
    return _object_flaw(value, "answer")


def _answer_of_text(text: str) -> Taken | Flaw:
    try:
        final = final_answer(text)
    except AmbiguousAnswer as error:
        return Flaw(
            None,
            f"{error}, so its final answer is not clear: write the final answer alone, or keep such texts whole with "
            "--answer-as-is",
        )
    if final is None:
        return text, ()
    final = stripped(final)
    return (final, (Change.FINAL_ANSWER,)) if final else Flaw(None, "ends in a final answer that is empty")


def _answer_of_list(values: list[Json], *, as_is: bool) -> Taken | Flaw:
    if not values:
        return Flaw(None, "is an empty list: every problem needs its reference answer")
    texts: list[str] = []
    changes: list[Change] = [Change.LIST]
    for index, value in enumerate(values):
        part = Flaw(None, "is a list") if isinstance(value, list) else answer(value, as_is=as_is)
        if isinstance(part, Flaw):
            return Flaw(None, f"is a list whose element {index} {part.reason}")
        texts.append(part[0])
        changes += part[1]
    mark = "; " if any("," in text for text in texts) else ", "
    return mark.join(texts), tuple(dict.fromkeys(changes))


def passage(value: Json) -> str | Flaw | None:
    """The passage; a list of paragraphs is joined with blank lines."""
    if isinstance(value, NotText):
        return _NOT_TEXT
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        value = "\n\n".join(str(part) for part in value)
    if value is None or isinstance(value, str):
        return stripped(value or "") or None
    if isinstance(value, dict):
        return _object_flaw(value, "passage")
    return Flaw(None, f"is of type {type_name(value)}: write the passage as text or as a list of texts")


def key(value: Json) -> str | Flaw:
    """The id: a text or an integer."""
    if isinstance(value, NotText):
        return _NOT_TEXT
    if isinstance(value, bool) or not isinstance(value, str | int | None):
        return Flaw(None, f"is of type {type_name(value)}: write the id as text or as an integer")
    found = "" if value is None else stripped(str(value))
    if not found:
        return Flaw(None, "is missing: give every row its id, or take the field out for ids made from the content")
    if len(found) > MAX_KEY:
        return Flaw(None, f"is {len(found)} characters long, at most {MAX_KEY} are allowed: shorten the id")
    return found
