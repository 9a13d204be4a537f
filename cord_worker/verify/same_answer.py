"""Decides whether two final answers are the same: the reference sets the type, and the comparison stays within it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from cord_worker.verify.answer import equations, labels, numbers
from cord_worker.verify.answer.clean import clean, without_lead
from cord_worker.verify.answer.context import Context, Outcome, order_counts
from cord_worker.verify.answer.families import compare_by_type
from cord_worker.verify.choices import choice_of, label_text
from cord_worker.verify.normalise import exact_key
from cord_worker.verify.plain_quantities import quantity, within
from cord_worker.verify.rule import Method, Rule
from cord_worker.verify.solutions import answer_of_solution
from cord_worker.verify.writing_systems import one_form

__all__ = ["Comparison", "order_counts", "prepare", "same_answer", "type_of"]

_BY_MATH = Rule()
_LONG = 4000
"""Longest answer, in characters, that is compared as more than text."""
_PREPOSITION = re.compile(r"^(?:on|in|at) (?=[A-Z][a-z])")
"""`on Monday`, `in Paris`."""
_ROWS = re.compile(r"\\begin ?\{(aligned|split|gathered)\}(?P<body>.*)\\end ?\{\1\}", re.DOTALL)
_TAIL = re.compile(r",? (?:because|since|which|whereas)\s.*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Comparison:
    """The result of comparing two answers.

    Attributes:
        equal: True, False, or None if it cannot be decided.
        type: the type of the reference, such as "number" or "interval"; see `docs/answers.md`.
        method: how they were found equal: "exact", "math", "choice" or "numeric"; otherwise "unequal" or "undecided".
        why: one short sentence, for people.
    """

    equal: bool | None
    type: str
    method: str
    why: str


def same_answer(reference: str, given: str, rule: Rule = _BY_MATH, *, question: str | None = None) -> Comparison:
    """Compares the answer `given` with `reference`; both are bare answers, already extracted from their texts.

    If `rule.ordered` is None, `question` decides whether the order of a list counts.
    """
    if rule.method == Method.CHOICE and (wanted := choice_of(reference)) is not None:
        return _same_choice(reference, given, wanted)
    if rule.method == Method.NUMERIC and (amount := quantity(reference)) is not None:
        found = quantity(given)
        if found is None:
            return Comparison(False, "number", "unequal", "no number")
        near = within(amount, found, rule)
        return Comparison(
            near, "number", "numeric" if near else "unequal", "within the tolerance" if near else "too far"
        )
    if rule.method != Method.MATH:
        same = exact_key(reference) == exact_key(given)
        return Comparison(same, "text", "exact" if same else "unequal", "the same text" if same else "another text")
    ordered = rule.ordered if rule.ordered is not None else order_counts(question)
    context = Context(_compare_parts, ordered, question)
    type_name, outcome, exact = _by_type(reference, given, context)
    method = "exact" if exact else "math"
    if not outcome.equal:
        method = "undecided" if outcome.equal is None else "unequal"
    return Comparison(outcome.equal, type_name, method, outcome.why)


def type_of(reference: str, rule: Rule = _BY_MATH, question: str | None = None) -> str:
    """The type of a reference, such as "number" or "interval"; the reference may be a worked solution."""
    text = one_form(reference)
    expected = answer_of_solution(text) or text.strip()
    return same_answer(expected, expected, rule, question=question).type


def prepare() -> None:
    """Loads in advance what the first comparisons need (units, numerals, country names); takes a second or two."""
    for reference, given in (
        (r"\sin 2x", r"2\sin x\cos x"),
        ("1 m", "100 cm"),
        ("1", "uno"),
        ("Paris", "Paris, France"),
    ):
        same_answer(reference, given)


def _same_choice(reference: str, given: str, wanted: str) -> Comparison:
    made = choice_of(given)
    if made is not None:
        same = made == wanted
        return Comparison(
            same, "choice", "choice" if same else "unequal", "the same choice" if same else "another choice"
        )
    text = label_text(reference)
    same = text is not None and exact_key(text) == exact_key(given)
    return Comparison(
        same, "choice", "choice" if same else "unequal", "the text of the choice" if same else "no choice"
    )


def _by_type(reference: str, given: str, context: Context) -> tuple[str, Outcome, bool]:
    """The reference's type, the outcome, and whether the texts were equal except for their wrapping."""
    wanted, found = clean(reference), clean(given)
    if not wanted:
        return "nothing", Outcome(None, "the reference is empty"), False
    if wanted.casefold() in labels.SENTINELS:
        return "nothing", Outcome(None, "the reference is not an answer"), False
    if not found:
        return "text", Outcome(False, "no answer"), False
    if max(len(wanted), len(found)) > _LONG:
        same = " ".join(wanted.split()) == " ".join(found.split())
        return "text", Outcome(same, "the same text" if same else "another text"), same
    if wanted == found:
        return compare_by_type(wanted, wanted, context)[0], Outcome(True, "the same text"), True
    type_name, outcome = compare_by_type(wanted, found, context)
    if not outcome.equal:
        for other in _without_wrapping(found):
            if other == wanted:
                return type_name, Outcome(True, "the same text"), True
            type_name, outcome = compare_by_type(wanted, other, context)
            if outcome.equal:
                break
    exact = type_name in ("text", "choice", "yes/no", "nothing", "formula")
    return type_name, outcome, exact


def _without_wrapping(found: str) -> list[str]:
    """The given answer without words around it ("about", "it is", "because …"), in up to three ways."""
    bare = _PREPOSITION.sub("", numbers.without_about(without_lead(found)))
    cut = _TAIL.sub("", bare)
    return [text for text in dict.fromkeys((bare, cut, *_result_of_rows(found))) if text and text != found]


def _result_of_rows(found: str) -> list[str]:
    """The result of LaTeX rows (`aligned`): the last row of a calculation, or all rows as a list if each gives a
    value to a different name."""
    match = _ROWS.fullmatch(found)
    if match is None:
        return []
    rows = [row.replace("&", "").strip() for row in match["body"].split("\\\\") if row.strip(" &")][-200:]
    read = [equations.equation(row) for row in rows]
    names = [one.name for one in read if one is not None and one.name]
    if len(names) == len(rows) > 1 and len(set(names)) == len(rows):
        return [clean(", ".join(rows))]
    return [clean(rows[-1].removeprefix("= "))] if rows and (len(rows) == 1 or len(set(names)) <= 1) else []


def _compare_parts(reference: str, given: str, context: Context) -> Outcome:
    return _by_type(reference, given, context)[1]
