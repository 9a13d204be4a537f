"""Compares references with one value (numbers, quantities, money, percentages, expressions) with given answers."""

from __future__ import annotations

import re
from dataclasses import replace

from cord_worker.verify.answer import (
    dates,
    equations,
    expression,
    figures,
    numbers,
    numerals,
    quantities,
    realsets,
    structures,
)
from cord_worker.verify.answer.context import Context, Outcome, as_outcome
from cord_worker.verify.answer.quantities import Quantity
from cord_worker.verify.answer.value import TooLarge, constant, same_value

_HYPHENED = re.compile(r"\d+(?:\.\d+)?(?:-\d+(?:\.\d+)?)+")
_COUNTED = re.compile(
    r"(?:(?:the )?(?:year|option|choice|number|no\.|nr\.|answer|case|step|day|room|page|chapter)|#) ?(?=\d)",
    re.IGNORECASE,
)
_NUMBERED = re.compile(r"(?:the )?(?:case|step|page|chapter|part|section) ?\d", re.IGNORECASE)
_OPERATOR = re.compile(r"\\(?:lim|i{0,3}nt|oint|sum|prod)(?![a-zA-Z])")
_FOREIGN_LABEL = re.compile(r"^\(?[А-Еа-еأبجده가나다라마甲乙丙丁ก-จ]\)\s?(?=[-\d$\\])")
"""The letter of an option, in another alphabet."""
_REFUSED = re.compile(
    r"\b(?:not|isn't|wrong|incorrect|false|never|neither|nor|except|unlike|than|least|most)\b|以上|以下|以内|不|非|이상|이하|미만|초과|아니|ليس|ليست",
    re.IGNORECASE,
)
_RESTATED = re.compile(
    r"(?P<first>[^()]+?) ?\((?:or |i\.e\. |that is,? |= ?|about |≈ ?|approximately )?(?P<second>[^()]+)\)"
)
_WORD = re.compile(r"[A-Za-z]{3,}")
_HYPHENED_WORD = re.compile(r"[A-Za-z]+(?:-[A-Za-z]{3,})+")
_APPROXIMATELY = re.compile(r"\\approx|\\simeq|≈")


def value(text: str) -> Quantity | None:
    """The number, quantity or expression that a text is, tried in this order; None for `10-15` and `2024-01-05`."""
    if _HYPHENED.fullmatch(text):
        return None
    found = numbers.number(text)
    if found is not None:
        return Quantity(expression.number(found.value), found)
    measured = quantities.quantity(text)
    if measured is not None and not measured.unit.attached:
        return measured
    return None if is_word(text) else quantities.bare(text)


def is_word(text: str) -> bool:
    """True for a word, which a parser would take for a product of its letters."""
    if _HYPHENED_WORD.fullmatch(text):
        return True
    if _WORD.fullmatch(text) is None or text.isupper() or text in expression.FUNCTIONS or text in expression.NAMES:
        return False
    return re.search("[eiou]", text) is not None or ("a" in text and not set(text) <= set("abcdxyz"))


def value_family(reference: str, given: str, context: Context) -> tuple[str, Outcome] | None:
    """Compares a reference that is one value: its type and the outcome; None if it is not one value."""
    tree = expression.parse(reference) if _may_be_a_name(reference) else None
    wanted = value(reference) if tree is None else Quantity(tree)
    if wanted is None or expression.holds(wanted.value, "pm", "mp"):
        return None
    if wanted.number is None and wanted.unit.empty and _is_name(reference) and wanted.value[0] != "sym":
        return None
    place = numbers.ordinal(reference) if reference[0].isalnum() else None
    named = numbers.ordinal(given)
    if place is not None and named is not None:
        return wanted.type, as_outcome(place == named, "the same place", "another place")
    outcome = compare_value(wanted, given, context)
    if outcome.equal and wanted.number is not None and place is None and named is not None:
        outcome = Outcome(None, "a place in an order, or a number")
    if outcome.equal and wanted.number is not None and _NUMBERED.match(given):
        outcome = Outcome(None, "a part that is numbered, or a number")
    if outcome.equal is False and wanted.type == "expression" and _have_same_letters(reference, given):
        return "expression", Outcome(None, "the same letters in another order")
    type_name = wanted.type
    if type_name == "number" and re.search(r"/|\\frac", reference):
        type_name = "fraction"
    return type_name, outcome


def _is_name(reference: str) -> bool:
    return re.fullmatch(r"[A-Z][a-z]+(?: [A-Z][a-z]+)*", reference) is not None


def _have_same_letters(reference: str, given: str) -> bool:
    """True for `AB` and `BA`, `AB` and `ab`: each may be a segment, a product or a word."""
    left, right = re.sub(r"[\s\\{}]|overline", "", reference), re.sub(r"[\s\\{}]|overline", "", given)
    letters = re.fullmatch("[A-Za-z]{2,}", left) and re.fullmatch("[A-Za-z]{2,}", right)
    return bool(letters) and sorted(left.casefold()) == sorted(right.casefold())


def compare_value(wanted: Quantity, given: str, context: Context) -> Outcome:
    """Compares `given` with the value `wanted`."""
    if wanted.number is not None:
        given = _FOREIGN_LABEL.sub("", given, count=1)
    given = _COUNTED.sub("", given, count=1) if wanted.number is not None and _COUNTED.match(given) else given
    if wanted.number is not None and (word := numerals.foreign(given)) is not None and word == wanted.number.value:
        return Outcome(True, "the same number in words")
    found = value(given)
    if found is not None:
        return _same(wanted, found, given, context)
    if _APPROXIMATELY.search(given):
        return _compare_approximation(wanted, given, context)
    statement, condition = equations.without_condition(given)
    if condition is not None and statement != given and (value(statement) or equations.equation(statement)):
        return compare_value(wanted, statement, context)
    equation = equations.equation(given)
    if equation is not None:
        return _right_side(wanted, equation, context)
    return _no_value(wanted, given, context)


def _same(wanted: Quantity, found: Quantity, given: str, context: Context) -> Outcome:
    if expression.holds(found.value, "pm", "mp"):
        return Outcome(False, "two values")
    same = quantities.same_quantity(wanted, found, asks_percent=context.asks_percent)
    if not same and found.unit.empty and expression.symbols(found.value):
        # "5m" may be five metres.
        measured = quantities.quantity(given)
        if measured is not None and measured.unit.attached and quantities.same_quantity(wanted, measured) is not False:
            return Outcome(None if wanted.unit.empty else True, "a letter that may be a unit or a name")
    if same and _may_be_a_name(given):
        return Outcome(None, "a thousand, or a name")
    if same:
        return Outcome(True, "the same value")
    if given.endswith("!") and (plain := value(given.rstrip("!"))) and quantities.same_quantity(wanted, plain):
        return Outcome(None, "an exclamation mark, or a factorial")
    if same is None:
        return Outcome(None, _why_undecided(wanted, found))
    other = numbers.other_reading(given)
    zeros = re.fullmatch(r"\d+,0+", given) is not None
    if other is not None and wanted.number is not None and other.value == wanted.number.value and not zeros:
        return Outcome(None, "a decimal sign, or a separator of thousands")
    if (
        other is None
        and not found.unit.empty
        and (dotted := re.search(r"(?<![\d.,])[1-9]\d{0,2}\.\d{3}(?![\d.,])", given))
    ):
        thousands = numbers.other_reading(dotted[0])
        if thousands is not None and wanted.number is not None and thousands.value == wanted.number.value:
            if found.unit.currency and not found.unit.in_cents and wanted.unit.currency in (None, found.unit.currency):
                # Money never has three decimals.
                return Outcome(True, "the same amount, with a separator of thousands")
            return Outcome(None, "a decimal sign, or a separator of thousands")
    tight = expression.parse_tight(given)
    if tight is not None and same_value(wanted.value, tight):
        return Outcome(None, "what the slash or the power reaches is not clear")
    if not wanted.unit.empty and not found.unit.empty and wanted.unit != found.unit:
        return Outcome(False, "another value or unit")
    return Outcome(False, "another value")


def _may_be_a_name(given: str) -> bool:
    """True for `2k`, which may be 2,000 or two times k; False for `2.5k`, `50k` and `$2k`, which are amounts."""
    return re.fullmatch(r"\d[kKMB]", given) is not None


def _why_undecided(wanted: Quantity, found: Quantity) -> str:
    if found.unit.attached or wanted.unit.attached:
        return "a letter that may be a unit or a name"
    if wanted.percent or found.percent:
        return "a percentage, or its hundredth"
    return "the values cannot be compared"


def _compare_approximation(wanted: Quantity, given: str, context: Context) -> Outcome:
    exact, _, rounded = (part.strip() for part in _APPROXIMATELY.sub("\x00", given, count=1).partition("\x00"))
    if exact and equations.name_of(exact) is None:
        return compare_value(wanted, exact, context)
    return compare_value(wanted, rounded, context)


def _right_side(wanted: Quantity, equation: equations.Equation, context: Context) -> Outcome:
    """Compares the right side of a given equation, if its left side is a bare name or has the same value."""
    if equation.name is not None:
        for middle in equation.between:
            side = value(middle)
            last = value(equation.right)
            if side and last and quantities.same_quantity(side, last) is False:
                return Outcome(None, "a chain whose sides differ")
        return compare_value(wanted, equation.right, context)
    left, right = value(equation.left), value(equation.right)
    if _OPERATOR.match(equation.left) and right is not None and (left is None or expression.symbols(left.value)):
        return compare_value(wanted, equation.right, context)
    if left is not None and not expression.symbols(left.value) and equations.name_of(equation.right):
        return compare_value(wanted, equation.left, context)
    if left is not None and right is not None and not expression.symbols(left.value):
        if quantities.same_quantity(right, left):
            return compare_value(wanted, equation.right, context)
        return Outcome(None if quantities.same_quantity(wanted, right) else False, "an equation whose sides differ")
    if right is not None and left is not None and left.value[0] == "fn" and quantities.same_quantity(wanted, right):
        return Outcome(None, "an equation whose left side is not a bare name")
    if (
        left is not None
        and right is not None
        and expression.symbols(wanted.value)
        and quantities.same_quantity(wanted, left)
    ):
        return Outcome(None, "an equation, and the reference is its left side")
    return Outcome(False, "an equation, not a value")


def _no_value(wanted: Quantity, given: str, context: Context) -> Outcome:
    other = numbers.other_reading(given)
    if other is not None and wanted.number is not None:
        if other.value == wanted.number.value:
            return (
                Outcome(True, "the same number, with a decimal comma")
                if other.sure
                else Outcome(None, "a decimal comma, or a separator")
            )
        return Outcome(False, "another number")
    pair = figures.span(given)
    if pair is not None:
        difference = expression.number(pair[0] - pair[1])
        unclear = pair[2] == "-" and same_value(wanted.value, difference)
        return Outcome(None, "a difference, or a range") if unclear else Outcome(False, "a range or a score")
    if dates.dates(given) or _HYPHENED.fullmatch(given):
        return Outcome(False, "a date or a series of figures")
    numeral = figures.based_numeral(given)
    if numeral is not None:
        same = wanted.number is not None and wanted.number.value in (_in_its_base(numeral), _in_base_ten(numeral))
        return Outcome(None, "a numeral of another base") if same else Outcome(False, "another numeral")
    if equations.congruence(given) is not None:
        return Outcome(None, "a residue, not a number")
    members = figures.ratio(given)
    if members is not None and len(members) == 2:
        quotient = ("div", members[0].value, members[1].value)
        if members[1].value == expression.number(1) and same_value(wanted.value, quotient):
            return Outcome(None, "a ratio to one, or a value")
        if re.fullmatch(r"\d{1,2}:\d{2}", given):
            return Outcome(None, "a time, or a ratio")
        return as_outcome(same_value(wanted.value, quotient), "the same ratio", "another ratio")
    if (match := _RESTATED.fullmatch(given)) is not None:
        results = [compare_value(wanted, match[name].strip(), context).equal for name in ("first", "second")]
        if all(results):
            return Outcome(True, "the same value, given twice")
        if results[0] and re.fullmatch(r"[^\d=<>]*", match["second"]) and not _REFUSED.search(match["second"]):
            return Outcome(True, "the same value, with a remark")
        if results[0] and _is_near(wanted, match["second"]):
            return Outcome(True, "the same value, with an approximation")
        return Outcome(False if results[0] is False else None, "a remark that may change the value")
    parts = structures.split(given)
    if len(parts.items) > 1:
        results = [
            compare_value(wanted, item, replace(context, depth=context.depth + 1)).equal for item in parts.items[:20]
        ]
        if parts.joined == "or" and all(results):
            return Outcome(True, "the same value, given more than once")
        return Outcome(False, "several values")
    if structures.split_brackets(given) or realsets.relation(given):
        inner = structures.split_brackets(given)
        if (
            inner is not None
            and inner.kind == "set"
            and len(inner.items) == 1
            and compare_value(wanted, inner.items[0], context).equal
        ):
            return Outcome(None, "a set of one value")
        return Outcome(False, "no single value")
    if structures.matrix(given) or realsets.read(given):
        return Outcome(False, "no single value")
    if _REFUSED.search(given):
        return Outcome(False, "a text that says otherwise")
    if re.fullmatch(r"[\d ]+", given):
        return Outcome(False, "several numbers")
    figure = re.search(r"\d", given)
    return Outcome(False if figure is None else None, "a text that is not understood")


def _is_near(wanted: Quantity, text: str) -> bool:
    """True if `about 13.9%` is `wanted`, rounded as precisely as it is written."""
    near = value(text)
    if near is None or near.number is None or expression.symbols(wanted.value):
        return False
    try:
        exact = constant(wanted.value)
        if exact is None:
            return False
        size = exact * 100 if near.percent and not wanted.percent else exact
        apart = abs(float(size) - float(near.number.value))
    except (TooLarge, OverflowError):
        return False
    return near.number.places > 0 and apart <= 0.5001 * 10.0**-near.number.places


def _in_its_base(numeral: tuple[str, int]) -> int | None:
    try:
        return int(*numeral)
    except ValueError:
        return None


def _in_base_ten(numeral: tuple[str, int]) -> int | None:
    return int(numeral[0]) if numeral[0].isdigit() else None
