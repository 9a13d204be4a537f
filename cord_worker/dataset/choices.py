"""Multiple choice as datasets publish it: choices in their own field, the right one by index, letter or text.

The choices become lines of the question, and the answer becomes the letter. Then a model can give the letter, and it
can be checked.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_uppercase

from cord_worker.dataset.invisible import stripped
from cord_worker.dataset.records import Json
from cord_worker.dataset.solutions import AmbiguousAnswer, final_answer
from cord_worker.dataset.values import Flaw, number_text, type_name

_LETTERS = frozenset(ascii_uppercase)
_OWN_LABEL = re.compile(r"\s*\(?([A-Za-z])\s*[).:]\s*")


@dataclass(frozen=True, slots=True)
class Choices:
    """The labels and texts of a row's choices, in order."""

    labels: tuple[str, ...]
    texts: tuple[str, ...]

    def in_question(self, question: str) -> str:
        """`question` with the choices as lines below it; unchanged if it already lists them."""
        lines = [f"{label}. {text}" for label, text in zip(self.labels, self.texts, strict=True)]
        if all(self._is_listed(question, at) for at in range(len(lines))):
            return question
        return "\n".join([question, "", *lines])

    def _is_listed(self, question: str, at: int) -> bool:
        """True if `question` holds the choice whole, up to the next label or the end of a line or sentence."""
        label, text = re.escape(self.labels[at]), re.escape(self.texts[at])
        follows = rf"\(?{re.escape(self.labels[at + 1])}\s*[).:]" if at + 1 < len(self.labels) else r"(?<=[.?!;])\s"
        pattern = rf"(?<![A-Za-z0-9])\(?{label}\s*[).:]\s*{text}\s*?[.,;?!]?(?:\s*$|\s*\n|\s*{follows})"
        return re.search(pattern, question) is not None

    def label_of(self, answer: Json) -> str | Flaw:
        """The label of the right choice, however it is named; an index counts from 0."""
        if isinstance(answer, list) and len(answer) == 1:
            answer = answer[0]
        if isinstance(answer, bool) or not isinstance(answer, int | float | str):
            if answer is None:
                return Flaw(None, "is missing: name the right choice")
            return Flaw(None, f"is of type {type_name(answer)}: name the right choice by its index, label or text")
        text = stripped(answer) if isinstance(answer, str) else number_text(answer)
        if not text:
            return Flaw(None, "is empty: name the right choice")
        try:
            final = final_answer(text) if isinstance(answer, str) else None
        except AmbiguousAnswer as error:
            return Flaw(None, f"{error}: name the right choice by its index, label or text")
        if final is not None and text not in self.texts:
            answer = text = stripped(final)
        readings = dict.fromkeys(self._readings(answer, text))
        if len(readings) == 1:
            return next(iter(readings))
        among = ", ".join(f"{label}. {choice:.30}" for label, choice in zip(self.labels, self.texts, strict=True))
        if readings:
            return Flaw(
                None, f"{text!r:.40} may mean {' or '.join(readings)} of the choices ({among}): write the label"
            )
        hint = "; an index counts from 0" if text.isdigit() and not self._has_numbers else ""
        return Flaw(None, f"{text!r:.40} is none of the choices ({among}){hint}")

    def _readings(self, answer: Json, text: str) -> list[str]:
        """The labels that the answer may mean. A number is an index; a text of digits may be the choice itself."""
        by_text = [label for label, choice in zip(self.labels, self.texts, strict=True) if choice == text]
        if text in self.labels:
            return [text, *by_text]
        named = self._labelled(text)
        if named is not None:
            return [named, *by_text]
        if self._has_numbers:
            return by_text
        if isinstance(answer, int | float):
            is_index = float(answer).is_integer() and 0 <= answer < len(ascii_uppercase)
        else:
            is_index = text.isdigit() and len(text) < 4 and int(text) < len(ascii_uppercase)
        by_index = self._at(int(float(text))) if is_index else None
        return by_text if by_index is None else [by_index, *by_text]

    def _labelled(self, text: str) -> str | None:
        """The label that `text` names as `(b)`, `b` or `B. …` with the choice's text."""
        opening = _OWN_LABEL.match(text)
        label, rest = (opening[1], text[opening.end() :]) if opening is not None else (text, "")
        label = label if label in self.labels else label.upper()
        if label not in self.labels or (opening is None and text in self.texts):
            return None
        return label if not rest or rest == self.texts[self.labels.index(label)] else None

    def _at(self, index: int) -> str | None:
        """The label of an index, or None; if a letter is left out, the others keep their indices."""
        if all(label in _LETTERS for label in self.labels):
            return ascii_uppercase[index] if ascii_uppercase[index] in self.labels else None
        return self.labels[index] if index < len(self.labels) else None

    @property
    def _has_numbers(self) -> bool:
        """True if the labels are themselves numbers, so that a number cannot be an index."""
        return any(label.isdigit() for label in self.labels)


def read_choices(value: Json) -> Choices | Flaw:
    """The choices of a row, or why it has none. `value` is a list of texts, `{text: […], label: […]}`,
    `[{text, label}]` or `{A: …, B: …}`."""
    labels: Sequence[Json] | None = None
    texts: Sequence[Json]
    if isinstance(value, dict):
        if isinstance(value.get("text"), list):
            texts, labels = _list(value["text"]), _list(value.get("label", value.get("labels")))
        else:
            # A column of objects has the same members in every row; those that are not choices of this row are null.
            given = {label: text for label, text in value.items() if text is not None}
            labels, texts = list(given), list(given.values())
    elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        texts = [item.get("text") for item in value if isinstance(item, dict)]
        labels = [item.get("label") for item in value if isinstance(item, dict)]
    elif isinstance(value, list):
        texts = value
    else:
        return Flaw(None, f"is of type {type_name(value)}: write the choices as a list of texts")
    plain = [stripped(text) if isinstance(text, str) else _plain_text(text) for text in texts]
    if len(plain) < 2 or not all(plain):
        return Flaw(None, "needs at least two choices, none of them empty")
    if len(plain) > len(ascii_uppercase):
        return Flaw(None, f"has {len(plain)} choices, more than the {len(ascii_uppercase)} letters")
    own = [match for text in plain if (match := _OWN_LABEL.match(text)) is not None]
    if labels is None and [match[1].upper() for match in own] == list(ascii_uppercase[: len(plain)]):
        plain = [text[match.end() :] or text for text, match in zip(plain, own, strict=True)]
    named = list(ascii_uppercase[: len(plain)]) if labels is None else [_plain_text(label) for label in labels]
    if len(named) != len(plain) or not all(named) or len(set(named)) != len(named):
        return Flaw(None, "needs a different label for each choice")
    return Choices(tuple(named), tuple(plain))


def _list(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []


def _plain_text(value: Json) -> str:
    if isinstance(value, str):
        return value.strip()
    return number_text(value) if isinstance(value, int | float) and not isinstance(value, bool) else ""
