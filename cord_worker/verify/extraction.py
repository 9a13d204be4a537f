"""The final answers that a generated text states, and how sure it is of each; the rules are in docs/final-answers.md."""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, replace

from cord_worker.verify import sentences
from cord_worker.verify.boxes import Box, boxes, last_boxed, without_boxes
from cord_worker.verify.cleanup import after_thinking, plain
from cord_worker.verify.corrections import Standing, confirms, cue, flatly, soft, standing
from cord_worker.verify.markers import FINAL, SAID, TAGGED, Marker, markers
from cord_worker.verify.sentences import is_bare, is_filler, stated, without_lead, without_stop

__all__ = ["Statement", "final_answers", "last_boxed", "statements"]

GUESSED = 1
"""The strength of a sentence that states an answer without announcing one."""
OPENING = 2
"""The strength of a bare answer in the first line, with the reasons below it."""

_BLANK_RUN = re.compile(r"\s{3,}")
_MOST_TAGS = 20
_MOST = 200
"""Announcements and boxes, from the end, that are looked at."""
_REASON = re.compile(
    r",?\s(?:because|since|due to|given that|thanks to|whereas|which|where|so(?!\s(?:on|that|far|much|many))|"
    r"as(?!\s(?:well|much|many|long|far|soon|a|an)\b)|obtained|computed|found by|weil|denn|wobei|car|parce que|puisque|porque|ya que|perché|poiché|"
    r"потому что|так как|ponieważ|gdyż|karena|vì|omdat|çünkü)\s"
    r"|,?\s?(?:因为|因為|由于|由於|所以|因此|其中|理由是|なぜなら|왜냐하면)|,?\s(?:لأن|حيث|بسبب)|\s(?:क्योंकि)\s|\s\((?:since|because|as|not|see|from|i\.e\.|rounded|note)\b|\s[—–]\s",
    re.IGNORECASE,
)
_CONTRAST = re.compile(
    r"(?:,|;|\s[—–-]|\s\(|,?\sand|(?<=\d))\s?(?:not|nicht|pas|no|non|não|не|niet|inte|bukan|không phải)\s(?!solution|real)|"
    r",?\s(?:rather than|instead of|as opposed to|and not|statt|anstatt|plutôt que|en lugar de|invece di|em vez de|а не|zamiast)\s|,?(?:而不是|而非|ではなく)",
    re.IGNORECASE,
)
_NOT_BUT = re.compile(
    r"(?:not|nicht|pas|no|non|não|не)\s(?P<denied>[^,;.]{1,60}?),?\s(?:but(?:\srather)?|sondern|mais|sino|ma|mas|а)\s(?P<meant>.+)", re.IGNORECASE
)
_DENIAL = re.compile(
    r"(?:not|never|nicht|pas|non|não|не|nie|niet|bukan|không phải|definitely not|certainly not)\s(?P<denied>\S.*)"
    r"|(?P<denied2>.{1,80}?)\s?(?:가\s?|이\s?)?(?:아닙니다|아니다|ではありません|ではない|じゃない|नहीं है|değildir|değil|नहीं)",
    re.IGNORECASE,
)
_RESTATED = re.compile(
    r",?\s(?:i\.e\.|that is|that's|namely|in other words|which is|which equals|which gives|which simplifies to|or equivalently|equivalently|"
    r"das heißt|d\.h\.|c'est-à-dire|es decir|cioè|ou seja|то есть|czyli|即),?\s?",
    re.IGNORECASE,
)
_TWICE = re.compile(
    r"(?P<one>[^()]{1,200}?)(?:\s?\((?:or |i\.e\.,? |that is,? |which is |equivalently,? |also |= ?|≈ ?|about )?(?P<other>[^()]{1,200})\)|"
    r",?\s(?:or|oder|ou|o|или|或)\s(?:equivalently,? |approximately |about )?(?P<other2>[^()]{1,200}))"
)
_PROSE = re.compile(
    r"(?:obtained|found|given|computed|calculated|derived|determined|reached|not (?:clear|obvious|given)|based|clear|obvious|easy|simple|straightforward|"
    r"shown|written|stated|correct|right|wrong|incorrect|below|above|in the|what|whatever|how|why|that (?:we|the|there|it|he|she)|the same|a (?:bit|number|matter)|"
    r"supposed|expected|unique|unknown|ready|complete|consistent|verified|confirmed|therefore$|then$|going to|your|up to|important|to be|for (?:the|all|part)|"
    r"needed|required|as follows|the following|well|reasonable|still|just|only|now)\b",
    re.IGNORECASE,
)
_PREFIX = re.compile(
    r"(?:(?:is|are|exactly|precisely|simply|just|approximately|approx\.?|about|around|roughly|nearly|equal to|equals|therefore|thus|hence|namely|"
    r"option|choice|letter|the number|the value|the letter|ungefähr|etwa|genau|environ|aproximadamente|circa|примерно|sekitar|khoảng|"
    r"≈|~|\\approx|:|=)\s?){1,3}(?=\S)",
    re.IGNORECASE,
)
_LABELS = re.compile(r"(?:option|choice|letter)\s", re.IGNORECASE)
_SLIP = re.compile(
    r"(?:,|;|\s[—–-]|\.\.\.|…)\s?(?:no(?:,? wait)?,|no wait|wait(?:,? no)?,|sorry,?|actually,?|i mean|or rather|rather,|make that|correction:?|scratch that,?|"
    r"nein,|non,|нет,|não,|quatsch,)\s(?:it['’]s\s|it is\s|make that\s|i meant?\s|that['’]s\s)?(?=\S)",
    re.IGNORECASE,
)
"""A correction within a line: `40, no wait, 41`."""
_REMARK = re.compile(r"\((?:in|rounded|to|as|exact|approx|expressed|simplified|correct|for)\b[^()]{0,60}\)\s?", re.IGNORECASE)
_REVERSED = re.compile(
    r"(?:so|thus|hence|therefore)?,?\s?(?P<subject>[^.!?\n]{1,80}?)\s(?:is|are)\s(?P<not>not\s|n['’]t\s)?(?:therefore\s|thus\s|clearly\s|indeed\s)?"
    r"(?:(?:the|our|my)\s(?:final\s|correct\s|right\s|best\s|desired\s|required\s)*(?:answer|solution|choice|option)|(?P<bare>correct|right))"
    r"(?P<rest>\W.*)?$",
    re.IGNORECASE,
)
"""`41 is the answer`; `option B is correct` where the subject is a letter."""
_LETTER = re.compile(r"(?:option|choice|answer|statement)?\s?[(\[]?[A-J][)\]]?(?:\s?[:.,]\s?[^,]{1,40})?", re.IGNORECASE)
_DISPLAY = re.compile(
    r"\s*(?:\$\$(.+?)\$\$|\\\[(.+?)\\\]|(\\begin\{(\w{1,20}\*?)\}.+?\\end\{\4\}))\s?(?P<more>[^\n]{0,80})", re.DOTALL
)
_INLINE_END = re.compile(r"\s*(?:\\\(|\$)\s?\n")
_ITEM = re.compile(r"[-*•+]\s|\d{1,2}[.)]\s|\([a-z]\)\s")
_TAG = re.compile(
    r"<(answer|final_answer|final|finalanswer|ans|result)>(?P<inner>(?:(?!<\1>).)*?)(?:</\1>|$)"
    r"|\[(ANSWER|FINAL_ANSWER|FINAL ANSWER)\](?P<inner2>.*?)(?:\[/\3\]|$)",
    re.DOTALL | re.IGNORECASE,
)
_JSON = re.compile(
    r"[\"'](?:final[_ ]?answer|answer|correct[_ ]?answer|result)[\"']\s?:\s?(?P<value>\"(?:[^\"\\\n]|\\.){0,2000}\"|'(?:[^'\\\n]|\\.){0,2000}'"
    r"|\[[^\[\]\n]{0,500}\]|[^\s,}\"'\[]{1,60})",
    re.IGNORECASE,
)
_EXPLAINS = re.compile(
    r"(?:explanation|reason(?:ing)?|because|justification|proof|why|solution|steps?|working|work|details|here|this is|to see|we |let|since|erklärung|begründung|"
    r"explication|explicación|spiegazione|explicação|объяснение|решение|解释|解析|理由|解説|설명|풀이|شرح|व्याख्या)",
    re.IGNORECASE,
)
_MASKED = re.compile(r"\\(?:text|mathrm|textbf|mathbf|textit|mbox)\s?\{([^{}]*)\}")
_WORDS_ONLY = re.compile(r"(?:[^\W\d_]|[\s'’.()-]){3,60}")
_VALUE = re.compile(r"\d|[$\\]|^\W*[A-J]\W*$")
_SHORT_TEXT = 200


@dataclass(frozen=True, slots=True)
class Statement:
    """One place that states a final answer.

    Attributes:
        readings: what it says; several are ways to read one place, the likeliest first.
        strength: how plainly it is announced (`markers`).
        start, end: its place in the cleaned text.
        standing: whether the text stands to it.
        corrects: it takes back every answer before it.
        loose: that it differs from the reference does not make it wrong: it may be no answer.
    whole: the words of a denial, which may be the answer themselves ("cannot be determined").
    """

    readings: tuple[str, ...]
    strength: int
    start: int
    end: int
    standing: Standing = Standing.STATED
    corrects: bool = False
    loose: bool = False
    whole: str | None = None


def final_answers(text: str) -> list[str]:
    """What `text` gives as its final answer, the likeliest first; several readings of one place, or none."""
    found = [statement for statement in statements(text) if statement.standing is Standing.STATED]
    return list(found[-1].readings) if found else []


def statements(text: str) -> list[Statement]:
    """Every final answer that `text` states, denies or asks, in order; the answer of a single sentence only where it
    announces none. Takes time linear in the text's length."""
    # Long blank runs would cost the patterns below quadratic time.
    text = _BLANK_RUN.sub(lambda run: "\n\n" if "\n" in run[0] else " ", text)
    answer = after_thinking(text)
    if answer is None:
        return []
    return _statements(plain(answer), depth=0)


def _statements(text: str, depth: int) -> list[Statement]:
    if not text:
        return []
    spans = sentences.sentences(text)
    found = _announced(text, spans, depth)
    opening = _opening(text, found)
    if opening is not None:
        found.insert(0, opening)
    if not any(statement.standing is Standing.STATED for statement in found):
        found += _unannounced(text, spans, found)
        return found
    return _with_corrections(text, spans, found)


# Announced answers


def _announced(text: str, spans: list[sentences.Sentence], depth: int) -> list[Statement]:
    tagged = list(_tagged(text, depth))
    found_boxes = boxes(text)[-_MOST:]
    found_markers = markers(text)[-_MOST:]
    found: list[Statement] = list(tagged)
    taken: set[int] = set()
    place = _Places(spans)
    for index, marker in enumerate(found_markers):
        limit = found_markers[index + 1].start if index + 1 < len(found_markers) else len(text)
        if any(other.start <= marker.start < other.end for other in (*tagged, *found_boxes)):
            continue
        if index + 1 < len(found_markers) and _only_leads_to(text[marker.end : limit]):
            found_markers[index + 1] = _stronger(found_markers[index + 1], marker)
            continue
        inner = [box for box in found_boxes if marker.start <= box.start < _reach(text, marker, limit)]
        statement = _of_marker(text, marker, limit, inner, place)
        if statement is not None:
            found.append(statement)
            taken.update(box.start for box in inner)
    for box in found_boxes:
        if box.start not in taken and not any(other.start <= box.start < other.end for other in tagged):
            found.append(_of_box(text, box, place))
    found += _reversed(text, spans, found)
    found.sort(key=lambda statement: statement.start)
    return found


def _reversed(text: str, spans: list[sentences.Sentence], found: list[Statement]) -> list[Statement]:
    """`41 is the answer.`"""
    taken = [(statement.start, statement.end) for statement in found]
    new = []
    for span in spans[-_MOST:]:
        sentence = without_stop(text[span.start : min(span.end, span.start + 300)])
        if "answer" not in sentence and "correct" not in sentence and "right" not in sentence:
            continue
        match = _REVERSED.match(without_lead(sentence))
        if match is None or any(start < span.end and span.start < end for start, end in taken):
            continue
        subject = match["subject"].strip()
        if (match["bare"] and not _LETTER.fullmatch(subject)) or not is_bare(subject) or len(subject.split()) > 4:
            continue
        if re.fullmatch(r"(?:this|that|it|which|what|here|the (?:result|value|answer))", subject, re.IGNORECASE):
            continue
        before = Standing.DENIED if match["not"] else Standing.STATED
        new.append(Statement(tuple(_variants(subject)), SAID, span.start, span.end, before))
    return new


def _only_leads_to(between: str) -> bool:
    """Whether nothing but white space or a few leading words stands between two announcements."""
    return len(between) <= 60 and not without_lead(between.strip(" \n\t*:\"'$,-")).strip(" \n\t*:\"',.") 


def _stronger(marker: Marker, other: Marker) -> Marker:
    return replace(
        marker,
        strength=max(marker.strength, other.strength),
        corrects=marker.corrects or other.corrects,
        negation=marker.negation,
    )


def _reach(text: str, marker: Marker, limit: int) -> int:
    """Up to where a box is the announcement's own: its line; the text to the end where it is a heading."""
    if marker.heading:
        return limit
    line_end = text.find("\n", marker.end)
    end = len(text) if line_end < 0 else line_end
    if _DISPLAY.match(text, marker.end) or _INLINE_END.match(text, marker.end):
        end = min(limit, marker.end + 400)
    return min(end, limit)


class _Places:
    """Finds the sentence of a position."""

    def __init__(self, spans: list[sentences.Sentence]) -> None:
        self._spans = spans
        self._starts = [span.start for span in spans]

    def around(self, at: int) -> tuple[sentences.Sentence, sentences.Sentence | None]:
        """The sentence at a position, and the next one."""
        index = max(0, bisect_right(self._starts, at) - 1)
        following = self._spans[index + 1] if index + 1 < len(self._spans) else None
        return self._spans[index], following


def _of_marker(text: str, marker: Marker, limit: int, inner: list[Box], place: _Places) -> Statement | None:
    region = text[marker.end : limit]
    if inner:
        readings = _boxed_readings(text, marker, inner)
        end = inner[-1].end
        rest_at = inner[-1].end
    else:
        readings, length = _following(region, heading=marker.heading)
        end = marker.end + length
        rest_at = marker.end + (region.find(readings[0]) + len(readings[0]) if readings and readings[0] in region else length)
    if not readings:
        return None
    first, _ = place.around(marker.start)
    last, following = place.around(max(marker.start, end - 1))
    found = _standing(text, first, last, (marker.start, end, rest_at), marked=True)
    if found is Standing.OPEN and following is not None and flatly(text[following.start : following.start + 40]):
        found = Standing.DENIED
    if marker.negated:
        if meant := _NOT_BUT.fullmatch(f"not {readings[-1]}"):
            readings = _variants(meant["meant"])
        else:
            words = re.sub(r"^(?:(?:is|are|was|es|ist|est|è|é)\s|n['’]est\s)", "", text[marker.negation : marker.end].strip(), flags=re.IGNORECASE)
            whole = without_stop(f"{words} {without_stop(region[: end - marker.end])}")
            return Statement(tuple(readings), marker.strength, marker.start, end, Standing.DENIED, whole=whole)
    elif (meant := _NOT_BUT.fullmatch(readings[0])) and found is Standing.STATED:
        readings = _variants(meant["meant"])
    elif (denial := _DENIAL.fullmatch(readings[0])) and found is Standing.STATED:
        denied = denial["denied"] or denial["denied2"]
        denials = (readings[0], *_variants(denied))
        return Statement(denials, marker.strength, marker.start, end, Standing.DENIED, whole=readings[0])
    # "41!" is 41 with joy, or a factorial.
    loose = re.fullmatch(r"\d{1,6}!", readings[0]) is not None and "$" not in region[:end]
    return Statement(tuple(readings), marker.strength, marker.start, end, found, marker.corrects, loose)


def _boxed_readings(text: str, marker: Marker, inner: list[Box]) -> list[str]:
    """The last box's content, and the whole line with it, since a label may stand before the box."""
    box = inner[-1]
    readings = [*_inside(box.text)]
    line = text[marker.end : box.end]
    if "\n" not in line.strip() and len(line) < 200:
        whole = without_stop(without_boxes(line).strip(" \t\n:"))
        if whole and whole.strip("$ ") != box.text:
            readings.append(whole)
    return list(dict.fromkeys(readings))


def _inside(content: str) -> list[str]:
    """What a box, a tag or a JSON value holds: an answer, or a sentence that announces one."""
    words = _MASKED.sub(r" \1 ", content)
    if words != content or " " in content:
        for marker in markers(words)[-1:]:
            readings, _ = _following(words[marker.end :], heading=False)
            if readings and not marker.negated:
                return [*readings, content]
    return [content]


def _standing(
    text: str, first: sentences.Sentence, last: sentences.Sentence, places: tuple[int, int, int], *, marked: bool
) -> Standing:
    """How the text around an answer stands to it; `places` are where it starts and ends, and where its rest starts.

    Only so much of a long sentence is looked at that the time stays linear.
    """
    start, end, rest = places
    begin = max(first.start, start - 160)
    return standing(text[begin:start], text[begin : min(last.end, end + 400)], text[rest : min(last.end, rest + 200)], marked=marked)


def _of_box(text: str, box: Box, place: _Places) -> Statement:
    first, _ = place.around(box.start)
    last, following = place.around(max(box.start, box.end - 1))
    found = _standing(text, first, last, (box.start, box.end, box.end), marked=False)
    if found is Standing.OPEN and following is not None and flatly(text[following.start : following.start + 40]):
        found = Standing.DENIED
    return Statement(tuple(_inside(box.text)), SAID, box.start, box.end, found)


def _tagged(text: str, depth: int) -> Iterator[Statement]:
    """`<answer>…</answer>`, and the answer of a JSON object."""
    for match in list(_TAG.finditer(text))[-_MOST_TAGS:]:
        inner = (match["inner"] or match["inner2"] or "").strip()
        if not inner or depth > 1:
            continue
        found = _statements(inner, depth + 1)[-1:] or [Statement((inner,), TAGGED, 0, 0)]
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


# What follows an announcement


def _following(region: str, *, heading: bool) -> tuple[list[str], int]:
    """The readings of what follows an announcement, and how many characters of `region` they take."""
    skipped = len(region) - len(region.lstrip(" \t\r\n:*"))
    rest = region[skipped:]
    display = _DISPLAY.match(rest)
    if display:
        content = next(group for group in (display[1], display[2], display[3]) if group).strip()
        more = without_stop(display["more"])
        readings = [content] if not more or not re.match(r"[^\W\d_]+$", more) else [content, f"{content} {more}"]
        return [*readings, *_right_sides(content)], skipped + display.end()
    if heading and "\n" in region[:skipped]:
        return _below(rest, skipped)
    line = rest.partition("\n")[0]
    if line.strip() in ("$", "\\(", "$$"):
        line = rest[:200].partition("\n\n")[0].replace("\n", " ")
    return _line_readings(line, skipped)


def _below(rest: str, skipped: int) -> tuple[list[str], int]:
    """Below a heading: a list's items are one answer; else its first line is, or the sentence that ends its paragraph."""
    paragraph = rest.partition("\n\n")[0]
    lines = [line.strip() for line in paragraph.splitlines() if line.strip()]
    if not lines:
        return [], skipped
    if len(lines) > 1 and (all(_ITEM.match(line) for line in lines) or all(is_bare(line) and not line.endswith(":") for line in lines)):
        items = [without_stop(_ITEM.sub("", line, count=1) if _ITEM.match(line) else line) for line in lines]
        return [", ".join(items)], skipped + len(paragraph)
    first = lines[0]
    if _ITEM.match(first):
        every = [line.strip() for line in rest[:2000].splitlines() if line.strip()]
        items = [without_stop(_ITEM.sub("", line, count=1)) for line in every if _ITEM.match(line)]
        if len(items) > 1:
            return [", ".join(items)], skipped + len(paragraph)
    if is_bare(first) or len(lines) == 1:
        line = rest.partition("\n")[0]
        readings, length = _line_readings(line, skipped)
        if not is_bare(first):
            spans = sentences.sentences(first)
            said = [reading for span in spans[-1:] for reading in stated(first[span.start : span.end])]
            whole = [reading for span in spans[:1] for reading in stated(first[span.start : span.end])]
            readings = list(dict.fromkeys([*(whole or said), *readings]))
        return readings, length
    for span in reversed(sentences.sentences(paragraph)):
        readings = stated(paragraph[span.start : span.end])
        if readings:
            return readings, skipped + span.end
    return _line_readings(first, skipped)


def _line_readings(line: str, skipped: int) -> tuple[list[str], int]:
    spans = sentences.sentences(line, items=False)
    if not spans:
        return [], skipped
    sentence = line[: spans[0].end]
    if spans[0].end - spans[0].start <= 2 and len(spans) > 1 and not re.search(r"[\w$\\]", sentence):
        sentence = line[: spans[1].end]
    clean = without_stop(sentence.strip().strip("\"“”"))
    if _PROSE.match(clean) and not _LABELS.match(clean):
        restated = _RESTATED.split(clean)
        if len(restated) > 1 and (is_bare(restated[-1]) or stated(restated[-1])):
            return _variants(restated[-1]), skipped + len(sentence)
        readings = stated(clean) if re.match(r"(?:obtained|found|given|computed|calculated|derived|determined|the same)", clean) else []
        return readings, skipped + len(sentence)
    if slip := list(_SLIP.finditer(line)):
        meant = line[slip[-1].end() :]
        readings = stated(meant) or _variants(meant)
        return readings, skipped + len(line)
    if remark := _REMARK.match(sentence):
        sentence = sentence[remark.end() :]
    readings = _variants(sentence)
    if without_lead(clean) != clean or not is_bare(clean):
        readings = list(dict.fromkeys([*stated(clean), *readings]))
    if len(spans) > 1 and (whole := without_stop(line)):
        readings += [whole] if not _CONTRAST.search(whole) and cue(line, spans[1].start - 1, len(line)) is None else []
    return list(dict.fromkeys(readings)), skipped + len(sentence)


def _variants(sentence: str) -> list[str]:
    """The ways to read what a sentence gives as the answer: without its reason, its contrast, its copula, its "in total"."""
    whole = without_stop(sentence.strip().strip("\"“”"))
    clause = _CONTRAST.split(whole, maxsplit=1)[0] if _CONTRAST.search(whole, 1) else whole
    clause = _REASON.split(clause, maxsplit=1)[0]
    parts = [without_stop(clause.rstrip(",; "))]
    if clause == whole or _CONTRAST.search(whole) is None:
        parts.append(whole)
    restated = _RESTATED.split(whole)
    if len(restated) == 2 and is_bare(restated[1]):
        parts.append(without_stop(restated[1]))
    for part in list(parts):
        shorter = sentences.without_copula(part)
        if affirmed := sentences.affirmed(shorter):
            parts.append(affirmed)
        parts += [shorter, *sentences.without_tail(shorter), *_right_sides(shorter)]
        if (prefix := _PREFIX.match(shorter)) and prefix.end() < len(shorter):
            parts.append(shorter[prefix.end() :].strip())
    return list(dict.fromkeys(part for part in parts if part and part.strip("$ ")))


def restated(reading: str) -> tuple[str, ...]:
    """The two forms that a reading gives of one value, as `3/8 or 0.375` and `41 (forty-one)`; none where it gives one."""
    match = _TWICE.fullmatch(reading)
    return (match["one"].strip(), (match["other"] or match["other2"]).strip()) if match else ()


def _right_sides(text: str) -> list[str]:
    """What stands behind `Total cost =` and `Total:`, names of words only; an equation is left to the comparison."""
    left, mark, right = text.partition("=")
    if not mark:
        left, mark, right = text.partition(":")
    name = _MASKED.sub(r"\1", left).strip(" $")
    right = right.strip(" $")
    if mark and right and "=" not in right and _WORDS_ONLY.fullmatch(name) and re.search(r"[^\W\d_]{3}", name):
        return [right]
    return []


# Answers without an announcement


def _opening(text: str, found: list[Statement]) -> Statement | None:
    """A bare answer in the first line or sentence, where the rest explains it."""
    first, _, rest = text.partition("\n")
    rest = rest.strip()
    if not rest or not is_bare(first) or first.rstrip().endswith(":") or (found and found[0].start < len(first)):
        return None
    if not re.search(r"[\w$\\]", first) or first.lstrip().startswith(("- ", "* ", "1.", "1)")):
        return None
    explained = _EXPLAINS.match(rest) is not None
    if not explained and not re.search(r"\d|\\[a-z]|^\W*[A-J]\W*$", first) and sentences.affirmed(first.strip()) is None:
        return None  # a heading
    readings = tuple(_variants(without_lead(first.strip())))
    return Statement(readings, OPENING if explained else GUESSED, 0, len(first)) if readings else None


def _unannounced(text: str, spans: list[sentences.Sentence], found: list[Statement]) -> list[Statement]:
    """The answer of the last sentence that is no mere closing; of the first one where it is bare."""
    if found and any(statement.standing is Standing.DENIED for statement in found):
        last = found[-1]
        later = [span for span in spans if span.start >= last.end]
        return [replace(s, corrects=True) for s in _last_sentence(text, later, _values_of_display(text, last.end))]
    whole = text.strip()
    result = _last_sentence(text, spans, _values_of_display(text, 0))
    if len(whole) <= _SHORT_TEXT and "\n" not in whole and not found:
        if not result:
            return [Statement((without_stop(whole), whole), GUESSED, 0, len(text), loose=True)]
        extra = tuple(reading for reading in (without_stop(whole),) if reading not in result[-1].readings)
        result[-1] = replace(result[-1], readings=result[-1].readings + extra)
    if found and result:
        return []  # It was asked or supposed, and never said.
    return _with_corrections(text, spans, result) if result else result


def _values_of_display(text: str, start: int) -> list[Statement]:
    """A formula of its own that ends the text."""
    found = []
    for match in re.finditer(r"\$\$([^$]{1,400})\$\$|\\\[((?:(?!\\\]).){1,400})\\\]", text[start:], re.DOTALL):
        found.append((match.start() + start, match.end() + start, (match[1] or match[2]).strip()))
    if not found or re.search(r"\w", text[found[-1][1] :]):
        return []
    begin, end, content = found[-1]
    return [Statement(tuple(dict.fromkeys([content, *_right_sides(content)])), GUESSED, begin, end)]


def _last_sentence(text: str, spans: list[sentences.Sentence], display: list[Statement]) -> list[Statement]:
    if display:
        return display
    found: list[Statement] = []
    for span in reversed(spans[-12:]):
        sentence = text[span.start : span.end].strip()
        if is_filler(sentence) or not sentence:
            continue
        readings = list(dict.fromkeys(variant for reading in stated(sentence) for variant in [reading, *_right_sides(reading)]))
        if readings:
            found = [Statement(tuple(readings), GUESSED, span.start, span.end)]
        break
    return found


# Corrections


def _with_corrections(text: str, spans: list[sentences.Sentence], found: list[Statement]) -> list[Statement]:
    """Marks what a correction takes back, and adds the answer that it gives without announcing it."""
    result: list[Statement] = []
    for statement in found:
        if result and cue(text, max(0, result[-1].end - 1), statement.end) is not None:
            statement = replace(statement, corrects=True)
        result.append(statement)
    last = next((s for s in reversed(result) if s.standing is Standing.STATED), None)
    if last is None or any(s.start > last.start and s.standing is Standing.STATED for s in result):
        return result
    at = cue(text, max(0, last.end - 1), len(text))
    if at is None:
        return result
    tail = text[at:]
    later = [span for span in spans if span.end > at + 1]
    trimmed = [sentences.Sentence(max(span.start, at), span.end) for span in later]
    if confirms(tail) and not flatly(tail):
        return result
    if soft(tail) and not re.search(r"\d|\$|\\[a-z]", tail):
        return result
    index = result.index(last)
    new = _corrected(text, trimmed, words=flatly(tail))
    if new is not None:
        return [*result, replace(new, corrects=True, strength=last.strength)]
    result[index] = replace(last, standing=Standing.DENIED if flatly(tail) else Standing.OPEN)
    return result


def _corrected(text: str, spans: list[sentences.Sentence], *, words: bool) -> Statement | None:
    for span in reversed(spans[-12:]):
        sentence = text[span.start : span.end].strip()
        for part in (sentence, re.sub(r"^[^,;:]{1,60}[,;:]\s", "", sentence)):
            readings = [] if is_filler(part) else stated(part)
            readings = [reading for reading in readings if _VALUE.search(reading) or (words and re.fullmatch(r"\w+", reading))]
            if readings and not re.fullmatch(r"(?:yes|no|nope|wait|true|false|correct|incorrect|nein|non|não|нет|nie)", readings[0], re.IGNORECASE):
                return Statement(tuple(readings), GUESSED, span.start, span.end)
    return None
