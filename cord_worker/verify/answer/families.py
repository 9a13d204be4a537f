"""The types of answers, each with its comparison, in the order in which a reference is tested for them (`FAMILIES`)."""

from __future__ import annotations

import re
from collections.abc import Callable

from cord_worker.verify.answer import (
    collections,
    dates,
    equations,
    expression,
    figures,
    labels,
    numbers,
    realsets,
    structures,
    values,
)
from cord_worker.verify.answer.context import Context, Outcome, as_outcome

Found = tuple[str, Outcome]
Family = Callable[[str, str, Context], Found | None]

_MIRRORED = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "!=": "!=", "=": "="}


def compare_by_type(reference: str, given: str, context: Context) -> Found:
    """The type of a cleaned reference, and whether `given` is the same answer."""
    for family in FAMILIES:
        found = family(reference, given, context)
        if found is not None:
            return found
    return "text", Outcome(*labels.same_text(reference, given))


def _number(reference: str, given: str, context: Context) -> Found | None:
    """Compares plain numbers. They are tested first, because most references are numbers."""
    if re.fullmatch(r"-?0,\d{1,40}", reference):
        # A separator of thousands never follows a zero.
        reference = reference.replace(",", ".")
    if (
        not (reference[0].isdigit() or reference[0] in "-.")
        or reference[-1].isalpha()
        or numbers.number(reference) is None
    ):
        return None
    return values.value_family(reference, given, context)


def _nothing(reference: str, given: str, _: Context) -> Found | None:
    wanted = labels.nothing(reference)
    if wanted is None:
        return None
    found = labels.nothing(given)
    if found == wanted:
        return "nothing", Outcome(True, "the same kind of nothing")
    if found is not None and "endless" not in (found, wanted):
        return "nothing", Outcome(None, "two kinds of nothing")
    return "nothing", Outcome(False, "something else")


def _choice(reference: str, given: str, context: Context) -> Found | None:
    wanted = labels.choice(reference)
    if wanted is None:
        return None
    found = labels.chosen_letter(given)
    text = labels.label_text(reference)
    if found == wanted:
        other = labels.label_text(given)
        if text and other and context.same(text, other) is False:
            return "choice", Outcome(None, "the same letter before another text")
        return "choice", Outcome(True, "the same choice")
    if found is not None:
        return "choice", Outcome(False, "another choice" if found else "several choices")
    offered = labels.options(context.question) if context.question else {}
    text = text or offered.get(wanted)
    if text and context.same(text, given):
        return "choice", Outcome(True, "the text of the choice")
    return "choice", Outcome(False, "no choice, or another text")


def _decision(reference: str, given: str, _: Context) -> Found | None:
    wanted = labels.plain_decision(reference)
    if wanted is None:
        return None
    found = labels.decision(given)
    if found == wanted:
        return "yes/no", Outcome(True, "the same decision")
    if found is None:
        longer = len(given.split()) > 2
        return "yes/no", Outcome(None if longer else False, "no decision that is understood")
    unclear = {found, wanted} in ({"yes", "true"}, {"no", "false"})
    return "yes/no", Outcome(None if unclear else False, "another decision")


def _date(reference: str, given: str, _: Context) -> Found | None:
    wanted = dates.dates(reference)
    if not wanted:
        return None
    found = dates.dates(given)
    if not found:
        return "date", Outcome(False, "no date")
    if given.replace(" ", "") == reference.replace(" ", ""):
        return "date", Outcome(True, "the same date")
    return "date", as_outcome(
        dates.same_date(wanted, found), "the same date", "another date", "a part is missing or unclear"
    )


def _time(reference: str, given: str, _: Context) -> Found | None:
    wanted = dates.time(reference)
    if wanted is None or not (wanted.sure or "o'clock" in reference):
        return None
    found = dates.time(given)
    if found is None:
        return "time", Outcome(None if re.fullmatch(r"[\d.: ]+", given) else False, "no time of day")
    return "time", as_outcome(
        dates.same_time(wanted, found), "the same time", "another time", "morning or afternoon is not said"
    )


def _based_numeral(reference: str, given: str, context: Context) -> Found | None:
    found = figures.based_family(reference, given, context)
    return found and ("based numeral", found)


def _congruence(reference: str, given: str, _: Context) -> Found | None:
    wanted = equations.congruence(reference)
    if wanted is None:
        return None
    found = equations.congruence(given)
    if found is None:
        value = values.value(given)
        near = (
            value is not None
            and value.number is not None
            and (value.number.value - wanted.residue) % wanted.modulus == 0
        )
        family = re.search(r"(?<=\d)[a-z](?![a-z])", given) is not None
        return "congruence", Outcome(None if near or family else False, "a number, not a residue")
    if wanted.name and found.name and wanted.name != found.name:
        return "congruence", Outcome(False, "the value of another name")
    same = (wanted.residue, wanted.modulus) == (found.residue, found.modulus)
    return "congruence", Outcome(same, "the same residue" if same else "another residue")


def _formula(reference: str, given: str, _: Context) -> Found | None:
    wanted = labels.formula(reference)
    if wanted is None:
        return None
    found = labels.formula(given) or re.sub(r"[_{}^\s]", "", given)
    if found == wanted:
        return "formula", Outcome(True, "the same formula")
    atoms, other = labels.atoms(wanted), labels.atoms(found)
    if other is None:
        return "formula", Outcome(
            None if re.fullmatch("[A-Za-z ]+", given) and len(given) > 3 else False, "no such formula"
        )
    ordered = wanted.replace("(", "").replace(")", "")
    isomers = atoms == other and len(ordered) > 4
    return "formula", Outcome(None if isomers else False, "another formula")


def _span(reference: str, given: str, context: Context) -> Found | None:
    found = figures.span_family(reference, given, context)
    return found and ("score or range", found)


def _ratio(reference: str, given: str, context: Context) -> Found | None:
    equation = equations.equation(given)
    if equation is not None and equation.name and not equation.between:
        given = equation.right
    found = figures.ratio_family(reference, given, context)
    return found and ("ratio", found)


def _sequence(reference: str, given: str, context: Context) -> Found | None:
    wanted = labels.sequence(reference)
    if wanted is None:
        return None
    found = labels.sequence(given)
    if found is None and len(listed := structures.split(given).items) == len(wanted):
        found = listed
    if found is None:
        return "sequence", Outcome(None if re.sub(r"\W", "", given) == "".join(wanted) else False, "no such sequence")
    if len(found) != len(wanted):
        return "sequence", Outcome(False, "a sequence of another length")
    results = [one == other or context.same(one, other) for one, other in zip(wanted, found, strict=True)]
    same = False if False in results else None if None in results else True
    return "sequence", as_outcome(same, "the same sequence", "another sequence")


def _ordering(reference: str, given: str, _: Context) -> Found | None:
    """Compares names in an order, `A < B < C`, which may be written from either end."""
    wanted = _ordered_names(reference)
    if wanted is None:
        return None
    found = _ordered_names(given)
    if found is None:
        same = structures.split(given).items == wanted[0]
        return "ordering", Outcome(None if same else False, "no ordering")
    if wanted == found:
        return "ordering", Outcome(True, "the same order")
    return "ordering", Outcome(False, "another order")


def _ordered_names(text: str) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    chain = realsets.relation(text)
    if chain is None or not set(chain[1]) <= {"<", ">", "<=", ">=", "="}:
        return None
    sides, signs = chain
    if not all(re.fullmatch(r"\\?[A-Za-z]\w*(?: ?_ ?\{?\w+\}?)?(?: [A-Za-z]+)*", side) for side in sides):
        return None
    if len(set(sides)) < 2 or set(signs) <= {"="}:
        return None
    if set(signs) & {">", ">="}:
        if set(signs) & {"<", "<="}:
            return None
        sides, signs = sides[::-1], [_MIRRORED[sign] for sign in reversed(signs)]
    return tuple(side.replace(" ", "") for side in sides), tuple(signs)


def _matrix(reference: str, given: str, context: Context) -> Found | None:
    found = collections.matrix_family(reference, given, context)
    return found and ("matrix", found)


def _real_set(reference: str, given: str, context: Context) -> Found | None:
    if re.fullmatch(r"\(.*\)", reference) and "\\infty" not in reference and "\\cup" not in reference:
        # It may be a point or an interval: `_list` compares it as a tuple.
        return None
    found_reference = realsets.read(reference)
    if found_reference is None:
        return None
    wanted, name = found_reference
    type_name = "inequality" if name or realsets.relation(realsets.with_signs(reference)) else "interval"
    found_given = realsets.read(given)
    if found_given is None:
        listed = collections.elements(given)
        if wanted[0] == "interval" and len(listed.items) == 2 and structures.split_brackets(reference):
            pair = structures.split_brackets(given)
            if pair is None:
                outcome = collections.compare_elements(collections.elements(reference), listed, context)
                return type_name, Outcome(None if outcome.equal else False, "two numbers for an interval")
        worded = re.search("[A-Za-z]{3,}", re.sub(r"\\(?:begin|end) ?\{\w+\}|\\[a-zA-Z]+", "", given)) is not None
        unread = worded and values.value(given) is None and labels.nothing(given) is None
        return type_name, Outcome(None if unread else False, "no set of numbers that is understood")
    found, other = found_given
    if name and other and name != other:
        return type_name, Outcome(False, "about another name")
    return type_name, as_outcome(realsets.same_set(wanted, found), "the same numbers", "other numbers")


def _inequality(reference: str, given: str, _: Context) -> Found | None:
    """Compares an inequality of several names: equal if one is a positive multiple of the other."""
    wanted = _one_inequality(reference)
    if wanted is None:
        return None
    found = _one_inequality(given)
    if found is None:
        unread = realsets.relation(given) is not None and equations.equation(given) is None
        return "inequality", Outcome(None if unread else False, "no such inequality")
    if reference.replace(" ", "") == given.replace(" ", ""):
        return "inequality", Outcome(True, "the same inequality")
    if wanted[1] != found[1]:
        return "inequality", Outcome(False, "another sign")
    if wanted[0] is None or found[0] is None:
        return "inequality", Outcome(None, "the sides are not understood")
    positive = wanted[1] != "!="
    same = equations.proportional(wanted[0], found[0], positive=positive)
    return "inequality", as_outcome(same, "the same inequality", "another inequality")


def _one_inequality(text: str) -> tuple[expression.Node | None, str] | None:
    chain = realsets.relation(realsets.with_signs(text))
    if chain is None or "=" in chain[1] or len(structures.split(text).items) > 1:
        return None
    if len(chain[1]) > 1:
        return None, "chain"
    (left, right), (sign,) = chain
    if sign in (">", ">="):
        left, right, sign = right, left, _MIRRORED[sign]
    return equations.difference(left, right), sign


def _list(reference: str, given: str, context: Context) -> Found | None:
    return collections.list_family(reference, given, context)


def _equation(reference: str, given: str, context: Context) -> Found | None:
    wanted = equations.equation(reference)
    if wanted is None:
        return None
    found = equations.equation(given)
    name = wanted.name
    if found is None:
        if name is None:
            left = values.value(wanted.left)
            right = values.value(wanted.right)
            if (
                left is not None
                and not expression.symbols(left.value)
                and right
                and not expression.symbols(right.value)
            ):
                return "equation", Outcome(
                    context.same(wanted.right, given), "the right side of an equation without names"
                )
            return "equation", Outcome(False, "no equation")
        if realsets.relation(given) is not None:
            return "equation", Outcome(False, "an inequality")
        return "equation", as_outcome(context.same(wanted.right, given), "the right side alone", "another right side")
    if name is not None and found.name is not None:
        if not equations.same_names(name, found.name):
            alike = equations.same_equation(wanted, found)
            return "equation", Outcome(bool(alike), "the same equation" if alike else "the value of another name")
        meant = _with_same_argument(name, found.name, found.right)
        same = None if meant is None else context.same(wanted.right, meant)
        if not same and (renamed := _with_integer_of(reference, wanted.right, given)) is not None:
            same = context.same(wanted.right, renamed)
        return "equation", as_outcome(same, "the same right side", "another right side")
    same = equations.same_equation(wanted, found)
    if same is None and wanted.left.replace(" ", "") == found.left.replace(" ", ""):
        same = context.same(wanted.right, found.right)
    return "equation", as_outcome(same, "the same equation", "another equation")


def _with_same_argument(wanted: str, found: str, right: str) -> str | None:
    """The right side of `f(t) = …` rewritten for `f(x)`; None if it already holds another x."""
    calls = [re.fullmatch(r"[a-zA-Z]\(([a-z])\)", name) for name in (wanted, found)]
    if calls[0] is None or calls[1] is None or calls[0][1] == calls[1][1]:
        return right
    one, other = (rf"(?<![a-zA-Z\\]){call[1]}(?![a-zA-Z])" for call in calls if call)
    return None if re.search(one, right) else re.sub(other, calls[0][1], right)


_INTEGERS = frozenset("kmn")
"""Names that usually stand for integers."""


def _with_integer_of(reference: str, right: str, given: str) -> str | None:
    """The right side of `given` with the reference's name of an integer: `n\\pi` for `k\\pi`; None if it has none."""
    statement, condition = equations.without_condition(given)
    other = equations.equation(statement)
    wanted = expression.parse(right)
    found = None if other is None else expression.parse(other.right)
    if other is None or wanted is None or found is None or not (condition == "Z" or r"\pi" in reference):
        return None
    one, two = expression.symbols(wanted), expression.symbols(found)
    if len(one) != 1 or len(two) != 1 or not (one | two) <= _INTEGERS:
        return None
    return re.sub(rf"(?<![a-zA-Z\\]){min(two)}(?![a-zA-Z])", min(one), other.right)


def _with_condition(reference: str, given: str, context: Context) -> Found | None:
    """Compares answers such as `x = k\\pi, k \\in \\mathbb{Z}`; one side may leave the condition out."""
    statement, condition = equations.without_condition(reference)
    if condition is None or not statement:
        return None
    other, other_condition = equations.without_condition(given)
    found_type, outcome = compare_by_type(statement, other, context)
    if outcome.equal and other_condition is not None and other_condition.replace(" ", "") != condition.replace(" ", ""):
        return found_type, Outcome(None, "another condition")
    return found_type, outcome


def _value(reference: str, given: str, context: Context) -> Found | None:
    return values.value_family(reference, given, context)


FAMILIES: tuple[Family, ...] = (
    _number,
    _nothing,
    _choice,
    _decision,
    _date,
    _time,
    _based_numeral,
    _congruence,
    _formula,
    _span,
    _ratio,
    _sequence,
    _ordering,
    _matrix,
    _with_condition,
    _real_set,
    _inequality,
    _value,
    _list,
    _equation,
)
