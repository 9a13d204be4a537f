"""Finding the final answer in a generated text."""

from __future__ import annotations

import re

SHORT_TEXT = 200
"""A text without any mark of an answer is the answer itself up to this many characters."""

_MARKER = re.compile(
    r"####|\b(?:final\s+answer|answer)(?:\s+is|\s*:\s*\**\s*is)?\s*\**\s*(?::|(?<=is)|(?<=is\*\*))"
    r"|(?:答案|答)\**(?:应该是|应是|应为|就是|是|应該是|應為|为|為|选|選|:)"
    r"|(?:故|应|應|因此|所以)(?:选择|選擇|选|選)(?=\s*[(\[A-Ja-j])"
    r"|(?:정답|해답|답변|(?<![가-힣])답)\**(?:은|는|\s*:)"
    r"|(?:الإجابة|الاجابة|الجواب|إجابة|جواب)(?:\s+(?:النهائية|النهائي|الصحيحة|الصحيح))?\**\s*(?:هي|هو|:)",
    re.IGNORECASE,
)
"""The answer's announcement in English, Chinese, Korean and Arabic."""
_BLANK_RUN = re.compile(r"\s{3,}")
_LOOSE_MARKER = re.compile(r"\banswer\b[^.:\n]{1,60}?\bis\b", re.IGNORECASE)
_REASON = re.compile(
    r",?\s+(?:because|since|as|which|where|so)\s|,?\s*(?:因为|因為|由于|由於|所以|因此|其中|왜냐하면)|,?\s+(?:لأن|حيث|بسبب)",
    re.IGNORECASE,
)
_COPULA = re.compile(r"(?<=\S)\s*(?:입니다|이에요|예요|이다)$")
_BETWEEN_BOXES = re.compile(r"[\s$]*(?:,|,?\s*(?:and|or))[\s$]*")
_DISPLAY = re.compile(r"\s*(?:\$\$(.+?)\$\$|\\\[(.+?)\\\]|(\\begin\{(\w+)\}.+?\\end\{\4\}))", re.DOTALL)
_MAX_BOXES = 50
_SENTENCE_END = re.compile(r"[.!?](?=\s+(?:[A-Z\"'(\u0600-\u06ff\u3400-\u9fff\uac00-\ud7af]|I\b))|[。！？؟]")


def final_answers(text: str) -> list[str]:
    """What `text` gives as its final answer, the likeliest first; several readings of one place, or none.

    In this order: the last `\\boxed{…}`; what follows the last "the answer is", "final answer:" or "####" (to the
    end of the line, or of the sentence), also in Chinese, Korean and Arabic; the whole text where it is short.
    """
    # Long blank runs would cost the patterns below quadratic time.
    text = _BLANK_RUN.sub(lambda run: "\n" if "\n" in run[0] else " ", text).strip()
    boxed = last_boxed(text)
    if boxed is not None:
        return [boxed]
    markers = list(_MARKER.finditer(text)) or list(_LOOSE_MARKER.finditer(text))
    for marker in reversed(markers):
        rest = text[marker.end() :].lstrip(" \t\r\n:*")
        if readings := _readings(rest):
            return readings
    if not markers and text and len(text) <= SHORT_TEXT:
        return _readings(text) if "\n" not in text else [text]
    return []


def last_boxed(text: str) -> str | None:
    """The content of the last whole `\\boxed{…}` (or `\\fbox{…}`), None where there is none.

    Boxes that only a comma, "and" or "or" parts are one list.
    """
    found: list[str] = []
    begin_of_next: int | None = None
    openings = list(re.finditer(r"\\(?:boxed|fbox)\s*\{", text))
    for opening in reversed(openings[-_MAX_BOXES:]):
        end = _closing_brace(text, opening.end())
        if end is None:
            continue
        if begin_of_next is not None and not _BETWEEN_BOXES.fullmatch(text, end + 1, begin_of_next):
            break
        found.insert(0, text[opening.end() : end].strip())
        begin_of_next = opening.start()
    return ", ".join(found) if found else None


def _closing_brace(text: str, start: int) -> int | None:
    depth = 1
    for at in range(start, len(text)):
        if text[at] in "{}" and text[at - 1] != "\\":
            depth += 1 if text[at] == "{" else -1
            if depth == 0:
                return at
    return None


def _readings(rest: str) -> list[str]:
    display = _DISPLAY.match(rest)
    if display:
        return [next(group for group in display.groups() if group).strip()]
    line = rest.partition("\n")[0]
    sentence = _SENTENCE_END.split(line, maxsplit=1)[0]
    clause = _REASON.split(sentence, maxsplit=1)[0]
    parts = [_without_stop(part) for part in (line, sentence, clause)]
    parts += [_COPULA.sub("", part) for part in parts]
    return list(dict.fromkeys(part for part in parts if part))


def _without_stop(text: str) -> str:
    text = text.strip().strip("*").strip()
    while text.endswith((".", "!", "。", "！")) and not text.endswith(("...", "\\!")):
        text = text[:-1].rstrip().rstrip("*").rstrip()
    return text
