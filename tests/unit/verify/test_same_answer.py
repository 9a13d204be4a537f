"""Comparing two bare answers: cases of every type (tests/fixtures/answers_by_type.json), order, and hostile texts."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cord_worker.verify.answer.expression import number, parse
from cord_worker.verify.answer.value import same_value
from cord_worker.verify.rule import Method, Rule
from cord_worker.verify.same_answer import order_counts, prepare, same_answer
from tests.support.cpu_time import grows_linearly

CASES = json.loads((Path(__file__).resolve().parents[2] / "fixtures/answers_by_type.json").read_text("utf-8"))


NEAR_MISSES = json.loads((Path(__file__).resolve().parents[2] / "fixtures/answers_near_misses.json").read_text("utf-8"))


@pytest.fixture(scope="module", autouse=True)
def _prepared() -> None:
    prepare()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["reference"])
def test_the_same_answer_is_accepted_a_different_one_not_and_an_unclear_one_is_undecided(case: dict[str, Any]) -> None:
    reference = case["reference"]

    assert {answer: same_answer(reference, answer).equal for answer in case["same"]} == dict.fromkeys(
        case["same"], True
    )
    assert {answer: same_answer(reference, answer).equal for answer in case["other"]} == dict.fromkeys(
        case["other"], False
    )
    unclear = case["unclear"]
    assert {answer: same_answer(reference, answer).equal for answer in unclear} == dict.fromkeys(unclear)


def test_a_near_miss_is_never_accepted() -> None:
    assert [pair for pair in NEAR_MISSES if same_answer(*pair).equal] == []


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["reference"])
def test_every_reference_equals_itself_in_every_wrapping(case: dict[str, Any]) -> None:
    reference = case["reference"]
    if reference == "proof":
        return
    for form in ("{}", "{}.", "**{}**", "\\boxed{{{}}}", " {} ", "\\( {} \\)"):
        assert same_answer(reference, form.format(reference)).equal is True, form


@pytest.mark.parametrize("kind", sorted({case["type"] for case in CASES}))
def test_an_answer_of_another_reference_of_the_same_type_is_not_accepted(kind: str) -> None:
    cases = [case for case in CASES if case["type"] == kind]
    alike = {("64", "2^{64}"), ("x=7", "7"), ("7", "x=7"), ("no solution", r"\emptyset"), (r"\emptyset", "no solution")}
    for case in cases:
        for other in cases:
            pair = (case["reference"], other["reference"])
            if case is not other and pair not in alike and other["reference"] not in case["same"]:
                assert same_answer(*pair).equal is not True, pair


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("12", "number"),
        (r"\frac{3}{4}", "fraction"),
        ("5 km", "quantity"),
        ("$5", "money"),
        ("5%", "percentage"),
        (r"\{1,2\}", "set"),
        ("(1,2)", "tuple"),
        ("1, 2", "list"),
        ("[1,2)", "interval"),
        ("x>3", "inequality"),
        ("y=2x", "equation"),
        ("x^2+1", "expression"),
        (r"\begin{pmatrix}1\\2\end{pmatrix}", "matrix"),
        ("(B)", "choice"),
        ("yes", "yes/no"),
        ("2024-01-05", "date"),
        ("3:30 PM", "time"),
        ("3:4", "ratio"),
        ("3-1", "score or range"),
        ("A-C-B", "sequence"),
        ("A<B<C", "ordering"),
        ("101_2", "based numeral"),
        ("H2O", "formula"),
        (r"x\equiv 1\pmod 3", "congruence"),
        ("no solution", "nothing"),
        ("Paris", "text"),
    ],
)
def test_the_reference_decides_the_type(reference: str, expected: str) -> None:
    assert same_answer(reference, "something else").type == expected


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("Find all roots of the polynomial.", False),
        ("What are the solutions of x^2=4?", False),
        ("Give the factors in any order.", False),
        ("Find all ordered pairs (x,y) with x+y=2.", False),
        ("Arrange the fractions from least to greatest.", True),
        ("List the first five terms of the sequence.", True),
        ("What are x and y, respectively?", True),
        ("How much is it?", None),
        (None, None),
    ],
)
def test_the_question_says_whether_order_counts(question: str | None, expected: bool | None) -> None:
    assert order_counts(question) is expected


def test_order_counts_if_the_question_or_the_rule_says_so() -> None:
    asked = "Arrange the numbers in increasing order."

    assert same_answer("2, 5, 9", "9, 5, 2").equal is True
    assert same_answer("2, 5, 9", "9, 5, 2", question=asked).equal is False
    assert same_answer("2, 5, 9", "9, 5, 2", Rule(ordered=True)).equal is False
    assert same_answer("5, 2, 9", "2, 5, 9").equal is None
    assert same_answer("5, 2, 9", "2, 5, 9", question="Find all roots.").equal is True
    assert same_answer("5, 2, 9", "2, 5, 9", Rule(ordered=False), question=asked).equal is True
    assert same_answer(r"\{2,5\}", r"\{5,2\}", Rule(ordered=True)).equal is True
    assert same_answer("(2,5)", "(5,2)", Rule(ordered=False)).equal is False


def test_the_question_decides_cases_that_are_unclear_without_it() -> None:
    assert same_answer("52_8", "52").equal is None
    assert same_answer("52_8", "52", question="Write 42 in base 8.").equal is True
    assert same_answer("0.5", "0.5%").equal is False
    assert same_answer("0.5", "0.5%", question="What percent of the atoms decay?").equal is True
    assert same_answer("(3,4)", "3, 4").equal is None
    assert same_answer("(3,4)", "3, 4", question="What are the coordinates of P?").equal is True
    options = "Which one? (A) 12 (B) 45 (C) 78"
    assert same_answer("B", "45").equal is False
    assert same_answer("B", "45", question=options).equal is True
    assert same_answer("B", "78", question=options).equal is False


def test_the_other_methods_keep_their_meaning() -> None:
    assert same_answer("0.5", "1/2", Rule(Method.EXACT)).equal is False
    assert same_answer("paris", "Paris", Rule(Method.EXACT)).method == "exact"
    assert same_answer("r", "R", Rule(Method.EXACT)).equal is False
    assert same_answer("B", "(B) 45", Rule(Method.CHOICE)).method == "choice"
    assert same_answer("1568.6", "1,570", Rule(Method.NUMERIC, relative=0.001)).method == "numeric"


@given(st.integers(), st.integers())
def test_two_integers_are_the_same_only_if_they_are_equal(left: int, right: int) -> None:
    assert same_answer(str(left), f"{right:,}").equal is (left == right)


@given(st.fractions(max_denominator=10**6), st.fractions(max_denominator=10**6))
def test_two_fractions_are_the_same_only_if_they_are_equal(left: Fraction, right: Fraction) -> None:
    reference = rf"\frac{{{left.numerator}}}{{{left.denominator}}}"
    same = same_answer(reference, f"{right.numerator}/{right.denominator}").equal

    assert same is (left == right)


@given(st.integers(0, 10**6), st.integers(0, 400))
def test_a_small_difference_of_large_numbers_counts(value: int, power: int) -> None:
    reference, other = rf"10^{{{power}}}+{value}", rf"10^{{{power}}}+{value + 1}"

    assert same_answer(reference, other).equal is False
    rooted = same_answer(rf"\sqrt{{{reference}}}", rf"\sqrt{{{other}}}").equal
    assert rooted is False or (power > 250 and rooted is None)


@settings(deadline=None)
@given(st.lists(st.integers(-9, 9), min_size=2, max_size=4), st.lists(st.integers(-9, 9), min_size=2, max_size=4))
def test_two_polynomials_are_the_same_only_if_their_coefficients_are(left: list[int], right: list[int]) -> None:
    def written(coefficients: list[int]) -> str:
        return "+".join(f"({coefficient})x^{{{power}}}" for power, coefficient in enumerate(coefficients))

    def trimmed(coefficients: list[int]) -> list[int]:
        return trimmed(coefficients[:-1]) if coefficients and coefficients[-1] == 0 else coefficients

    first, second = parse(written(left)), parse(written(right))
    assert first is not None
    assert second is not None
    assert same_value(first, second) is (trimmed(left) == trimmed(right))


@pytest.mark.parametrize(
    ("reference", "given", "expected"),
    [
        ("1/3", "1.2345678e5000", False),
        (r"\pi", "1.2345678e-5000", False),
        (r"\sqrt{2}", r"\sqrt{2} (about 1.5e999)", None),
    ],
)
def test_a_number_with_a_huge_exponent_is_compared(reference: str, given: str, expected: bool | None) -> None:
    assert same_answer(reference, given).equal is expected


def test_solutions_may_be_joined_by_the_sign_for_or() -> None:
    assert same_answer("x = 1 or x = 2", r"x = 1 \lor x = 2").equal
    assert same_answer("x = 1 or x = 2", "x = 2 ∨ x = 1").equal
    assert same_answer("x = 1 or x = 2", r"x = 1 \lor x = 3").equal is False


def test_a_value_too_large_to_compute_is_undecided() -> None:
    for large in ("9^{9^{9^{9}}}", "10^{10^{10}}", "9999999999!", r"\sum_{k=1}^{10^{9}} k"):
        assert same_answer("5", large).equal is None, large
        assert same_answer(large, large).equal is True
    assert same_value(("pow", number(2), number(10**9)), number(5)) is None


@settings(deadline=None, max_examples=200)
@given(st.text(max_size=40), st.text(max_size=40))
def test_no_text_makes_a_comparison_fail(left: str, right: str) -> None:
    same_answer(left, right)
    if left.strip():
        assert same_answer(left, left).equal is not False


@settings(deadline=None, max_examples=300)
@given(*[st.text(alphabet="0123456789xyAB+-*/^_=<>(){}[]|\\, .:%$!eidr\\pi'", max_size=16)] * 2)
def test_no_formula_makes_a_comparison_fail(left: str, right: str) -> None:
    assert same_answer(left, right).equal in (True, False, None)
    assert not left.strip() or same_answer(left, left).equal is not False


@pytest.mark.parametrize(
    "part",
    ["\\sqrt", "(", "{", "\\frac", "-", "1,", "1 ", "=", "x=", "A)", "1.000", "12 个 ", "1 and ", "|", "$", "\\text{",
     "x^", "1/", "five ", "x y ", "A-", "A<", "1:", "5 of a ", "\\{x\\mid ", "f(", "**", "½", "\\pm1", "mod "],
)  # fmt: skip
def test_the_time_of_a_comparison_is_linear_in_the_length_of_a_hostile_text(part: str) -> None:
    for other in ("5", "x+1", "(1,2)", "x>2", "B", "Paris", "5 km", "x=5", "1, 2"):
        assert grows_linearly(lambda text, other=other: same_answer(other, text), part), other
        assert grows_linearly(lambda text, other=other: same_answer(text, other), part), other
