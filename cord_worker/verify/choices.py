"""Multiple choice: finds the letter, or the yes, no or maybe, that a text chooses."""

from __future__ import annotations

import re

from cord_worker.verify.normalise import tidy

_OPTION_WORD = r"(?:option|choice|answer|选项|選項|选择|選擇|选|選|보기|الخيار)"
_LETTER = re.compile(rf"(?:{_OPTION_WORD}\s*)?[(\[]?([A-J])[)\]]?[.:。]?(?:번|입니다)?", re.IGNORECASE)
_LABELLED = re.compile(
    rf"(?:{_OPTION_WORD}\s*)?(?:[(\[]([A-J])[)\]][.:]?|([A-J])[)\].:])\s*(?P<text>\S.*)", re.IGNORECASE | re.DOTALL
)
_BRACKETED = re.compile(r"(?:[(\[]|\b)([A-J])[)\]]", re.IGNORECASE)
_WORDS = {
    "yes": ("yes", "是", "是的", "对", "對", "예", "네", "نعم"),
    "no": ("no", "否", "不", "不是", "没有", "沒有", "아니요", "아니오", "لا"),
    "maybe": ("maybe", "也许", "也許", "可能", "不确定", "不確定", "아마", "아마도", "어쩌면", "ربما"),
}
_MEANING_OF = {word: meaning for meaning, words in _WORDS.items() for word in words}
_FIRST_WORD = re.compile(r"([^\W\d_]+)\s*(?:입니다\s*)?(?:[.,;:!?。！？–—]|-\s|$)")


def choice_of(text: str) -> str | None:
    """`B` for `(B)`, `b.`, `Option B` and `B) 45`; `yes` for `Yes, it does`; None if the text makes no choice.

    A letter before a word is not a choice ("A cat"), nor is the "no" of `no difference`.
    """
    text = tidy(text.replace("*", ""))
    if match := _LETTER.fullmatch(text):
        return match[1].upper()
    if match := _LABELLED.fullmatch(text):
        letter = (match[1] or match[2]).upper()
        # `B) and C)` chooses nothing, because the text after B) names another choice.
        named = {other.upper() for other in _BRACKETED.findall(match["text"])}
        return letter if named <= {letter} else None
    first = _FIRST_WORD.match(text)
    return _MEANING_OF.get(first[1].casefold()) if first else None


def label_text(text: str) -> str | None:
    """The text after the letter: `45` in `(B) 45`; None if there is no letter with a bracket or dot, or nothing after
    it."""
    match = _LABELLED.fullmatch(tidy(text.replace("*", "")))
    return match["text"].strip() if match else None
