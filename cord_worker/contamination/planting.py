"""Makes copies of questions as they occur in datasets, to measure which of them are found.

The paraphrases are mechanical: names and frequent words are replaced, and the first two sentences change places. People
and models paraphrase more freely.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable

_NUMBER = re.compile(r"(?<![A-Za-z\\.\d])\d+(?:\.\d+)?")
_WORD = re.compile(r"[A-Za-z]+")
_NAME = re.compile(r"(?<=[a-z,] )[A-Z][a-z]{2,}\b")
_SENTENCE = re.compile(r"(?<=[.?!])\s+")
_PUNCTUATION = str.maketrans({",": "，", ".": "。", "?": "？", "!": "！", ":": "：", ";": "；", "(": "（", ")": "）",
                              "-": "–", "'": "’", "%": "％"})  # fmt: skip
_POINT = re.compile(r"(?<=\d)\.(?=\d)")
_NAMES = ("Amina", "Bruno", "Chiara", "Dmitri", "Elif", "Farid", "Greta", "Hiro", "Ines", "Jonas")
_SYNONYMS = {
    "find": "determine", "compute": "calculate", "calculate": "compute", "evaluate": "work out", "total": "overall",
    "altogether": "in all", "each": "every", "buys": "purchases", "bought": "purchased", "buy": "purchase",
    "earns": "makes", "earn": "make", "gave": "handed", "gives": "hands", "sold": "has sold", "needs": "requires",
    "need": "require", "many": "large a number of", "more": "additional", "remaining": "left over", "also": "too",
    "then": "afterwards", "uses": "employs", "value": "numerical value", "number": "count", "smallest": "least",
    "largest": "greatest", "express": "write", "positive": "greater than zero", "day": "24 hours", "week": "seven days",
    "money": "cash", "friends": "pals", "children": "kids", "house": "home", "car": "vehicle", "work": "labour",
    "if": "given that", "all": "every one of the", "there": "in this place", "only": "just", "whole": "entire",
}  # fmt: skip
_BEFORE = (
    "You are a careful tutor. Solve the task below, and explain every step so that a pupil can follow.\n\n### Task 7\n"
)
_AFTER = "\n\nThink it through before you write anything. Put the final result into a box at the end of your reply."


def exact(question: str, chance: random.Random) -> str:  # noqa: ARG001 - the signature of all `PLANTS`
    """The question itself."""
    return question


def renumbered(question: str, chance: random.Random) -> str:
    """The question with other numbers; unchanged if it has none."""
    return _NUMBER.sub(lambda match: _other_number(match[0], chance), question)


def punctuated(question: str, chance: random.Random) -> str:  # noqa: ARG001 - the signature of all `PLANTS`
    """The question with other spaces, and with the punctuation of translations and web pages."""
    kept = _POINT.sub("\0", question).translate(_PUNCTUATION).replace("\0", ".")
    return kept.replace("$", "").replace(" ", "\u00a0 ")


def embedded(question: str, chance: random.Random) -> str:  # noqa: ARG001 - the signature of all `PLANTS`
    """The question within a longer text."""
    return f"{_BEFORE}{question}{_AFTER}"


def paraphrased(question: str, chance: random.Random) -> str:
    """The question with some other names and words, and its first two sentences exchanged if it has three or more."""
    names: dict[str, str] = {}
    for name in _NAME.findall(question):
        names.setdefault(name, chance.choice(_NAMES))
    for name, other in names.items():
        question = re.sub(rf"\b{name}\b", other, question)
    question = _WORD.sub(lambda match: _SYNONYMS.get(match[0], match[0]), question)
    sentences = _SENTENCE.split(question)
    if len(sentences) >= 3:
        sentences[:2] = sentences[1::-1]
    return " ".join(sentences)


PLANTS: dict[str, Callable[[str, random.Random], str]] = {
    "exact": exact,
    "renumbered": renumbered,
    "punctuation": punctuated,
    "embedded": embedded,
    "paraphrased": paraphrased,
}
"""The kinds of copies by name; each is a function of a question and a source of chance."""


def _other_number(text: str, chance: random.Random) -> str:
    if "." in text:
        return f"{float(text) + chance.randint(1, 9):.2f}"
    return str(int(text) + chance.randint(1, 9)) if len(text) < 16 else text[::-1]
