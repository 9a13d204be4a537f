"""Compares a generated answer with the reference, in this process and without a time limit.

Both texts are brought to one form (`writing_systems`), the final answers are extracted from the generated one
(`extraction`), each is compared with the reference (`same_answer`), and the results are combined. The last answer
counts. But if an earlier answer differs from it, is stated as plainly, and was not taken back, the result is undecided.
See docs/final-answers.md.
"""

from __future__ import annotations

import re
from dataclasses import replace

from cord_worker.verify.check_result import CheckResult
from cord_worker.verify.choices import choice_of, label_text
from cord_worker.verify.corrections import Standing
from cord_worker.verify.extraction import statements
from cord_worker.verify.markers import SAID
from cord_worker.verify.normalise import choice, exact_key
from cord_worker.verify.readings import two_forms
from cord_worker.verify.rule import Method, Rule
from cord_worker.verify.same_answer import Comparison, same_answer
from cord_worker.verify.sentences import is_sentence
from cord_worker.verify.solutions import answer_of_solution
from cord_worker.verify.statements import OPENING, Statement
from cord_worker.verify.writing_systems import one_form

_COMMAND = re.compile(r"\\[a-zA-Z]+")
_WORD = re.compile(r"[^\W\d_]{2,}")
_GIVEN_VALUE = re.compile(r"(?:^|[,;$(]|\b(?:and|or)|\\text\{ ?(?:and|or) ?\})\s?\$?\s?[a-zA-Z](?:_\{?\w\}?)?\s?=(?!=)")
_EITHER = re.compile(r"\d\S*\s(?:or|and|to|oder|ou|o|или|或)\s(?:about\s)?[$€£]?-?\d")
_SEVERAL = re.compile(r"[,;{}\n]|\\pm|±|\b(?:and|or)\b|\\(?:cup|text)|=")
_JOINTS = re.compile(r"\b(?:and|or)\b", re.IGNORECASE)
_EQUATED = re.compile(r"(?<![\w\\])([a-zA-Z](?:_\{?\w\}?)?)\s?=")
_ABOUT = re.compile(r"\d\s?-?ish\b", re.IGNORECASE)
_ORDINAL = re.compile(r"\$?\d+\$?\s?(?:\^?\{?(?:\\text\{)?)?(?:st|nd|rd|th)\}{0,2}")
_FEW_WORDS = 2
_MOST_RIVALS = 6
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


_BY_MATH = Rule()


def compare(
    generated_answer: str, reference: str, rule: Rule = _BY_MATH, *, question: str | None = None
) -> CheckResult:
    """The result on `generated_answer`; may take very long on hostile input (see `AnswerChecker`).

    If `rule.ordered` is None, `question` decides whether the order of a list counts.
    """
    generated_answer, reference = one_form(_printable(generated_answer)), one_form(_printable(reference))
    # A reference is usually an answer, but may be a worked solution.
    expected = answer_of_solution(reference) or reference.strip()
    key = exact_key(expected)
    if not key:
        return CheckResult(None, "unsupported", None, "the reference is empty")
    if len(generated_answer) <= 2 * len(expected) + 400 and _says_only(generated_answer, expected, key):
        whole = generated_answer.strip()
        return CheckResult(True, "exact", whole, "the whole text is the reference", readings=(whole,))
    comparer = _Comparer(expected, rule, question)
    found = statements(generated_answer)
    if rule.method == Method.CHOICE and choice_of(expected) is not None:
        found = _choosing_statements(generated_answer, found)
    return comparer.compare(found)


class _Comparer:
    """Compares the statements of one text with one reference, and with each other."""

    def __init__(self, expected: str, rule: Rule, question: str | None) -> None:
        self._expected = expected
        self._rule = rule
        self._question = question
        self._type: str | None = None

    def compare(self, found: list[Statement]) -> CheckResult:
        """The result of a text whose statements are `found`."""
        stated = [statement for statement in found if statement.standing is Standing.STATED]
        if not stated:
            return self._without_answer(found)
        final, rivals = self._final(self._statements_like_reference(stated))
        readings = (*final.readings, *(reading for rival in rivals for reading in rival.readings))
        equal, comparison, reading = self._compare_readings(final)
        if not rivals:
            method = comparison.method if equal is not None else "undecided"
            return CheckResult(equal, method, reading, comparison.why, self._type, readings)
        others = [self._compare_readings(rival)[0] for rival in rivals]
        if equal is False and all(other is False for other in others):
            return CheckResult(False, "unequal", reading, comparison.why, self._type, readings)
        why = f"two final answers contradict each other: {_short(rivals[0])} and {_short(final)}"
        return CheckResult(None, "undecided", reading, why, self._type, readings)

    def _without_answer(self, found: list[Statement]) -> CheckResult:
        """The result if nothing is stated: right if a denial is itself the reference ("cannot be determined"), wrong if
        the text denies the reference, otherwise undecided."""
        for statement in reversed(found):
            if statement.standing is not Standing.DENIED:
                continue
            if statement.whole is not None and exact_key(statement.whole) == exact_key(self._expected):
                return CheckResult(True, "exact", statement.whole, "the same text", "text", (statement.whole,))
            equal, comparison, reading = self._compare_readings(statement)
            if equal:
                why = "the text says that this is not the answer"
                return CheckResult(False, "unequal", reading, why, comparison.type, statement.readings)
        readings = tuple(reading for statement in found for reading in statement.readings)
        why = (
            "no final answer was found in the text" if not found else "the text names an answer, but does not state it"
        )
        return CheckResult(None, "undecided", None, why, self._type, readings)

    def _statements_like_reference(self, stated: list[Statement]) -> list[Statement]:
        """The statements that are letters if the reference is one, otherwise those that are not; all if none is
        of that kind.

        If the options of a question have values, a text may state both a letter and a value.
        """
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
        """The statement that counts, and earlier statements that contradict it and are at least as strong."""
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
            # The plain sentence after an announced answer is about something else.
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

    def _compare_readings(self, statement: Statement) -> tuple[bool | None, Comparison, str]:
        """True if any reading equals the reference; otherwise the result of the likeliest reading."""
        if (
            statement.loose
            and self._rule.method != Method.NUMERIC
            and (_is_prose(statement.readings[0]) or is_sentence(statement.readings[0]))
        ):
            return None, Comparison(None, "text", "undecided", "no final answer was found in the text"), ""
        first: Comparison | None = None
        for reading in statement.readings:
            comparison = self._same(reading)
            first = first or comparison
            if comparison.equal:
                return True, comparison, reading
            # An option's letter and text, or the same value twice, are alternatives: one match is enough.
            labelled = [self._same(part) for part in _label_parts(reading)]
            twice = [self._same(part) for part in two_forms(reading)]
            if any(part.equal for part in labelled) or (twice and all(part.equal for part in twice)):
                return True, next(part for part in (*labelled, *twice) if part.equal), reading
        assert first is not None  # Every statement has at least one reading.
        equal = None if statement.loose else first.equal
        return equal, first, statement.readings[0]

    def _same(self, reading: str) -> Comparison:
        comparison = same_answer(self._expected, reading, self._rule, question=self._question)
        self._type = comparison.type
        if comparison.equal and (why := _another_claim(self._expected, reading)) is not None:
            return Comparison(None, comparison.type, "undecided", why)
        if comparison.equal and self._rule.method == Method.NUMERIC and _EITHER.search(reading):
            return Comparison(False, comparison.type, "unequal", "several values")
        if (
            comparison.equal
            and _values_given(reading) > max(1, _values_given(self._expected))
            and _is_single(self._expected)
        ):
            return Comparison(False, comparison.type, "unequal", "several values")
        return comparison


def _says_only(text: str, expected: str, key: str) -> bool:
    """True if the whole text is the reference, up to notation; "and" is not "or". False if a part is struck through."""
    if exact_key(text) != key or "~~" in text:
        return False
    joints = [{joint.lower() for joint in _JOINTS.findall(one)} for one in (text, expected)]
    return joints[0] == joints[1] or not all(joints)


def _choosing_statements(text: str, found: list[Statement]) -> list[Statement]:
    """The statements for the method `choice`. If nothing is announced, the last line counts if it makes a choice,
    otherwise the first line, as in the conclusions of abstracts."""
    announced = [statement for statement in found if statement.strength > OPENING]
    if announced:
        return [replace(statement, readings=_choices_first(statement.readings)) for statement in announced]
    lines = text.strip().splitlines() or [""]
    for line in (lines[-1], lines[0]):
        sentence = re.split(r"(?<=[.!?。！？])\s*", line, maxsplit=1)[0]
        if choice_of(sentence) is not None:
            return [Statement((sentence,), SAID, 0, len(sentence))]
    return found


def _choices_first(readings: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(readings, key=lambda reading: choice_of(reading) is None))


def _another_claim(expected: str, reading: str) -> str | None:
    """Why a reading with the same values means something else: "or" for "and", "15ish" or "15th" for 15; or None."""
    joints = [{joint.lower() for joint in _JOINTS.findall(one)} for one in (expected, reading)]
    if all(joints) and not joints[0] & joints[1]:
        # The solutions x = 3 or x = 4 of an equation are 3 and 4.
        named = [set(_EQUATED.findall(one)) for one in (expected, reading)]
        if len(named[0] | named[1]) != 1:
            return 'one text says "and", the other "or"'
    if _ABOUT.search(reading) and not _ABOUT.search(expected):
        return "only about the value"
    if _ORDINAL.fullmatch(reading.strip(" $.")) and re.fullmatch(r"[\d,]+", expected.strip(" $.")):
        return "an ordinal, not a number"
    return None


def _is_letter(text: str) -> bool:
    return choice(text) is not None and re.search(r"(?<![^\W_])[A-J](?![^\W_])", text) is not None


def _label_parts(reading: str) -> tuple[str, ...]:
    """The letter and the text of `B) 41`; empty if the reading has another form."""
    letter, text = choice_of(reading), label_text(reading)
    return (letter, text) if letter is not None and text is not None and _is_letter(letter) else ()


def _values_given(text: str) -> int:
    """Number of variables to which a text gives a value: two in `x = 3 or x = 5`."""
    return len(_GIVEN_VALUE.findall(text))


def _is_single(text: str) -> bool:
    """True if a reference is one value, not a list, set, range or ± pair."""
    return _SEVERAL.search(text) is None


def _is_prose(text: str) -> bool:
    return len(_WORD.findall(_COMMAND.sub(" ", text))) > _FEW_WORDS


def _short(statement: Statement) -> str:
    return repr(statement.readings[0][:60])


def _printable(text: str) -> str:
    return _UNSTORABLE.sub("\ufffd", text)
