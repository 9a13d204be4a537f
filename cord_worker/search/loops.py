"""Distinguishes a text that loops from one that repeats itself for a reason.

A model that has lost its way writes the same thing again and again and does not stop: the repetition is exact, it
reaches the end of the text, and usually the token cap ends it. Honest text also repeats itself (the rows of a zero
matrix, a table, the digits of 1/3, cases in the same words). But then it continues with something else, changes a
number, or ends by itself. So only a repetition at the end counts, and the required length depends on what is repeated:

| what is repeated at the end | length of a loop in a text that the cap cut | in a text that ended by itself |
|---|---|---|
| sentences: three different words or more, no list, table or matrix | N | N |
| single words (`wait wait wait`), sentences with several numbers (a periodic division) | N | 2 N |
| digits, formulas, rows of a table or matrix | 2 N | never a loop |

N is `ngram * repeats` words, or `repeats` times the repeated part if that is longer. Four repeats are enough for words
or a sentence longer than two n-grams in a text that was cut. In scripts that put no spaces between words, and in text
without spaces, characters are counted, six to a word.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import Enum

UNSPACED_SCRIPT = re.compile("[\u0e00-\u0eff\u0f00-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\U00020000-\U0003ffff]")
"""Thai, Lao, Tibetan, Burmese, Khmer, kana and Han: scripts that put no spaces between words."""
_LONGEST_WORD = 256
"""In characters; a longer run without whitespace is not a word."""
_CHARACTERS_PER_WORD = 6
_WATCHED = 4_096
"""Words, or six times as many characters, that are examined at the end of a text: bounds time and memory."""
_LONG_UNIT = 2
"""In n-grams: a longer unit is not a list entry, so fewer repeats of it are enough."""
_REPEATS_OF_LONG = 4
_COMMAND = re.compile(r"\\(?!boxed\b)[A-Za-z]+")
"""LaTeX commands, which do not count as words. `\\boxed` is left out: a repeated boxed answer counts like a word."""
_INDENTATION = re.compile(r"\n([ \t]+)(?=\S)")
_DEEPEST_INDENTATION = 64
_WORD = re.compile(r"[^\W\d_]{2,}")
_CELLS = re.compile(r"[|&]|\\\\")
_PAUSES = tuple(".!?…:;,。！？，；")
_SENTENCE_WORDS = 3
_NUMBER = re.compile(r"\d+")
_CALCULATION_NUMBERS = 4
"""Number of different numbers from which a repeated part counts as a calculation."""


class _Content(Enum):
    """The kind of text that is repeated."""

    SENTENCE = 1
    CALCULATION = 2
    WORDS = 3
    FIGURES = 4


def is_loop(text: str, *, ngram: int, repeats: int, was_cut: bool) -> bool:
    """True if `text` ends in a loop; `was_cut` if the token cap ended it, perhaps in the middle of a word."""
    words = _INDENTATION.sub(_as_part_of_its_word, text).split()
    if _ends_in_loop(words, " ", ngram, repeats, was_cut):
        return True
    if UNSPACED_SCRIPT.search(text) or any(len(word) > _LONGEST_WORD for word in words):
        return _ends_in_loop("".join(words), "", ngram * _CHARACTERS_PER_WORD, repeats, was_cut)
    return False


def _as_part_of_its_word(indentation: re.Match[str]) -> str:
    """Lines with different indentation are different text: a nested program is not a loop."""
    return "\n" + "\x01" * min(len(indentation[1]), _DEEPEST_INDENTATION)


def _ends_in_loop(units: Sequence[str], between: str, ngram: int, repeats: int, was_cut: bool) -> bool:
    if len(units) < min(ngram * repeats, _REPEATS_OF_LONG * _LONG_UNIT * ngram):
        return False
    watched = units[-max(_WATCHED * (1 if between else _CHARACTERS_PER_WORD), 2 * ngram * repeats) :][::-1]
    for left_out in _left_out(watched, ngram, was_cut):
        tail = watched[left_out:]
        for period, same in enumerate(_matches(tail)):
            length = period + same
            if period == 0 or length < min(repeats, _REPEATS_OF_LONG) * period:
                continue
            content = _content_of(between.join(tail[:period][::-1]), is_spaced=bool(between))
            if not was_cut and left_out and content is not _Content.SENTENCE:
                continue
            needed = _needed(content, period, ngram, repeats, was_cut)
            if needed is not None and length >= needed:
                return True
            if length == len(tail):
                break  # the whole text has this period: a longer period adds nothing
    return False


def _left_out(watched: Sequence[str], ngram: int, was_cut: bool) -> list[int]:
    """The numbers of units that may follow the loop.

    If the text was cut, part of a word may follow. If it ended by itself, a few words may follow a loop of sentences
    ("Let me stop here.").
    """
    if was_cut:
        return [0, 1]
    return [0, *(count for count in range(1, min(ngram + 1, len(watched))) if watched[count].endswith(_PAUSES))]


def _needed(content: _Content, period: int, ngram: int, repeats: int, was_cut: bool) -> int | None:
    """Units that a repetition with this period must span to be a loop; None if it never is one."""
    if was_cut and period > _LONG_UNIT * ngram and content in (_Content.SENTENCE, _Content.WORDS):
        return min(repeats, _REPEATS_OF_LONG) * period
    spanned = repeats * max(ngram, period)
    match content:
        case _Content.SENTENCE:
            return spanned
        case _Content.WORDS | _Content.CALCULATION:
            return spanned if was_cut else 2 * spanned
        case _Content.FIGURES:
            return 2 * spanned if was_cut else None


def _content_of(unit: str, *, is_spaced: bool) -> _Content:
    if _CELLS.search(unit):
        return _Content.FIGURES
    plain = _COMMAND.sub(" ", unit)
    if not is_spaced:
        # Without spaces, words cannot be separated: each character of an unspaced script counts as one.
        if characters := set(UNSPACED_SCRIPT.findall(plain)):
            return _content_of_count(len(characters))
        # The part is doubled, because a word may span two repeats of it.
        return _Content.WORDS if _WORD.search(plain * 2) else _Content.FIGURES
    if len(set(_NUMBER.findall(plain))) >= _CALCULATION_NUMBERS:
        return _Content.CALCULATION
    words = _WORD.findall(plain.casefold())
    is_list = plain.count(",") >= len(words) - 1
    return _content_of_count(min(len(set(words)), _SENTENCE_WORDS - 1) if is_list else len(set(words)))


def _content_of_count(distinct_words: int) -> _Content:
    if not distinct_words:
        return _Content.FIGURES
    return _Content.SENTENCE if distinct_words >= _SENTENCE_WORDS else _Content.WORDS


def _matches(units: Sequence[str]) -> list[int]:
    """For every position, how many units from there on equal the units from the beginning (the Z function)."""
    same = [0] * len(units)
    left = right = 0
    for place in range(1, len(units)):
        count = min(right - place, same[place - left]) if place < right else 0
        while place + count < len(units) and units[count] == units[place + count]:
            count += 1
        same[place] = count
        if place + count > right:
            left, right = place, place + count
    return same
