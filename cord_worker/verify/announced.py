"""Finds answers that a text announces: markers, boxes, tags, JSON, and "41 is the answer"."""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import replace

from cord_worker.verify import sentences
from cord_worker.verify.boxes import Box, boxes, without_boxes
from cord_worker.verify.corrections import Standing, retracts, standing
from cord_worker.verify.markers import SAID, TAGGED, Marker, markers
from cord_worker.verify.readings import DISPLAY, WRAPPED_WORDS, answer_readings, readings_after
from cord_worker.verify.sentences import is_bare, without_lead, without_stop
from cord_worker.verify.statements import Statement

_NEAR = 5
"""Most characters between the words of a correction and the tag that they announce."""
_MOST_TAGS = 20
"""Tags, and JSON values, that are examined, counted from the end."""
_MOST_ANNOUNCEMENTS = 200
"""Announcements and boxes that are examined, counted from the end."""
_NOT_BUT = re.compile(
    r"(?:not|nicht|pas|no|non|não|не)\s(?P<denied>[^,;.]{1,60}?)(?:,?\s(?:but(?:\srather)?|sondern|mais|sino|ma|"
    r"mas|а)|"
    r"[,;]\s(?:it|that)(?:\sis|['’]s))\s(?P<meant>.+)"
    r"|(?:not\s)?(?P<denied2>.{1,60}?)(?:,?\s?而是|(?:이|가)\s?아니라|ではなく)\s?(?P<meant2>.+)",
    re.IGNORECASE,
)
_DENIAL = re.compile(
    r"(?:not|never|nicht|pas|non|não|не|nie|niet|bukan|không phải|definitely not|certainly not|anything but|"
    r"no longer|hardly|far from|other than)\s(?P<denied>\S.*)"
    r"|(?P<denied2>.{1,80}?)\s?(?:가\s?|이\s?)?(?:아닙니다|아니다|ではありません|ではない|じゃない|नहीं है|"
    r"değildir|değil|नहीं)",
    re.IGNORECASE,
)
_REVERSED = re.compile(
    r"(?:so|thus|hence|therefore)?,?\s?(?P<subject>[^.!?\n]{1,80}?)\s(?:is|are)\s(?P<not>not\s|"
    r"n['’]t\s)?(?:therefore\s|thus\s|clearly\s|indeed\s)?"
    r"(?:(?:the|our|my)\s(?:final\s|correct\s|right\s|best\s|desired\s|required\s)*(?:answer|solution|choice|"
    r"option)|(?P<bare>correct|right))"
    r"(?P<rest>\W.*)?$",
    re.IGNORECASE,
)
"""`41 is the answer`, or `option B is correct`."""
_LETTER = re.compile(
    r"(?:the\s)?(?:option|choice|answer|statement)?\s?[(\[]?[A-J][)\]]?(?:\s?[:.,]\s?[^,]{1,40})?", re.IGNORECASE
)
_CONCLUDED = re.compile(r",\s(?:and\s)?(?:so|thus|hence|therefore),?\s")
_SET_LETTER = re.compile(r"[({\s]*\\(?:text(?:bf|rm)?|math(?:bf|rm))\s?\{\s?\(?([A-J])\)?\s?\}[)}\s]*")
"""The letter of an option in LaTeX."""
_VALUE_LINE = re.compile(r"\n\s*(\$?-?\d[\d.,/]*\$?)\s*")
_INLINE_END = re.compile(r"\s*(?:\\\(|\$)\s?\n")
_TAG = re.compile(
    r"<(answer|final_answer|final|finalanswer|ans|result)>(?P<inner>(?:(?!<\1>).)*?)(?:</\1>|$)"
    r"|\[(ANSWER|FINAL_ANSWER|FINAL ANSWER)\](?P<inner2>.*?)(?:\[/\3\]|$)",
    re.DOTALL | re.IGNORECASE,
)
_JSON = re.compile(
    r"[\"'](?:final[_ ]?answer|answer|correct[_ ]?answer|result)[\"']\s?:\s?(?P<value>\"(?:[^\"\\\n]|\\.){0,2000}\"|"
    r"'(?:[^'\\\n]|\\.){0,2000}'"
    r"|\[[^\[\]\n]{0,500}\]|[^\s,}\"'\[]{1,60})",
    re.IGNORECASE,
)


def announced_statements(
    text: str, spans: list[sentences.Sentence], inner_statements: Callable[[str], list[Statement]]
) -> list[Statement]:
    """Every announced answer of `text`, in order; `inner_statements` finds the statements within a tag."""
    found_markers = markers(text)[-_MOST_ANNOUNCEMENTS:]
    tagged = [
        replace(one, corrects=any(m.corrects and 0 <= one.start - m.end <= _NEAR for m in found_markers))
        for one in _tagged_statements(text, inner_statements)
    ]
    found_boxes = boxes(text)[-_MOST_ANNOUNCEMENTS:]
    found: list[Statement] = list(tagged)
    taken: set[int] = set()
    finder = _SentenceFinder(spans)
    inside = [(other.start, other.end) for other in tagged] + [(box.start, box.end) for box in found_boxes]
    for index, marker in enumerate(found_markers):
        limit = found_markers[index + 1].start if index + 1 < len(found_markers) else len(text)
        if any(start <= marker.start < end for start, end in inside):
            continue
        if index + 1 < len(found_markers) and _only_leads_to(text[marker.end : limit]):
            found_markers[index + 1] = _stronger(found_markers[index + 1], marker)
            continue
        inner = [box for box in found_boxes if marker.start <= box.start < _reach(text, marker, limit)]
        statement = _announced_by_marker(text, marker, limit, inner, finder)
        if statement is not None:
            found.append(statement)
            if not marker.heading and (more := _VALUE_LINE.fullmatch(text, statement.end)) is not None:
                # The next line holds only another value: it is unclear which of the two is meant.
                found.append(Statement((more[1],), statement.strength, more.start(1), more.end(1)))
            taken.update(box.start for box in inner)
    found += [
        _boxed_statement(text, box, finder)
        for box in found_boxes
        if box.start not in taken and not any(other.start <= box.start < other.end for other in tagged)
    ]
    found += _reversed_statements(text, spans, found)
    found.sort(key=lambda statement: statement.start)
    return found


def _reversed_statements(text: str, spans: list[sentences.Sentence], found: list[Statement]) -> list[Statement]:
    """Statements with the answer first: `41 is the answer.`"""
    taken = [(statement.start, statement.end) for statement in found]
    new = []
    for span in spans[-_MOST_ANNOUNCEMENTS:]:
        sentence = without_stop(text[span.start : min(span.end, span.start + 300)])
        if not any(word in sentence for word in ("answer", "correct", "right", " the solution")):
            continue
        clause = _CONCLUDED.split(sentence)[-1]
        match = _REVERSED.match(without_lead(clause))
        if match is None or any(start < span.end and span.start < end for start, end in taken):
            continue
        subject = match["subject"].strip()
        if (match["bare"] and not _LETTER.fullmatch(subject)) or not is_bare(subject) or len(subject.split()) > 4:
            continue
        if re.fullmatch(r"(?:this|that|it|which|what|here|the (?:result|value|answer))", subject, re.IGNORECASE):
            continue
        presented = Standing.DENIED if match["not"] else Standing.STATED
        new.append(Statement(tuple(answer_readings(subject)), SAID, span.start, span.end, presented))
    return new


def _only_leads_to(between: str) -> bool:
    """True if only white space or a few leading words stand between two announcements."""
    return len(between) <= 60 and not without_lead(between.strip(" \n\t*:\"'$,-")).strip(" \n\t*:\"',.")


def _stronger(marker: Marker, other: Marker) -> Marker:
    """`marker` with the greater of both strengths; it corrects if either of them does."""
    return replace(
        marker,
        strength=max(marker.strength, other.strength),
        corrects=marker.corrects or other.corrects,
        negation=marker.negation,
    )


def _reach(text: str, marker: Marker, limit: int) -> int:
    """The position up to which a box belongs to the announcement: the end of its line; after a heading, `limit`."""
    if marker.heading:
        return limit
    line_end = text.find("\n", marker.end)
    end = len(text) if line_end < 0 else line_end
    if DISPLAY.match(text, marker.end) or _INLINE_END.match(text, marker.end):
        end = min(limit, marker.end + 400)
    return min(end, limit)


class _SentenceFinder:
    """Finds the sentence at a position."""

    def __init__(self, spans: list[sentences.Sentence]) -> None:
        self._spans = spans
        self._starts = [span.start for span in spans]

    def around(self, at: int) -> tuple[sentences.Sentence, sentences.Sentence | None]:
        """The sentence at a position, and the next one."""
        index = max(0, bisect_right(self._starts, at) - 1)
        following = self._spans[index + 1] if index + 1 < len(self._spans) else None
        return self._spans[index], following


def _announced_by_marker(
    text: str, marker: Marker, limit: int, inner: list[Box], finder: _SentenceFinder
) -> Statement | None:
    """The statement that `marker` announces: from the last box of `inner`, else from the text up to `limit`."""
    region = text[marker.end : limit]
    if inner:
        readings = _boxed_readings(text, marker, inner)
        end = inner[-1].end
        rest_at = inner[-1].end
    else:
        readings, length = readings_after(region, heading=marker.heading)
        end = marker.end + length
        rest_at = marker.end + (
            region.find(readings[0]) + len(readings[0]) if readings and readings[0] in region else length
        )
    if not readings:
        return None
    first, _ = finder.around(marker.start)
    last, next_one = finder.around(max(marker.start, end - 1))
    found = _standing(text, first, last, (marker.start, end, rest_at), marked=True)
    if found is Standing.OPEN and next_one is not None and retracts(text[next_one.start : next_one.start + 40]):
        found = Standing.DENIED
    if marker.negated:
        if meant := _NOT_BUT.fullmatch(f"not {without_stop(region[: end - marker.end].strip())}"):
            readings = answer_readings(meant["meant"] or meant["meant2"])
        else:
            words = re.sub(
                r"^(?:(?:is|are|was|es|ist|est|è|é)\s|n['’]est\s)",
                "",
                text[marker.negation : marker.end].strip(),
                flags=re.IGNORECASE,
            )
            whole = without_stop(f"{words} {without_stop(region[: end - marker.end])}")
            return Statement(tuple(readings), marker.strength, marker.start, end, Standing.DENIED, whole=whole)
    elif (meant := _NOT_BUT.fullmatch(readings[0])) and found is Standing.STATED:
        readings = answer_readings(meant["meant"] or meant["meant2"])
    elif (denial := _DENIAL.fullmatch(readings[0])) and found is Standing.STATED:
        denied = denial["denied"] or denial["denied2"]
        denials = (readings[0], *answer_readings(denied))
        return Statement(denials, marker.strength, marker.start, end, Standing.DENIED, whole=readings[0])
    # "41!" may be an exclamation or a factorial.
    loose = re.fullmatch(r"\d{1,6}!", readings[0]) is not None and "$" not in region[:end]
    return Statement(tuple(readings), marker.strength, marker.start, end, found, marker.corrects, loose)


def _boxed_readings(text: str, marker: Marker, inner: list[Box]) -> list[str]:
    """The last box's content, and the whole line with it, because a label may stand before the box."""
    box = inner[-1]
    readings = [*_inside(box.text)]
    line = text[marker.end : box.end]
    if "\n" not in line.strip() and len(line) < 200:
        whole = without_stop(without_boxes(line).strip(" \t\n:"))
        if whole and whole.strip("$ ") != box.text:
            readings.append(whole)
    return list(dict.fromkeys(readings))


def _inside(content: str) -> list[str]:
    """Readings of the content of a box, a tag or a JSON value: an answer, or a sentence that announces one."""
    if letter := _SET_LETTER.fullmatch(content):
        return [letter[1], content]
    words = WRAPPED_WORDS.sub(r" \1 ", content)
    if words != content or " " in content:
        for marker in markers(words)[-1:]:
            readings, _ = readings_after(words[marker.end :], heading=False)
            if readings and not marker.negated:
                return [*readings, content]
    return [content]


def _standing(
    text: str, first: sentences.Sentence, last: sentences.Sentence, positions: tuple[int, int, int], *, marked: bool
) -> Standing:
    """How the text around an answer presents it.

    `positions`: where the answer starts and ends, and where the text after it starts. Only a part of a long sentence is
    examined, so that the time stays linear.
    """
    start, end, rest = positions
    begin = max(first.start, start - 160)
    return standing(
        text[begin:start], text[begin : min(last.end, end + 400)], text[rest : min(last.end, rest + 200)], marked=marked
    )


def _boxed_statement(text: str, box: Box, finder: _SentenceFinder) -> Statement:
    first, _ = finder.around(box.start)
    last, next_one = finder.around(max(box.start, box.end - 1))
    found = _standing(text, first, last, (box.start, box.end, box.end), marked=False)
    if found is Standing.OPEN and next_one is not None and retracts(text[next_one.start : next_one.start + 40]):
        found = Standing.DENIED
    return Statement(tuple(_inside(box.text)), SAID, box.start, box.end, found)


def _tagged_statements(text: str, inner_statements: Callable[[str], list[Statement]]) -> Iterator[Statement]:
    """Statements in `<answer>…</answer>` and in a JSON object."""
    for match in list(_TAG.finditer(text))[-_MOST_TAGS:]:
        inner = (match["inner"] or match["inner2"] or "").strip()
        if not inner:
            continue
        found = inner_statements(inner)[-1:] or [Statement((inner,), TAGGED, 0, 0)]
        readings = [*found[0].readings]
        if "\n" not in inner and found[0].standing is Standing.STATED and not found[0].corrects:
            readings.append(without_stop(inner))
        yield Statement(tuple(dict.fromkeys(readings)), TAGGED, match.start(), match.end(), found[0].standing)
    for match in list(_JSON.finditer(text))[-_MOST_TAGS:]:
        value = _json_text(match["value"])
        if value:
            yield Statement(tuple(_inside(value)), TAGGED, match.start(), match.end())


def _json_text(value: str) -> str:
    if value.startswith("'"):
        return value[1:-1].strip()
    if value.startswith('"'):
        try:
            decoded = json.loads(value, strict=False)
        except ValueError:
            return value[1:-1].strip()
        # "\frac" without its second backslash decodes to a form feed.
        return value[1:-1].strip() if re.search(r"[\b\f\t\r]", decoded) else str(decoded).strip()
    return "" if value in ("null", "None") else value.strip()
