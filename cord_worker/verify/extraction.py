"""Extracts the final answers of a text, and how it presents each; docs/final-answers.md has the rules."""

from __future__ import annotations

import re
from dataclasses import replace

from cord_worker.verify import sentences
from cord_worker.verify.announced import announced_statements
from cord_worker.verify.boxes import last_boxed
from cord_worker.verify.cleanup import after_thinking, plain
from cord_worker.verify.corrections import (
    Standing,
    confirmed_value,
    confirms,
    correction_start,
    is_soft_correction,
    retracts,
    sentence_parts,
)
from cord_worker.verify.sentences import is_filler, stated_readings
from cord_worker.verify.statements import GUESSED, Statement
from cord_worker.verify.unannounced import opening_statement, unannounced_statements

__all__ = ["final_answers", "last_boxed", "statements"]

_BLANK_RUN = re.compile(r"\s{3,}")
_NEXT_TASK = re.compile(
    r"\n(?:#{1,4} )?(?:Question|Q|Problem|Exercise|Human|User|Input|Instruction|Task|Frage|Pregunta|Domanda|"
    r"Вопрос|Задача|问题|題目|题目|問題|문제)"
    r"(?: ?#?\d{1,3})?\s?[:.]\s"
)
_NUMBER = re.compile(r"[-\d.,/$\\{}a-z ]{1,40}")
_TAG_DEPTH = 1
"""Deepest nesting of answer tags that is read."""
_NAMES_A_VALUE = re.compile(r"\d|\$|\\[a-z]|(?<![^\W_])[A-J](?=\W*$)")
_VALUE = re.compile(r"\d|[$\\]|^\W*[A-J]\W*$")


def final_answers(text: str) -> list[str]:
    """The readings of the last final answer that `text` states, the likeliest first; empty if it states none."""
    found = [statement for statement in statements(text) if statement.standing is Standing.STATED]
    return list(found[-1].readings) if found else []


def statements(text: str) -> list[Statement]:
    """Every final answer that `text` states, denies or leaves open, in order. If it announces none, one sentence that
    gives an answer is enough. Takes time linear in the length of the text."""
    # Long runs of blanks would cost the patterns below quadratic time.
    text = _BLANK_RUN.sub(lambda run: "\n\n" if "\n" in run[0] else " ", text)
    answer = after_thinking(text)
    if answer is None:
        return []
    return _statements(plain(answer), depth=0)


def _statements(text: str, depth: int) -> list[Statement]:
    if not text:
        return []
    spans = sentences.sentences(text)
    found = announced_statements(text, spans, lambda inner: _statements(inner, depth + 1) if depth < _TAG_DEPTH else [])
    following = _NEXT_TASK.search(
        text, min((one.end for one in found if one.standing is Standing.STATED), default=len(text))
    )
    if following is not None:
        # The model was not stopped in time, and continued with a task that it invented.
        return _statements(text[: following.start()].rstrip(), depth)
    first = opening_statement(text, found)
    if not any(statement.standing is Standing.STATED for statement in found):
        found += unannounced_statements(text, spans, found)
    if first is not None:
        found = _with_opening(first, found)
    return _with_corrections(text, spans, found)


def _with_opening(first: Statement, found: list[Statement]) -> list[Statement]:
    """Adds `first`, a bare answer in the first line. If reasons follow it, guessed statements are dropped. Otherwise it
    is added only if nothing is announced, and only if it is a number or nothing else was found."""
    if first.strength > GUESSED:
        announced_ones = [statement for statement in found if statement.strength > GUESSED]
        return [first, *announced_ones]
    if any(statement.strength > GUESSED for statement in found):
        return found
    return [first, *found] if _NUMBER.fullmatch(first.readings[0]) or not found else found


def _with_corrections(text: str, spans: list[sentences.Sentence], found: list[Statement]) -> list[Statement]:
    """Marks what a correction takes back, and adds the answer that the correction gives without announcing it."""
    result: list[Statement] = []
    for statement in found:
        if result and correction_start(text, max(0, result[-1].end - 1), statement.end) is not None:
            statement = replace(statement, corrects=True)
        result.append(statement)
    last = next((s for s in reversed(result) if s.standing is Standing.STATED), None)
    if last is None or any(s.start > last.start and s.standing is Standing.STATED for s in result):
        return result
    at = correction_start(text, max(0, last.end - 1), len(text))
    if at is None:
        return result
    tail = text[at:]
    later = [span for span in spans if span.end > at + 1]
    trimmed = [sentences.Sentence(max(span.start, at), span.end) for span in later]
    if (value := confirmed_value(tail)) is not None and value not in last.readings:
        return [*result, Statement((value,), last.strength, at, len(text), corrects=True)]
    if confirms(tail) and not retracts(tail):
        return result
    if is_soft_correction(tail) and not _NAMES_A_VALUE.search(tail):
        return result
    index = result.index(last)
    new = _corrected_answer(text, trimmed, words=retracts(tail))
    if new is not None:
        return [*result, replace(new, corrects=True, strength=last.strength)]
    result[index] = replace(last, standing=Standing.DENIED if retracts(tail) else Standing.OPEN)
    return result


def _corrected_answer(text: str, spans: list[sentences.Sentence], *, words: bool) -> Statement | None:
    """The answer that the sentences of a correction state; with `words`, it may also be a single word."""
    for span in reversed(spans[-12:]):
        sentence = text[span.start : span.end].strip()
        for part in sentence_parts(sentence):
            readings = [] if is_filler(part) else stated_readings(part)
            readings = [
                reading for reading in readings if _VALUE.search(reading) or (words and re.fullmatch(r"\w+", reading))
            ]
            if readings and not re.fullmatch(
                r"(?:yes|no|nope|wait|true|false|correct|incorrect|nein|non|não|нет|nie)", readings[0], re.IGNORECASE
            ):
                return Statement(tuple(readings), GUESSED, span.start, span.end)
    return None
