r"""Reads boxes that are only a part of a formula: `2^{\boxed{5}}` is 2^5, but `x = \boxed{5}` is 5."""

from __future__ import annotations

import re
from bisect import bisect_right

_FORMULA = re.compile(
    r"(?<!\\)\$\$(?P<a>(?:\\.|[^$\\]){1,600})\$\$|(?<!\\)\$(?P<b>(?:\\.|[^$\n\\]){1,400})\$|"
    r"\\\((?P<c>(?:(?!\\[()\]\[]).){1,400})\\\)|\\\[(?P<d>(?:(?!\\[()\]\[]).){1,600})\\\]",
    re.DOTALL,
)
_COLOURS = re.compile(r"\\(?:text|page|f)?color(?:box)?\s?(?:\[[^\[\]]{0,20}\])?\s?\{[^{}]{0,30}\}")
_STYLES = re.compile(
    r"\\(?:bf|it|rm|tiny|small|normalsize|large|Large|LARGE|huge|Huge|bfseries|displaystyle|textstyle|left|right|"
    r"[bB]igg?[lr]?|"
    r"square|blacksquare|checkmark|Box|nonumber|notag|limits)(?![a-zA-Z])|\\[,!:> ]|[~&]|"
    r"\\(?:math(?:bf|rm|sf|it)|boldsymbol|bm|text(?:bf|rm|it)?|underline|emph|mbox|ensuremath|pmb|phantom)\s?(?=\{\s*$)"
)
_WORDS = re.compile(r"\\(?:text(?:bf|it|rm)?|math(?:rm|bf)|mbox)\s?\{([^{}]*)\}")
_ENDS = re.compile(
    r"\\(?:begin|end)\s?\{[a-z]{1,15}\*?\}(?:\{[lcr| ]{1,9}\})?|\\tag\*?\s?\{[^{}]*\}|\\\\|\n\s*\n|"
    r"\\pmod\s?(?:\{[^{}]*\}|\d+)|\(\s*(?:\\mod|\\bmod|\\text\{mod\}|mod)\s[^()]*\)"  # a modulus
)
_BREAK = re.compile(
    r"(?<!\\not)(?<!\\not )(?<![!<>])=(?!=)|[,;≈⇒→∴]|=>|\\(?:approx|implies|[Rr]ightarrow|[Ll]ong[rR]ightarrow|"
    r"Longrightarrow|iff|therefore|q?quad|"
    r"equiv|cong|to|in|mapsto|colon|simeq|because|boxed)(?![a-zA-Z])|\.(?=\s)|:=?(?=\s*$)"
)
_BRACKET = re.compile(r"[()\[\]{}]")
_EMPTY_GROUPS = re.compile(r"(?:^|(?<=[\s=,;]))(?:\{\s*)+$")
_PROSE = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{4,}")
_UNIT = re.compile(r"\s*[A-Za-z]{2,}")
_BOUND = re.compile(
    r"(?:not|no)?\s?(?:at (?:least|most)|(?:less|more|greater|fewer|smaller|larger|bigger) than|up to|over|under|"
    r"above|below|negative|minus|"
    r"almost|nearly|not|twice|half)\s?",
    re.IGNORECASE,
)
_LEFT_OF_BARE = re.compile(
    r"(?:(?<![^\W\d_])[A-Za-z](?![^\W\d_])|\\[a-zA-Z]{1,12}|[\d +*/^_={}()\[\]<>≤≥≠.,|-]){1,80}$"
)
_RIGHT_OF_BARE = re.compile(r"(?:[A-Za-z](?![^\W\d_])|\\[a-zA-Z]{1,12}|[\d +*/^_={}()\[\]<>≤≥≠|-]|\.(?=\d)){1,80}")
_JOINED_LEFT = re.compile(r"(?:[+/^<≤≥≠{]|\\(?:leq?|geq?|lt|gt|neq?|cdot|times|div|pm))\s?$|(?<![\d.])\d+(?:\.\d*)?$")
_JOINED_RIGHT = re.compile(
    r"[A-Za-z](?![^\W\d_])|\d|\.\d|\s?(?:[<>≤≥≠]|\\(?:leq?|geq?|lt|gt|neq?)(?![a-z])|[+*/^]\s?[\w(\\])"
)


class Formulas:
    """The formulas of a text; finds the one around a position."""

    def __init__(self, text: str) -> None:
        self._spans = [match.span(match.lastgroup or 0) for match in _FORMULA.finditer(text)]
        self._starts = [start for start, _ in self._spans]

    def around(self, start: int, end: int) -> tuple[int, int] | None:
        """Start and end, without delimiters, of the formula that holds a box; None if none does."""
        index = bisect_right(self._starts, start) - 1
        if index < 0 or self._spans[index][1] < end:
            return None
        return self._spans[index]


def part_with_box(
    text: str, start: int, end: int, content: str, formula: tuple[int, int] | None
) -> tuple[int, str] | None:
    """The part of a formula to which a box belongs: its end in `text`, and its text with the box's content.

    None if the box holds the whole part. `formula` is the formula around the box (`Formulas.around`).
    """
    if formula is not None:
        before, after = text[formula[0] : start], text[end : formula[1]]
    else:
        line = text[max(0, start - 80, text.rfind("\n", max(0, start - 80), start) + 1) : start]
        stop = text.find("\n", end, end + 80)
        rest = text[end : stop if stop >= 0 else end + 80]
        if not (_JOINED_LEFT.search(line) or _JOINED_RIGHT.match(rest)):
            return None
        left, right = _LEFT_OF_BARE.search(line), _RIGHT_OF_BARE.match(rest)
        before, after = left[0] if left else "", right[0] if right else ""
    before, after = _plain(before), _plain(after)
    left_part, opened = _last_part(before)
    right_part, whole = _first_part(after, opened)
    if opened and not whole:
        return None  # The brackets do not match.
    left_part = _EMPTY_GROUPS.sub("", left_part)
    left_part, right_part = left_part.strip(), right_part.rstrip(" .")
    if not left_part and right_part.startswith("}"):
        right_part = right_part.lstrip("} ")
    alone = not left_part and (not right_part.strip() or _UNIT.match(right_part) is not None)
    if (alone or _PROSE.search(f"{left_part} {right_part}")) and not _BOUND.fullmatch(left_part):
        return None
    if re.search(r"\w\s*[-+]\s*\w", content) and left_part[-1:] not in ("", "{", "("):
        content = f"({content})"
    last = end + len(text[end : formula[1]]) if formula is not None else end
    gap = " " if left_part[-1:].isalpha() else ""
    return last, f"{left_part}{gap}{content}{right_part}".strip()


def _plain(part: str) -> str:
    """A part of a formula without colours and sizes; the ends of rows, and words, become semicolons."""
    part = _COLOURS.sub("", part)
    part = _WORDS.sub(lambda match: f" {match[1].strip()} " if _BOUND.fullmatch(match[1].strip()) else ";", part)
    return _STYLES.sub(" ", _ENDS.sub(";", part))


def _last_part(before: str) -> tuple[str, int]:
    """The text before a box back to the last separating sign, and the number of brackets open there."""
    before = _EMPTY_GROUPS.sub("", before)
    opened: list[int] = []
    for match in _BRACKET.finditer(before):
        if match[0] in "([{":
            opened.append(match.start())
        elif opened:
            opened.pop()
    at = 0
    for match in _BREAK.finditer(before, 0, opened[0] if opened else len(before)):
        at = match.end()
    return before[at:], len(opened)


def _first_part(after: str, opened: int) -> tuple[str, bool]:
    """The text after a box up to the first separating sign that follows the closing of the `opened` brackets before
    the box; and False if those brackets never close."""
    at = 0
    for match in _BRACKET.finditer(after):
        if opened <= 0:
            break
        opened += 1 if match[0] in "([{" else -1
        at = match.end()
    if opened > 0:
        return after, False
    depth = 0
    for match in re.finditer(rf"{_BRACKET.pattern}|(?:{_BREAK.pattern})", after[at:]):
        if match[0] in "([{":
            depth += 1
        elif match[0] in ")]}":
            depth -= 1
        elif depth <= 0 and not match[0].startswith(":"):
            return after[: at + match.start()], True
    return after, True
