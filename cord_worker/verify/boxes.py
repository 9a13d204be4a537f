r"""Finds boxes, `\boxed{…}` and `\fbox{…}`, with the lists and signs around them."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from cord_worker.verify import sentences
from cord_worker.verify.formulas import Formulas, part_with_box

_OPENING = re.compile(r"\\(?:boxed|fbox|framebox)\s{0,3}\{")
_NAMES = (r"\boxed", r"\fbox", r"\framebox")
_BARE = re.compile(r"\\(?:boxed|fbox)\s{1,3}([^\s{}$\\.,;]{1,40})")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_BETWEEN = re.compile(
    r"(?:[\s$]|\\[()\[\],;:! ]|\\q?quad(?![a-z]))*"
    r"(?:(?:\\text\s?\{)?\s*for (?:part|case|question) \(?\w{1,3}\)?,?\s+|"
    r"(?!(?:wrong|incorrect|no|not|is|was|false)\b)[a-z]{2,15}\s+(?=and\b))?"
    r"(?:,|;|,?\s*(?:\\text\s?\{\s*)?(?:and|or|und|oder|et|ou|y|o|e|и|или|或|和|と|또는|و|أو)(?![^\W\d_]))"
    r"(?:\s*\}|[\s$]|\\[()\[\],;:! ]|\\q?quad(?![a-z]))*(?:[a-zA-Z](?:_\{?\w{1,3}\}?)?\s*=\s*)?"
)
"""Text between two boxes of one list; the first may have a unit, the second may repeat its variable's name."""
_TOUCHING = re.compile(r"(?: |\\[,;:! ]|\\q?quad(?![a-z]))*")
"""Text between two adjacent boxes: they are parts of one answer, unless they are equal."""
_GAP = 80
"""Most characters between two boxes of one list."""
_SIGN = re.compile(r"(?:^|[\s$=(\[:{])(-|\\pm\s?|\\\$)$")
_SCALE = re.compile(
    r"\s?\$?\s?(dozen|hundred|thousand|million|billion|trillion|crore|lakh|万|亿|萬|億|만|억)\b", re.IGNORECASE
)
_FACTOR = re.compile(r"\s?(?:[\^_!]|[*/+-]\s?(?=[\w\\(])|\\(?:sqrt|pi|times|cdot|pm|%)(?![a-z]))")
_WITHIN = re.compile(r"\\(?:sqrt(?:\[\d{1,3}\])?|[dt]?frac(?:\s?\{[^{}]{0,40}\})?)\s?\{\s?$")
_CLOSING = re.compile(r"\s?\}(?:\s?\{[^{}]{0,40}\})?")
"""Text around a box that is a part of a root or a fraction."""
_COMPARED = re.compile(
    r"(?:\d{1,9}\s?(?:\\leq?(?:slant)?|<)\s?)?(?<![\\\w])[a-zA-Z]\s?(?:\\(?:neq?|leq?|geq?|leqslant|geqslant|lt|"
    r"gt)|[<>≠≤≥]|!=|<=|>=)\s?$"
)
"""Text before a box that is one end of an inequality."""
_BOUND = re.compile(
    r"(?<![^\W_])(?!(?:not|never|than)\b)\w+(?:\s(?:than|least|most|to|of|als|que|de|чем))?$", re.IGNORECASE
)
_PLACEHOLDER = re.compile(
    r"(?:\\text\{)?\s?(?:[<\[]?(?:your |the |my )?(?:final )?(?:answer|result|solution|ans)(?: here)?[>\]]?|\.{2,}|"
    r"\\[lc]?dots|_+|\?+)\s?\}?",
    re.IGNORECASE,
)
"""Content of a box in quoted instructions."""
_LONG_WORD = re.compile(r"[^\W\d_]{4,}")
_COMMAND = re.compile(r"\\[a-zA-Z]+")


@dataclass(frozen=True, slots=True)
class Box:
    """One box, or several joined by only a comma, "and" or "or": `text` is their list. Positions count characters."""

    start: int
    end: int
    text: str


def last_boxed(text: str) -> str | None:
    r"""The content of the last complete `\boxed{…}` (or `\fbox{…}`); None if there is none.

    Boxes joined by only a comma, "and" or "or" are one list.
    """
    found = boxes(text)
    return found[-1].text if found else None


def boxes(text: str) -> list[Box]:
    """Every complete box that is not empty, in order; of nested boxes only the outer one."""
    if not any(name in text for name in _NAMES):
        return []
    closing = _closing_braces(text)
    formulas = Formulas(text)
    found: list[Box] = []
    at = 0
    openings = [(match, closing.get(match.end() - 1)) for match in _OPENING.finditer(text)]
    openings += [(match, match.end()) for match in _BARE.finditer(text)]
    for opening, end in sorted(openings, key=lambda pair: pair[0].start()):
        if end is None or opening.start() < at:
            continue
        at = end if opening.re is _BARE else end + 1
        content = opening[1] if opening.re is _BARE else text[opening.end() : end]
        content = without_boxes(content).strip()
        if not content.strip("{} \\,.;") or _PLACEHOLDER.fullmatch(content):
            continue
        box = _with_surroundings(text, opening.start(), at, content, formulas)
        at = max(at, box.end)
        found.append(box)
    return _join_neighbours(text, found)


def _closing_braces(text: str) -> dict[int, int]:
    """Position of the closing brace of each opening brace."""
    pairs: dict[int, int] = {}
    stack: list[int] = []
    for match in _BRACE.finditer(text):
        if match[0] == "{":
            stack.append(match.start())
        elif match[0] == "}" and stack:
            pairs[stack.pop()] = match.start()
    return pairs


def without_boxes(text: str) -> str:
    """`text` with every box replaced by its content."""
    if not any(name in text for name in _NAMES):
        return text
    closing = _closing_braces(text)
    removed: list[tuple[int, int]] = []
    for opening in _OPENING.finditer(text):
        end = closing.get(opening.end() - 1)
        removed.append((opening.start(), opening.end()))
        if end is not None:
            removed.append((end, end + 1))
    parts, at = [], 0
    for start, stop in sorted(removed):
        parts.append(text[at:start])
        at = stop
    return "".join(parts) + text[at:]


def _with_surroundings(text: str, start: int, end: int, content: str, formulas: Formulas) -> Box:
    """The box with what belongs to its answer: a minus before it, a factor or a "million" after it; or the whole
    formula, if the box is only a part of it."""
    formula = formulas.around(start, end)
    if part := part_with_box(text, start, end, content, formula):
        return _with_bound(text, formula, Box(start, part[0], without_boxes(part[1])))
    return _with_bound(text, formula, _with_factor(text, start, end, content))


def _with_bound(text: str, formula: tuple[int, int] | None, box: Box) -> Box:
    """The box with a bound, a multiple or a sign in words before it: `at least \\boxed{5}`."""
    start = formula[0] if formula is not None else box.start
    if formula is not None and text[start : box.start].strip():
        return box
    words = re.search(r"[^\n]*$", re.sub(r"[\s$]*(?:\\[(\[])?$", "", text[max(0, start - 40) : start]))
    if words is None or not words[0] or not sentences.changes_what_follows(f"{words[0]} "):
        return box
    bound = _BOUND.search(words[0])
    if bound is None:
        return box
    return replace(box, text=f"{bound[0].strip()} {box.text}")


def _with_factor(text: str, start: int, end: int, content: str) -> Box:
    """The box with the sign, root, fraction or inequality around it, and the factor or scale after it."""
    sign = _SIGN.search(text[max(0, start - 5) : start])
    if sign:
        content = sign[1] + content
        start -= len(sign[1])
    if within := _WITHIN.search(text[max(0, start - 80) : start]):
        closing = _CLOSING.match(text, end)
        if closing is not None:
            return Box(start - len(within[0]), closing.end(), within[0] + content + closing[0])
    if compared := _COMPARED.search(text[max(0, start - 40) : start]):
        content = compared[0].strip() + " " + content
        return Box(start - len(compared[0]), end, content)
    rest = text[end : end + 80]
    if scale := _SCALE.match(rest):
        return Box(start, end + scale.end(), f"{content} {scale[1]}")
    if _FACTOR.match(rest):
        factor = re.split(r"\$|\\[)\]]|\n|[.,;:](?=\s|$)|=", rest, maxsplit=1)[0]
        if not _LONG_WORD.search(_COMMAND.sub("", factor)):
            return Box(start, end + len(factor), content + without_boxes(factor).rstrip())
    return Box(start, end, content)


def _join_neighbours(text: str, found: list[Box]) -> list[Box]:
    """`found` with the boxes of one list joined; two adjacent equal boxes are one."""
    groups: list[list[Box]] = []
    for box in found:
        before = groups[-1][-1].end if groups else 0
        near = groups and box.start - before <= _GAP
        if near and _TOUCHING.fullmatch(text, before, box.start):
            if box.text != groups[-1][-1].text:
                groups[-1].append(box)
            else:
                groups[-1][-1] = replace(groups[-1][-1], end=box.end)
        elif near and _BETWEEN.fullmatch(text, before, box.start):
            groups[-1].append(box)
        else:
            groups.append([box])
    return [Box(group[0].start, group[-1].end, ", ".join(box.text for box in group)) for group in groups]
