"""Finds answers that a text states without announcing them: its bare first line, its last sentence."""

from __future__ import annotations

import re
from dataclasses import replace

from cord_worker.verify import sentences
from cord_worker.verify.corrections import Standing, correction_start, sentence_parts, value_called_wrong
from cord_worker.verify.markers import markers
from cord_worker.verify.readings import ITEM, answer_readings, before_contrast, right_sides
from cord_worker.verify.sentences import is_bare, is_filler, stated_readings, without_lead, without_stop
from cord_worker.verify.statements import GUESSED, OPENING, Statement

_EXPLAINS = re.compile(
    r"(?:explanation|reason(?:ing)?|because|justification|proof|why|solution|steps?|working|work|details|here|"
    r"this is|to see|we |let|since|erklärung|begründung|"
    r"explication|explicación|spiegazione|explicação|объяснение|решение|解释|解析|理由|解説|설명|풀이|شرح|व्याख्या)",
    re.IGNORECASE,
)
_DISPLAYS = re.compile(r"\$\$([^$]{1,400})\$\$|\\\[((?:(?!\\\]).){1,400})\\\]", re.DOTALL)
_BEFORE_FORMULA = re.compile(
    r"(?!.{0,60}\b(?:not|no|wrong|incorrect|if|question|problem|given|guess)\b)(?P<words>[A-Za-z][A-Za-z ]{1,60}):?\s?"
    r"(?:\$(?P<one>[^$]{1,600})\$|\\\((?P<two>(?:(?!\\\)).){1,600})\\\))\.?",
    re.DOTALL | re.IGNORECASE,
)
"""A few words, and a formula that ends the whole text."""
_EMPTY_TAG = re.compile(r"</?[a-z_]{1,20}>|\[/?ANSWER\]")
_LABELLED = re.compile(r"[(\[]?[A-J][)\].:]\s(?=\S)")
_EMPTY_ANSWER = re.compile(
    r"\\(?:boxed|fbox)\s?\{[^{}]*$|^\W*\\(?:boxed|fbox)\s?\{\s?\}\W*$|[\"']answer[\"']\s?:\s?(?:null|None|\"\"|'')"
)
_HAS_CONTENT = re.compile(r"\w|∅|∞|\\\{\s*\\\}")
_NUMBERED_PART = re.compile(
    r"\W*(?:step|case|chapter|page|part|section|problem|question|exercise|figure|table|equation|eq\.?|theorem|lemma|"
    r"note|appendix|schritt|fall|seite|kapitel|étape|cas|paso|caso|passo|шаг|случай|krok|stap)\s\(?\d{1,4}\)?\W*",
    re.IGNORECASE,
)
"""`Step 2:` names a part of a text."""
_SHORT_TEXT = 200
"""Longest text, in characters, that is read as one answer."""


def opening_statement(text: str, found: list[Statement]) -> Statement | None:
    """A bare answer in the first line or sentence, if the rest explains it."""
    first, _, rest = text.partition("\n")
    rest = rest.strip()
    if not rest or not is_bare(first) or first.rstrip().endswith(":") or (found and found[0].start < len(first)):
        return None
    if not re.search(r"[\w$\\]", first) or ITEM.match(first.lstrip()):
        return None
    explained = _EXPLAINS.match(rest) is not None
    if (
        not explained
        and not re.search(r"\d|\\[a-z]|^\W*[A-J]\W*$", first)
        and sentences.leading_affirmation(first.strip()) is None
    ):
        return None  # a heading
    readings = tuple(answer_readings(without_lead(first.strip())))
    return Statement(readings, OPENING if explained else GUESSED, 0, len(first)) if readings else None


def unannounced_statements(text: str, spans: list[sentences.Sentence], found: list[Statement]) -> list[Statement]:
    """The answer of the last sentence that does not only close the text, as at most one statement.

    `found` are the announced statements; if one is denied, only sentences after them are read.
    """
    if found and any(statement.standing is Standing.DENIED for statement in found):
        last = found[-1]
        later = [span for span in spans if span.start >= last.end]
        return [replace(s, corrects=True) for s in _last_sentence(text, later, _closing_formula(text, last.end))]
    whole = _EMPTY_TAG.sub("", text).strip()
    if not _HAS_CONTENT.search(whole) or _NUMBERED_PART.fullmatch(whole) or _announces_only(whole):
        return []
    if not found and "\n" not in whole and (value := value_called_wrong(whole)) is not None:
        return [Statement(tuple(answer_readings(value)), GUESSED, 0, len(text), Standing.DENIED)]
    if not found and "\n" not in whole and _LABELLED.match(whole) and len(whole) <= _SHORT_TEXT:
        return [Statement((whole,), GUESSED, 0, len(text))]
    result = _last_sentence(text, spans, _closing_formula(text, 0))
    unread = not result or result[0].readings[0] == without_stop(whole)
    if unread and not found and "\n" not in whole and (labelled := _BEFORE_FORMULA.fullmatch(whole)):
        formula = (labelled["one"] or labelled["two"]).strip()
        if not sentences.names_a_number(labelled["words"]):
            return [Statement((formula, without_stop(whole)), GUESSED, 0, len(text), loose=True)]
    if not (result or found) and len(whole) <= _SHORT_TEXT and "\n" not in whole:
        return [Statement((without_stop(whole), whole), GUESSED, 0, len(text), loose=True)]
    # A later sentence may state what was only asked or supposed, but the same words cannot do both.
    return [one for one in result if not any(other.start < one.end and one.start < other.end for other in found)]


def _closing_formula(text: str, start: int) -> list[Statement]:
    """The displayed formula that ends the text, as at most one statement."""
    formulas = list(_DISPLAYS.finditer(text, start))
    if not formulas or re.search(r"\w", text[formulas[-1].end() :]):
        return []
    last = formulas[-1]
    content = (last[1] or last[2]).strip()
    begin, end = last.span()
    return [Statement(tuple(dict.fromkeys([content, *right_sides(content)])), GUESSED, begin, end)]


def _last_sentence(text: str, spans: list[sentences.Sentence], display: list[Statement]) -> list[Statement]:
    """The answer at the end of the text: `display`, else the items of a list, else the last sentence that is no filler;
    at most one statement."""
    if display:
        return display
    found: list[Statement] = []
    if items := _items(text, spans):
        return items
    for span in reversed(spans[-12:]):
        sentence = _EMPTY_TAG.sub("", text[span.start : span.end]).strip()
        if is_filler(sentence) or not sentence or _announces_only(sentence):
            continue
        readings = list(
            dict.fromkeys(variant for reading in _readings_of(sentence) for variant in [reading, *right_sides(reading)])
        )
        if readings:
            found = [Statement(tuple(readings), GUESSED, span.start, span.end)]
        break
    return found


def _readings_of(sentence: str) -> list[str]:
    ways = sentence_parts(sentence)
    if (
        ways[0] != sentence
        and correction_start(sentence, 0, len(sentence)) == 0
        and sentences.leading_affirmation(sentence.strip()) is None
    ):
        return stated_readings(ways[0]) or stated_readings(sentence)
    if (meant := before_contrast(sentence)) is not None:
        return [meant, *stated_readings(sentence)]
    return stated_readings(sentence) or (stated_readings(ways[0]) if ways[0] != sentence else [])


def _announces_only(sentence: str) -> bool:
    """True if a sentence announces an answer but gives none: `Answer:`, `\\boxed{}`, `{"answer": null}`."""
    if _EMPTY_ANSWER.search(sentence):
        return True
    return any(sentence[marker.end :].strip(" \n:.*") == "" for marker in markers(sentence)[-1:])


def _items(text: str, spans: list[sentences.Sentence]) -> list[Statement]:
    """The items of a list at the end of the text, as one answer: `(a) 3` and, below it, `(b) 5` are its parts."""
    lines: list[str] = []
    for span in reversed(spans[-12:]):
        line = text[span.start : span.end].strip()
        item = ITEM.match(line)
        if item is None or not is_bare(line) or re.search(r"[:=]", line):
            break
        lines.insert(0, without_stop(line[item.end() :]))
    if len(lines) < 2:
        return []
    return [Statement((", ".join(lines),), GUESSED, spans[-len(lines)].start, spans[-1].end)]
