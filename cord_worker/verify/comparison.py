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
from fractions import Fraction
from typing import Any

from cord_worker.verify.choices import decided, label_text
from cord_worker.verify.extraction import final_answers, last_boxed
from cord_worker.verify.normalise import (
    choice,
    exact_key,
    holds_words,
    is_decimal,
    number,
    plain_number,
    split_list,
    tidy,
)
from cord_worker.verify.quantities import quantity, within
from cord_worker.verify.rule import Method, Rule
from cord_worker.verify.scripts import one_form
from cord_worker.verify.units import split_unit
from cord_worker.verify.verdict import Verdict

MATH_LIMIT = 2000
"""Characters of an answer up to which it is parsed as mathematics."""

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_ASSIGNMENT = re.compile(r"[a-zA-Z](?:_\w|_\{\w+\})?(?:\([a-z]\))? ?(?:=|\\in(?![a-z])) ?([^=]+)")
_BRACKETED = re.compile(r"([\[(])(.*)([\])])")
_SET = re.compile(r"\\\{.*\\\}")
_BASED = re.compile(r"([0-9A-F]+)_\{?(\d+)\}?")
_PLACES = 6


_BY_MATH = Rule()


def compare(
    generated_answer: str, reference: str, rule: Rule = _BY_MATH, *, question: str | None = None
) -> Verdict:
    """The verdict on `generated_answer`; may take very long on hostile input (see `AnswerChecker`)."""
    generated_answer, reference = one_form(_printable(generated_answer)), one_form(_printable(reference))
    expected = _expected(reference)
    key = exact_key(expected)
    if not key:
        return Verdict(None, "unsupported", None, "the reference is empty")
    readings = final_answers(generated_answer)
    if rule.method == Method.CHOICE and (choice_made := decided(expected)) is not None:
        return _same_choice(generated_answer, readings, expected, choice_made)
    if not readings:
        if exact_key(generated_answer) == key:
            return Verdict(True, "exact", generated_answer.strip())
        return Verdict(False, "unequal", None, "no final answer was found in the text")
    if rule.method == Method.NUMERIC and (wanted := quantity(expected)) is not None:
        found = ((reading, quantity(reading)) for reading in readings)
        right = next((reading for reading, given in found if given is not None and within(wanted, given, rule)), None)
        return Verdict(False, "unequal", readings[0]) if right is None else Verdict(True, "numeric", right)
    for reading in readings:
        if exact_key(reading) == key:
            return Verdict(True, "exact", reading)
    if rule.method == Method.MATH:
        return _same_mathematics(readings, expected)
    return Verdict(False, "unequal", readings[0])


def _same_choice(generated_answer: str, readings: list[str], expected: str, wanted: str) -> Verdict:
    """A text without a mark of its answer decides in its last line, or in its first as abstracts' conclusions do."""
    lines = generated_answer.strip().splitlines() or [""]
    sentences = (re.split(r"(?<=[.!?。！？])\s*", line, maxsplit=1)[0] for line in (lines[-1], lines[0]))
    for reading in readings or sentences:
        made = decided(reading)
        if made is not None:
            return Verdict(made == wanted, "choice" if made == wanted else "unequal", reading)
    text = label_text(expected)
    same = text is not None and any(exact_key(reading) == exact_key(text) for reading in readings)
    return Verdict(same, "choice" if same else "unequal", readings[0] if readings else None)


def _same_mathematics(readings: list[str], expected: str) -> Verdict:
    letter = choice(expected)
    for reading in readings:
        if letter is not None and choice(reading) == letter:
            return Verdict(True, "exact", reading)
    for reading in readings:
        if max(len(reading), len(expected)) <= MATH_LIMIT and same_value(tidy(expected), tidy(reading)):
            return Verdict(True, "math", reading)
    return Verdict(False, "unequal", readings[0])


def _printable(text: str) -> str:
    return _UNSTORABLE.sub("\ufffd", text)


def _expected(reference: str) -> str:
    """A reference is an answer, but may be a worked solution that ends in a box or, as in GSM8K, in `#### 72`."""
    boxed = last_boxed(reference)
    return boxed if boxed is not None else reference.rpartition("####")[2].strip()


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
