r"""Extracts the final answer of a worked solution: GSM8K's last line `#### 72`, MATH's `\boxed{…}`.

A score says how well a candidate predicts the answer, so no solution may stand in the answer's place. Only unmistakable
marks count: a text without one, however long, is itself an answer (PubMedQA's are paragraphs).
"""

from __future__ import annotations

import re
from itertools import pairwise

_HASHES = re.compile(r"(?:(?m:^)[ \t]*(?P<bold>\*\*)?####(?!#)|(?<![#\w])####(?=\s|\Z))[ \t]*(?P<answer>[^\n]*)")
_HEADING = re.compile(r"(?m)^[ \t]*(?:\*\*)?####(?!#)")
_RESULT = re.compile(r"[-+]?[$€£]?\s*[-+]?\d[\d.,/:]*\s*(?:%|[^\W\d]{0,12})\.?")
"""Text after `####` that is a result; other text there may be a heading."""
_SENTENCES = re.compile(r"[A-Z][a-z]+[.:]\s+[A-Z]")
"""A word that ends a sentence or a title, and the next sentence: such text after `####` is no result."""
_END_MARKS = re.compile(r"(?:\s|</s>|<eos>|<\|[\w ]{1,30}\|>|`{3,})+\Z")
"""Characters that models and Markdown put after a text."""
_BOX = re.compile(r"\\(?:boxed|fbox|framebox(?:\[[^\]]*\])*)\s*(?P<brace>\{)?")
_BARE = re.compile(r"[^\s$]+")
_BARE_RESULT = re.compile(r"-?\d+(?:[.,]\d+)*|[A-Za-z0-9]|\\(?!(?:[dt]?frac|sqrt|text|binom)\b)[A-Za-z]+")
_TAG = re.compile(r"<(/?)answer>", re.IGNORECASE)
_BETWEEN_BOXES = re.compile(r"[\s$]*(?:[,;]|,?\s*(?:and|or|\\text\{\s*(?:and|or)\s*\}))[\s$]*")
_RANGE = re.compile(r"\b(?:between|from)[\s$]*\Z", re.IGNORECASE)
_OPERATORS = r"\\(?:pm|mp|times|cdot|div|neg)"
_FUNCTIONS = r"\\(?:sqrt(?:\[[^\]]*\])?|[dtc]?frac|binom|sin|cos|tan|log|ln|exp|pi)"
# The next three match text beside a box that belongs to the same formula, so that the box is only a part of the answer.
_TOUCHES_BEFORE = re.compile(
    rf"(?:[-+±/]|(?<!\*)\*|\d|(?<![A-Za-z\\])[A-Za-z]|[+±/]\s+|[\^_]\s*\{{?|{_OPERATORS}\s*"
    rf"|{_FUNCTIONS}\s*(?:\{{[^{{}}]*\}})?\{{?)\Z"
)
_MINUS_BEFORE = re.compile(r"-\s+\Z")
_TOUCHES_AFTER = re.compile(
    r"\s*(?:\^(?!\s*\{?\s*\\(?:circ|degree))|_(?!_)|[+/×·]\s*[\d\\(A-Za-z]|\*(?!\*)\s*[\d\\(A-Za-z]|\\?%"
    rf"|{_OPERATORS}(?![A-Za-z])|{_FUNCTIONS}(?![A-Za-z])|-\s*[\d\\])"
    r"|-[A-Za-z(]|\d|[A-Za-z](?![A-Za-z])|[\s$]*(?:\\text\{\s*(?:or|and)\b|(?:,\s*)?(?:or|and)\s+\$?-?(?:\d|\\(?!boxed|fbox|framebox)))"
)
_NEAR = 80
"""Characters before and after a box that are examined."""


class AmbiguousAnswer(Exception):
    """The text has marks of a final answer, but not of exactly one; the message says why, without a full stop."""


def final_answer(text: str) -> str | None:
    """The final answer of `text` if it is a worked solution; None if it is itself an answer.

    Raises:
        AmbiguousAnswer: several different final answers, or one that is cut off.
    """
    if not ("\\" in text or "#" in text or "<" in text):
        return None
    found = [answer for answer in (_after_hashes(text), _boxed(text), _tagged(text)) if answer is not None]
    if not found:
        return None
    plain = {_plain(answer) for answer in found}
    if len(plain) > 1:
        raise AmbiguousAnswer(f"gives two final answers, {found[0]!r:.40} and {found[1]!r:.40}")
    answer = found[0]
    return None if answer == text.strip() else answer


def _after_hashes(text: str) -> str | None:
    """The text after `####` on the last line; if that text has a box, the content of the box. Headings in the middle of
    a text do not count."""
    text = _END_MARKS.sub("", text)
    marks = list(_HASHES.finditer(text))
    if not marks:
        return None
    mark = marks[-1]
    answer, later_lines = _unmarked(mark), text[mark.end() :].strip()
    if later_lines:
        is_result = _RESULT.fullmatch(answer) is not None or (not answer and _RESULT.fullmatch(later_lines) is not None)
        if not is_result or len(_HEADING.findall(text)) > 1:
            return None
        if answer:
            raise AmbiguousAnswer(f"continues after its #### {answer:.40}")
        return later_lines
    if not answer:
        raise AmbiguousAnswer("ends with #### and nothing after it")
    if len(_HEADING.findall(text)) > 1:
        raise AmbiguousAnswer("has several lines that begin with ####")
    if _SENTENCES.match(answer):
        return None
    box = _boxed(answer)
    return box if box is not None else answer


def _unmarked(mark: re.Match[str]) -> str:
    answer = mark["answer"].strip()
    return answer.removesuffix("**").strip() if mark["bold"] else answer


def _boxed(text: str) -> str | None:
    """The content of the box; None if there is none. Several equal boxes are one; boxes joined by only a comma, "and"
    or "or" are a list."""
    if not any(name in text for name in ("\\boxed", "\\fbox", "\\framebox")):
        return None
    boxes: list[tuple[int, int, str]] = []
    for opening in _BOX.finditer(text):
        if boxes and opening.start() < boxes[-1][1]:
            continue  # a box in a box
        if opening["brace"] is None:
            bare = _BARE.match(text, opening.end())
            content = bare[0].rstrip(".,;:!?)]*") if bare is not None else ""
            if bare is None or not content:
                raise AmbiguousAnswer("has a \\boxed without content")
            if _BARE_RESULT.fullmatch(content) is None:
                raise AmbiguousAnswer(f"has a \\boxed without braces before {content!r:.40}")
            boxes.append((opening.start(), bare.start() + len(content), content))
            continue
        end = _closing_brace(text, opening.end())
        if end is None:
            raise AmbiguousAnswer("has a \\boxed{ that is never closed")
        boxes.append((opening.start(), end + 1, text[opening.end() : end].strip()))
    if not boxes:
        return None
    if any(not content for _, _, content in boxes):
        raise AmbiguousAnswer("has an empty \\boxed{}")
    contents = list(dict.fromkeys(content for _, _, content in boxes))
    alike = len({_plain(content) for content in contents}) == 1
    # Equal boxes repeat one result. Then it is enough that the last one stands alone.
    for start, end, _ in boxes[-1:] if alike else boxes:
        _check_alone(text, start, end)
    if alike:
        return _inner(contents[-1])
    side_by_side = all(_BETWEEN_BOXES.fullmatch(text, left[1], right[0]) for left, right in pairwise(boxes))
    if side_by_side and _RANGE.search(text[: boxes[0][0]][-_NEAR:]) is None:
        mark = "; " if any("," in content for content in contents) else ", "
        return mark.join(content for _, _, content in boxes)
    shown = " and ".join(f"{content!r:.40}" for content in contents[:3])
    raise AmbiguousAnswer(f"has several boxes ({shown})")


def _check_alone(text: str, start: int, end: int) -> None:
    """Raises AmbiguousAnswer if the box is only a part of a formula: `-\\boxed{3}`, `\\boxed{2} \\times 10^5`."""
    before = text[max(0, start - _NEAR) : start]
    is_math = text.count("$", 0, start) % 2 == 1
    touched = _TOUCHES_BEFORE.search(before) or (_MINUS_BEFORE.search(before) if is_math else None)
    touched = touched or _TOUCHES_AFTER.match(text[end : end + _NEAR])
    if touched is not None:
        shown = text[max(0, start - 12) : end + 12]
        raise AmbiguousAnswer(f"has a box that is only a part of its result ({shown!r:.60})")


def _inner(content: str) -> str:
    """The content of the inner box if `content` is only a box; otherwise `content`."""
    opening = _BOX.match(content)
    if opening is not None and opening["brace"] and _closing_brace(content, opening.end()) == len(content) - 1:
        return content[opening.end() : -1].strip()
    return content


def _tagged(text: str) -> str | None:
    """The text between the tags `<answer>` and `</answer>`; if that text has a box, the content of the box. None
    without such tags."""
    found: dict[str, None] = {}
    opened: int | None = None
    for tag in _TAG.finditer(text):
        if not tag[1]:
            opened = tag.end()
        elif opened is not None:
            found[text[opened : tag.start()].strip()] = None
            opened = None
    answers = list(found)
    if len(answers) > 1:
        raise AmbiguousAnswer(f"has several <answer> tags ({answers[0]!r:.40} and {answers[1]!r:.40})")
    if answers == [""]:
        raise AmbiguousAnswer("has an empty <answer> tag")
    if not answers:
        return None
    box = _boxed(answers[0])
    return box if box is not None else answers[0]


def _closing_brace(text: str, start: int) -> int | None:
    depth = 1
    at = start
    while at < len(text):
        if text[at] == "\\":
            at += 2
            continue
        if text[at] in "{}":
            depth += 1 if text[at] == "{" else -1
            if depth == 0:
                return at
        at += 1
    return None


def _plain(answer: str) -> str:
    """The answer without layout, for comparing two answers."""
    unwrapped = re.sub(r"\\text\s*\{([^{}]*)\}", r"\1", answer)
    return re.sub(r"[\s$]|\\[,;! ]", "", unwrapped).rstrip(".")
