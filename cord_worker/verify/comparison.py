"""Comparing a generated answer with the reference, in this process and without a time limit.

Both texts are brought to one form (`scripts`), and the final answer is taken out of the generated one (`extraction`).
Then by method (`rule`), in this order:
- `math`: equal after normalisation, as an ordered list where there are commas, or the same multiple-choice letter
  ("exact"); the same value, by exact arithmetic for numbers, math-verify for other mathematics ("math");
- `exact`: equal after normalisation;
- `choice`: the same decision (`choices`), or the text behind the reference's label;
- `numeric`: a quantity within the tolerance (`quantities`).
Else it is incorrect. A reference that is no choice or no number is compared as `exact`.

Decided for `math`: a unit or a percent sign on one side only is passed over ("10 dollars" is 10), two units must be
the same. Numbers with a point must be equal to the last digit, but a fraction may be given rounded to six decimals or
more. Lists are ordered, sets in braces are not, and brackets of tuples and intervals must be the same.
"""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from fractions import Fraction
from typing import Any

from cord_worker.verify.choices import decided, label_text
from cord_worker.verify.corrections import Standing
from cord_worker.verify.extraction import statements
from cord_worker.verify.markers import SAID
from cord_worker.verify.normalise import (
    choice,
    exact_key,
    holds_words,
    is_decimal,
    number,
    plain_number,
    split_list,
)
from cord_worker.verify.readings import restated
from cord_worker.verify.rule import Method, Rule
from cord_worker.verify.same_answer import Comparison, same_answer
from cord_worker.verify.scripts import one_form
from cord_worker.verify.solutions import answer_of_solution
from cord_worker.verify.statements import OPENING, Statement
from cord_worker.verify.units import split_unit
from cord_worker.verify.verdict import Verdict

MATH_LIMIT = 2000
"""Characters of an answer up to which it is parsed as mathematics."""

_COMMAND = re.compile(r"\\[a-zA-Z]+")
_WORD = re.compile(r"[^\W\d_]{2,}")
_FEW_WORDS = 2
_MOST_RIVALS = 6
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_ASSIGNMENT = re.compile(r"[a-zA-Z](?:_\w|_\{\w+\})?(?:\([a-z]\))? ?(?:=|\\in(?![a-z])) ?([^=]+)")
_BRACKETED = re.compile(r"([\[(])(.*)([\])])")
_SET = re.compile(r"\\\{.*\\\}")
_BASED = re.compile(r"([0-9A-F]+)_\{?(\d+)\}?")
_PLACES = 6


_BY_MATH = Rule()


def compare(generated_answer: str, reference: str, rule: Rule = _BY_MATH, *, question: str | None = None) -> Verdict:
    """The verdict on `generated_answer`; may take very long on hostile input (see `AnswerChecker`).

    `question` says whether the order of a list counts, where `rule.ordered` leaves it open.
    """
    generated_answer, reference = one_form(_printable(generated_answer)), one_form(_printable(reference))
    # A reference is an answer, but may be a worked solution.
    expected = answer_of_solution(reference) or reference.strip()
    key = exact_key(expected)
    if not key:
        return Verdict(None, "unsupported", None, "the reference is empty")
    if len(generated_answer) <= 2 * len(expected) + 400 and exact_key(generated_answer) == key:
        whole = generated_answer.strip()
        return Verdict(True, "exact", whole, "the whole text is the reference", readings=(whole,))
    judge = _Judge(expected, rule, question)
    found = statements(generated_answer)
    if rule.method == Method.CHOICE and decided(expected) is not None:
        found = _deciding(generated_answer, found)
    return judge.verdict(found)


class _Judge:
    """Compares the statements of one text with one reference, and with each other."""

    def __init__(self, expected: str, rule: Rule, question: str | None) -> None:
        self._expected = expected
        self._rule = rule
        self._question = question
        self._type: str | None = None

    def verdict(self, found: list[Statement]) -> Verdict:
        stated = [statement for statement in found if statement.standing is Standing.STATED]
        if not stated:
            return self._without_answer(found)
        final, rivals = self._final(self._of_its_kind(stated))
        readings = (*final.readings, *(reading for rival in rivals for reading in rival.readings))
        equal, comparison, reading = self._compared(final)
        if not rivals:
            method = comparison.method if equal is not None else "undecided"
            return Verdict(equal, method, reading, comparison.why, self._type, readings)
        others = [self._compared(rival)[0] for rival in rivals]
        if equal is False and all(other is False for other in others):
            return Verdict(False, "unequal", reading, comparison.why, self._type, readings)
        why = f"two final answers contradict each other: {_short(rivals[0])} and {_short(final)}"
        return Verdict(None, "undecided", reading, why, self._type, readings)

    def _without_answer(self, found: list[Statement]) -> Verdict:
        for statement in reversed(found):
            if statement.standing is not Standing.DENIED:
                continue
            if statement.whole is not None and exact_key(statement.whole) == exact_key(self._expected):
                return Verdict(True, "exact", statement.whole, "the same text", "text", (statement.whole,))
            equal, comparison, reading = self._compared(statement)
            if equal:
                why = "the text says that this is not the answer"
                return Verdict(False, "unequal", reading, why, comparison.type, statement.readings)
        readings = tuple(reading for statement in found for reading in statement.readings)
        why = (
            "no final answer was found in the text" if not found else "the text names an answer, but does not state it"
        )
        return Verdict(None, "undecided", None, why, self._type, readings)

    def _of_its_kind(self, stated: list[Statement]) -> list[Statement]:
        """Where the options of a choice have values, a text may state its letter and its value: only those that are
        of the reference's kind count, if there are any."""
        letters = [any(_is_letter(reading) for reading in statement.readings) for statement in stated]
        wanted = _is_letter(self._expected)
        if all(letters) or not any(letters):
            return stated
        kept = [statement for statement, letter in zip(stated, letters, strict=True) if letter == wanted]
        if wanted:
            return kept
        strongest = max(statement.strength for statement in stated)
        return kept if max(statement.strength for statement in kept) >= min(strongest, SAID) else stated

    def _final(self, stated: list[Statement]) -> tuple[Statement, list[Statement]]:
        """The statement that counts, and those before it that contradict it and are no weaker."""
        final = stated[-1]
        rivals: list[Statement] = []
        seen = {final.readings}
        corrected = final.corrects
        for statement in reversed(stated[:-1]):
            if corrected:
                break
            corrected = statement.corrects
            if statement.readings in seen or len(seen) > _MOST_RIVALS:
                continue
            seen.add(statement.readings)
            if statement.strength >= final.strength and not self._agree(statement, final):
                rivals.insert(0, statement)
        if rivals and all(rival.strength > final.strength and final.strength <= OPENING for rival in rivals):
            # A mere sentence behind an announced answer says something else.
            return rivals[-1], rivals[:-1]
        return final, rivals

    def _agree(self, left: Statement, right: Statement) -> bool:
        if {exact_key(one) for one in left.readings} & {exact_key(other) for other in right.readings}:
            return True
        pairs = ((one, other) for one in left.readings[:2] for other in right.readings[:2])
        return any(
            same_answer(one, other, self._rule, question=self._question).equal
            or same_answer(other, one, self._rule, question=self._question).equal
            for one, other in pairs
        )

    def _compared(self, statement: Statement) -> tuple[bool | None, Comparison, str]:
        """Whether any reading equals the reference; else what the likeliest reading came to."""
        if statement.loose and self._rule.method != Method.NUMERIC and _is_prose(statement.readings[0]):
            return None, Comparison(None, "text", "undecided", "no final answer was found in the text"), ""
        first: Comparison | None = None
        for reading in statement.readings:
            comparison = self._same(reading)
            first = first or comparison
            if comparison.equal:
                return True, comparison, reading
            # Where an option's letter and text, or a value and the same value again, are given, either will do.
            labelled = [self._same(part) for part in _label_parts(reading)]
            twice = [self._same(part) for part in restated(reading)]
            if any(part.equal for part in labelled) or (twice and all(part.equal for part in twice)):
                return True, next(part for part in (*labelled, *twice) if part.equal), reading
        assert first is not None  # A statement has a reading.
        equal = None if statement.loose else first.equal
        return equal, first, statement.readings[0]

    def _same(self, reading: str) -> Comparison:
        comparison = same_answer(self._expected, reading, self._rule, question=self._question)
        self._type = comparison.type
        return comparison


def _deciding(text: str, found: list[Statement]) -> list[Statement]:
    """The statements that decide for a letter, or for yes, no or maybe. A text without one decides in its last line,
    or in its first as the conclusions of abstracts do."""
    announced = [statement for statement in found if statement.strength > OPENING]
    if announced:
        return [replace(statement, readings=_decided_first(statement.readings)) for statement in announced]
    lines = text.strip().splitlines() or [""]
    for line in (lines[-1], lines[0]):
        sentence = re.split(r"(?<=[.!?。！？])\s*", line, maxsplit=1)[0]
        if decided(sentence) is not None:
            return [Statement((sentence,), SAID, 0, len(sentence))]
    return found


def _decided_first(readings: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(readings, key=lambda reading: decided(reading) is None))


def _is_letter(text: str) -> bool:
    return choice(text) is not None and re.search(r"(?<![^\W_])[A-J](?![^\W_])", text) is not None


def _label_parts(reading: str) -> tuple[str, ...]:
    """The letter and the text of `B) 41`; none where it is no such option."""
    letter, text = decided(reading), label_text(reading)
    return (letter, text) if letter is not None and text is not None and _is_letter(letter) else ()


def _is_prose(text: str) -> bool:
    return len(_WORD.findall(_COMMAND.sub(" ", text))) > _FEW_WORDS


def _short(statement: Statement) -> str:
    return repr(statement.readings[0][:60])


def _printable(text: str) -> str:
    return _UNSTORABLE.sub("\ufffd", text)


def same_value(expected: str, given: str) -> bool:
    """Whether two tidied answers are mathematically the same."""
    expected, given = _without_assignment(expected, given)
    if _SET.fullmatch(expected) or r"\pm" in expected:
        # Sets have no order: a list given for one is read as one.
        if r"\pm" not in expected and not _SET.fullmatch(given):
            given = rf"\{{{given}\}}"
        return _same_math(expected, given)
    wanted, found = split_list(expected), split_list(given)
    wanted_bracket, found_bracket = _BRACKETED.fullmatch(expected), _BRACKETED.fullmatch(given)
    if len(wanted) > 1 and len(found) == 1 and found_bracket:
        found = split_list(found_bracket[2])
    if len(wanted) > 1 or len(found) > 1:
        return len(wanted) == len(found) and all(map(same_value, wanted, found))
    if wanted_bracket and found_bracket and "," in expected + given and _is_pair_of_brackets(expected, given):
        if (wanted_bracket[1], wanted_bracket[3]) != (found_bracket[1], found_bracket[3]):
            return False
        return same_value(wanted_bracket[2], found_bracket[2])
    return _same_quantity(expected, given)


def _is_pair_of_brackets(*texts: str) -> bool:
    """Whether the first bracket of each closes at its end: not so in (a+5)(b+2) and (0,9) \\cup (9,36)."""
    for text in texts:
        depth = 0
        for at, char in enumerate(text):
            depth += (char in "([") - (char in ")]")
            if depth == 0 and at < len(text) - 1:
                return False
    return True


def _without_assignment(expected: str, given: str) -> tuple[str, str]:
    """`x = 5` is 5 where the other side names no variable; `x = 5` is not `y = 5`."""
    left, right = _ASSIGNMENT.fullmatch(expected), _ASSIGNMENT.fullmatch(given)
    if left and not right and "=" not in given:
        return left[1], given
    if right and not left and "=" not in expected:
        return expected, right[1]
    return expected, given


def _same_quantity(expected: str, given: str) -> bool:
    if "=" in given and "=" not in expected and not re.search("[<>]=", given):
        # "AB = 5" and "3 + 4 = 7" end in the value
        given = given.rpartition("=")[2].strip()
    (wanted, wanted_unit), (found, found_unit) = split_unit(expected), split_unit(given)
    if wanted_unit and found_unit and wanted_unit != found_unit:
        return False
    wanted, found = plain_number(wanted), plain_number(found)
    if wanted == found:
        return True
    wanted_percent, found_percent = _percent(wanted), _percent(found)
    if wanted_percent or found_percent:
        bare = _same_number(wanted_percent or wanted, found_percent or found)
        if bare is not False or (wanted_percent and found_percent):
            return bool(bare)
        left, right = number(wanted_percent or wanted), number(found_percent or found)
        if left is None or right is None:
            return False
        return (left / 100 if wanted_percent else left) == (right / 100 if found_percent else right)
    same = _same_number(wanted, found)
    if same is not None:
        return same
    wanted_base, found_base = _BASED.fullmatch(wanted), _BASED.fullmatch(found)
    if wanted_base or found_base:
        digits = {(match[1] if match else text) for match, text in ((wanted_base, wanted), (found_base, found))}
        return len(digits) == 1 and not (wanted_base and found_base and wanted_base[2] != found_base[2])
    return _same_math(wanted, found)


def _percent(text: str) -> str | None:
    match = re.fullmatch(r"(.*\S) ?(?:%|percent)", text)
    return match[1].strip() if match else None


def _same_number(wanted: str, found: str) -> bool | None:
    """None where one of them is no plain number."""
    left, right = number(wanted), number(found)
    if left is None or right is None:
        return None
    if left == right:
        return True
    if is_decimal(wanted) == is_decimal(found):
        return False
    rounded, exact = (wanted, right) if is_decimal(wanted) else (found, left)
    places = len(rounded.partition(".")[2])
    return (
        exact.denominator != 1
        and "e" not in rounded.lower()
        and places >= _PLACES
        and abs(Fraction(rounded) - exact) <= Fraction(1, 2 * 10**places)
    )


def _same_math(expected: str, given: str) -> bool:
    if holds_words(expected) or holds_words(given):
        return False
    # Imported here: it takes two seconds, and only the checking process needs it.
    import math_verify

    logging.getLogger("math_verify").setLevel(logging.CRITICAL)
    config = [math_verify.LatexExtractionConfig()]

    def parsed(text: str) -> Any:
        # Its own limits rest on SIGALRM, which the process around us uses for its last resort.
        return math_verify.parse(
            f"${text.replace('$', '')}$",
            extraction_config=config,
            fallback_mode="no_fallback",
            parsing_timeout=None,
        )

    gold, target = parsed(expected), parsed(given)
    if not gold or not target:
        return False
    same = math_verify.verify(gold, target, allow_set_relation_comp=True, timeout_seconds=None)
    return same and _close(gold[0], target[0])


def _close(left: Any, right: Any) -> bool:
    """math-verify rounds to six decimals, which makes all small numbers equal: they must also agree relatively."""
    try:
        a, b = complex(left.evalf()), complex(right.evalf())
    except (TypeError, ValueError, AttributeError, OverflowError):
        return True
    return abs(a - b) <= 1e-5 * max(abs(a), abs(b)) or a == b
