"""Finds the end of a generated text: of one step, of the thinking, or of the final answer
(docs/what-is-computed.md#what-ends-a-step).

A run's `Segmentation` sets what ends a step:

- `prompted`: the plain text `\\n### Step`, whatever follows it. So `### Stepwise …` at the start of a line also ends a
  step; `### Note`, and `### Step` inside a line, do not.
- `line_break`: a blank line (`\\n\\n`). It is the boundary and is written back unchanged; blank lines before a step's
  text are dropped.
- `phrases`: one of the run's phrases at the start of a sentence or a line. The step ends after the previous sentence;
  the phrase and the whitespace before it belong to the next step. Case and the kind of apostrophe do not matter. A
  phrase must not be part of a longer word, so the character after it must be known.

Blank lines and phrases count only after a letter or a digit: at the start of a step they end nothing. No rule looks
further than one character ahead, so that the end of a text does not change while the text streams in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Literal

from cord_worker.prompting.think_tags import USUAL_TAGS, ThinkTags
from cord_worker.prompting.trajectory import (
    BLANK_LINE,
    BOUNDARY,
    THINK_CLOSE,
    Segmentation,
    SegmentationRule,
)

Ended = Literal["eos", "length", "stop"]
"""How the engine's loop ended: end of sequence, token cap, or a stop text."""


class FinishReason(StrEnum):
    """Why a generation ended (docs/what-is-computed.md#what-ends-a-step)."""

    STEP = "step"
    """The model began its next step: a marker, a blank line or a phrase, by the run's segmentation."""
    THINK_END = "think_end"
    """The model wrote `</think>`, or its own tag for it."""
    EOS = "eos"
    """End of sequence; inside a step it ends the thinking like `</think>`."""
    LENGTH = "length"
    """The token cap; neither the end of a step nor of a trajectory."""


@dataclass(frozen=True, slots=True)
class TextEnd:
    """The position where a text ends, and what ends it there."""

    position: int
    finish_reason: FinishReason


@dataclass(frozen=True, slots=True)
class SegmentedText:
    """A text without its end mark and without anything after it. Nothing else is removed, except blank lines before a
    step if blank lines are the boundary."""

    text: str
    finish_reason: FinishReason


TextKind = Literal["step", "trajectory", "answer", "reply"]
"""What a model is asked to write: its next step, the rest of its thinking, the final answer after it, or a plain reply
to a turn, for which the model may think on its own."""

_CONTENT = re.compile(r"[^\W_]")
_LEADING_BLANK_LINES = re.compile(r"\A(?:[^\S\n]*\n)+")
_SENTENCE_ENDS = frozenset(".!?…")
_UNSPACED_SENTENCE_ENDS = frozenset("。！？")
"""A sentence after one of these marks needs no space before it."""
_AFTER_SENTENCES = "\"'”’»)]*_`"
_BEFORE_SENTENCES = "\"'“‘«([*_`"


@dataclass(frozen=True, slots=True)
class Ends:
    """What ends a text of one kind: `marks` at any position, a blank line if `blank_line`, and `phrases`.

    `longest` bytes hold the longest end and one character more. With `answer_tags` the text is a final answer: a
    thinking in these tags at its very beginning is skipped.
    """

    marks: Mapping[str, FinishReason]
    blank_line: bool = False
    phrases: re.Pattern[str] | None = None
    longest: int = 0
    answer_tags: ThinkTags | None = None

    @property
    def stop_strings(self) -> list[str] | None:
        """Stop strings that end a text exactly where it ends; None if stop strings cannot express that."""
        if self.blank_line or self.phrases is not None or self.answer_tags is not None:
            return None
        return list(self.marks)

    def may_complete(self, token_text: str) -> bool:
        """True if a token with this text can complete an end."""
        if self.phrases is not None:
            return True
        if self.blank_line and "\n" in token_text:
            return True
        return any(mark[-1] in token_text for mark in self.marks)

    def may_be_in(self, window: str) -> bool:
        """True if `window`, at least the last `longest` bytes of a text, may hold an end of that text."""
        if self.phrases is not None and self.phrases.search(window):
            return True
        if self.blank_line and BLANK_LINE in window:
            return True
        return any(mark in window for mark in self.marks)

    def find(self, text: str, start: int = 0) -> TextEnd | None:
        """The earliest end that lies completely in `text[start:]`, or None."""
        if self.answer_tags is not None:
            start = max(start, answer_start(text, self.answer_tags))
        places = [(text.find(mark, start), reason) for mark, reason in self.marks.items()]
        places += [(self._blank_line(text, start), FinishReason.STEP), (self._phrase(text, start), FinishReason.STEP)]
        found = [TextEnd(position, reason) for position, reason in places if position >= 0]
        return min(found, key=lambda end: end.position, default=None)

    def _blank_line(self, text: str, start: int) -> int:
        if not self.blank_line or (content := _CONTENT.search(text)) is None:
            return -1
        return text.find(BLANK_LINE, max(start, content.end()))

    def _phrase(self, text: str, start: int) -> int:
        if self.phrases is None:
            return -1
        for match in self.phrases.finditer(text, start):
            position = _sentence_end_before(text[: match.start()])
            if position > 0 and _CONTENT.search(text, 0, position):
                return position
        return -1


def _sentence_end_before(text: str) -> int:
    """End of the sentence or line at the end of `text`, without whitespace after it; -1 if none ends there."""
    text = text.rstrip(_BEFORE_SENTENCES)
    before = text.rstrip()
    gap = text[len(before) :]
    last = before.rstrip(_AFTER_SENTENCES)[-1:]
    ends_here = "\n" in gap or last in _UNSPACED_SENTENCE_ENDS or (gap and last in _SENTENCE_ENDS)
    return len(before) if ends_here else -1


def answer_start(text: str, tags: ThinkTags) -> int:
    """Start of the final answer in the text that a model wrote after its thinking was closed.

    Some models close the thinking again, or think again: `</think>` and `<think>…</think>` at the very beginning are
    skipped, with the whitespace after them. If a thinking there is not closed, no answer follows.
    """
    start = 0
    while True:
        at = len(text) - len(text[start:].lstrip())
        closing = _mark_at(text, at, tags.closings)
        if closing is None and (opening := _mark_at(text, at, tags.openings)) is not None:
            ends = [(text.find(mark, at + len(opening)), mark) for mark in tags.closings]
            closed = [(place, -len(mark), mark) for place, mark in ends if place >= 0]
            if not closed:
                return len(text)
            at, _, closing = min(closed)
        if closing is None:
            return at if start else 0
        start = at + len(closing)


def _mark_at(text: str, at: int, marks: tuple[str, ...]) -> str | None:
    return next((mark for mark in marks if text.startswith(mark, at)), None)


def _marks(kind: TextKind, tags: ThinkTags) -> dict[str, FinishReason]:
    """Texts that end a generation at any position: the model's own tags, and always the usual ones.

    An answer ends before a second `<think>` or `</think>`, which would make the exported turn ambiguous.
    """
    ending = {tags.answer_end: FinishReason.EOS} if tags.answer_end else {}
    match kind:
        case "reply":
            return ending
        case "answer":
            return {**dict.fromkeys((tags.closing_tag, THINK_CLOSE, *tags.openings), FinishReason.THINK_END), **ending}
        case _:
            return dict.fromkeys((tags.closing_tag, THINK_CLOSE), FinishReason.THINK_END)


@lru_cache
def ends_of(segmentation: Segmentation, kind: TextKind, tags: ThinkTags = USUAL_TAGS) -> Ends:
    """What ends a text of this kind by a model with these `tags`; for steps it depends on `segmentation`."""
    marks = _marks(kind, tags)
    if kind != "step":
        return Ends(marks, longest=_longest(marks), answer_tags=tags if kind == "answer" else None)
    match segmentation.rule:
        case SegmentationRule.PROMPTED:
            marks = {BOUNDARY: FinishReason.STEP, **marks}
            return Ends(marks, longest=_longest(marks))
        case SegmentationRule.LINE_BREAK:
            return Ends(marks, blank_line=True, longest=_longest(marks))
        case SegmentationRule.PHRASES:
            return Ends(
                marks, phrases=_pattern(segmentation.phrases), longest=_longest([*marks, *segmentation.phrases])
            )


def cut(
    text: str, kind: TextKind, segmentation: Segmentation, *, ended: Ended, tags: ThinkTags = USUAL_TAGS
) -> SegmentedText:
    """The requested part of what a model with these `tags` wrote; tags that remain in it are the usual ones.

    Inner whitespace stays, and so does a marker repeated at the very start: `search` decides whether a step is valid.
    An answer begins after a thinking at its start, and ends at the next `<think>` or `</think>`. A reply begins after
    the last `</think>`, if the model thought. `ended` gives the reason if the text holds no end. Raises ValueError for
    `ended="stop"` on a text without an end.
    """
    if kind == "reply":
        text = tags.canonical(text).rpartition(THINK_CLOSE)[2].lstrip()
    elif kind == "answer":
        text = text[answer_start(text, tags) :]
    ends = ends_of(segmentation, kind, tags)
    end = ends.find(text)
    if end is None and ended == "stop":
        raise ValueError(f"ended by a stop text, but there is none in {text!r:.200}")
    reason = FinishReason(ended) if end is None else end.finish_reason
    text = tags.canonical(text if end is None else text[: end.position])
    return SegmentedText(_LEADING_BLANK_LINES.sub("", text) if ends.blank_line else text, reason)


def _longest(marks: Mapping[str, FinishReason] | list[str]) -> int:
    """Bytes that hold the longest of `marks` plus one character."""
    return max((len(mark.encode()) for mark in marks), default=0) + 4


def _pattern(phrases: tuple[str, ...]) -> re.Pattern[str]:
    alternatives = sorted(map(_phrase_pattern, phrases), key=len, reverse=True)
    return re.compile(rf"(?<![^\W_])(?:{'|'.join(alternatives)})", re.IGNORECASE)


def _phrase_pattern(phrase: str) -> str:
    words = [re.sub("['’]", "['’]", re.escape(word)) for word in phrase.split()]
    last = phrase.strip()[-1:]
    # Scripts without case have no space after a word, or attach particles to it: there, a letter may follow the phrase.
    word_end = r"(?=[\W_])" if last.isdigit() or last.lower() != last.upper() else ""
    return r"\s".join(words) + word_end
