from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cord_worker.verify import Rule, compare
from cord_worker.verify.extraction import final_answers, last_boxed
from cord_worker.verify.normalise import exact_key, split_list, tidy
from tests.support.cpu_time import grows_linearly

MATH_500 = Path(__file__).resolve().parents[2] / "fixtures" / "math500_answers.txt"
"""The reference answers of MATH-500, one a line; see its licence in the folder's README."""

SAME = [
    ("12", "12"),
    ("12.", "12"),
    ("**12**", "12"),
    ("$12$", "12"),
    (r"\text{$12$}", "12"),
    (r"\frac{1}{2}", "0.5"),
    ("0.5", r"\frac{1}{2}"),
    ("1/2", r"\frac{1}{2}"),
    ("0.5", r"\frac12"),
    (r"\dfrac{1}{2}", r"\frac12"),
    (r"\frac{-1}{2}", "-0.5"),
    ("0.333333", "1/3"),
    ("1 4/5", r"1\frac{4}{5}"),
    ("1.8", r"1\frac{4}{5}"),
    ("(B)", "B"),
    ("B", "(B)"),
    ("B", r"\text{(B)}"),
    ("(B) 45", "B"),
    ("option C", "C"),
    ("11, 27, 39, 25", "11, 27, 39, 25"),
    ("11,27,39,25", "11, 27, 39, 25"),
    ("[11, 27, 39, 25]", "11, 27, 39, 25"),
    ("3 and 4", "3, 4"),
    (r"$\frac{1}{2}$ and $\frac{1}{3}$", "1/2, 1/3"),
    ("$x=3$ or $x=4$", "3, 4"),
    ("{1, 2, 3}", r"\{3, 2, 1\}"),
    (r"\{1, 2, 3\}", r"\{3, 2, 1\}"),
    ("10 dollars", "10"),
    ("10", "10 dollars"),
    ("$10", "10 dollars"),
    (r"\$18.90", "18.9"),
    ("5.40 cents", r"5.4 \text{ cents}"),
    ("15 square cm", r"15\mbox{ cm}^2"),
    ("864 square inches", r"864 \mbox{ inches}^2"),
    ("90 degrees", r"90^\circ"),
    ("90°", r"90^{\circ}"),
    ("50%", r"50\%"),
    ("50 percent", "50%"),
    ("50", "50%"),
    ("0.5", "50%"),
    ("(3, \\pi/2)", r"\left( 3, \frac{\pi}{2} \right)"),
    ("(3, π/2)", r"\left( 3, \frac{\pi}{2} \right)"),
    ("(-∞, 2) ∪ (3, ∞)", r"(-\infty, 2) \cup (3, \infty)"),
    ("[2,5)", "[2, 5)"),
    ("x > 2", r"(2,\infty)"),
    ("x = 5", "5"),
    ("5", "x=5"),
    ("2x+3", "y = 2x + 3"),
    ("3 + 4 = 7", "7"),
    (r"\angle ABC = 40^\circ", "40"),
    ("2√13", r"2\sqrt{13}"),
    ("7.141428", r"\sqrt{51}"),
    ("58500", "58,500"),
    ("58,500", "58500"),
    ("10080", r"10,\!080"),
    ("1,000,000", "10^6"),
    ("72.0", "72"),
    ("6.72e-5", ".0000672"),
    (r"6.72\times 10^{-5}", ".0000672"),
    ("evelyn", r"\text{Evelyn}"),
    ("x^2+2x+1", "(x+1)^2"),
    (r"1+\sqrt{19}, 1-\sqrt{19}", r"1 \pm \sqrt{19}"),
    (r"\{-2, 1-\sqrt5, 1+\sqrt5\}", r"\{1\pm\sqrt{5},-2\}"),
    (r"\begin{pmatrix} 0.5 \\ 2 \end{pmatrix}", r"\begin{pmatrix} \frac12 \\ 2 \end{pmatrix}"),
    ("Paris", "It was hard. #### Paris"),
]

DIFFERENT = [
    ("120", "12"),
    ("12", "120"),
    ("3", "-3"),
    ("-3", "3"),
    ("四", "三"),
    ("68, 72", "68, 72, 86"),
    ("68, 72, 86", "68, 72"),
    ("25, 27, 39, 12", "11, 27, 39, 25"),
    ("72", "68, 72"),
    ("3", "3, 5, 7"),
    ("12 or 13", "12"),
    ("{1, 2}", r"\{1, 2, 3\}"),
    ("[3,4]", "(3,4]"),
    ("(2,1)", "(1,2)"),
    ("0.33", "1/3"),
    ("0.5001", "1/2"),
    (".0000671", ".0000672"),
    ("1e-9", "2e-9"),
    (r"2\cdot 10^{-8}", "10^{-8}"),
    ("9999999999999998", "9999999999999999"),
    ("10 cents", "10 dollars"),
    ("$10", "10 cents"),
    ("10 million", "10"),
    ("2 dozen", "2"),
    ("11:00 pm", "11:00 am"),
    ("51%", "50%"),
    ("5%", "0.5"),
    ("A", "B"),
    ("(A) and (B)", "A"),
    ("dog", "god"),
    ("May", "Amy"),
    ("no", "yes"),
    ("y=5", "x=5"),
    (r"1+\sqrt{19}", r"1 \pm \sqrt{19}"),
    ("A sentence with 12 words in it", "There are 12 months in a year"),
    ("12 x", "12"),
    ("1 2", "12"),
    ("p-q", "p+q"),
    ("5r^5", "5r^4"),
    ("52_9", "52_8"),
    ("not 5", "5"),
    ("5 is wrong", "5"),
]


@pytest.mark.parametrize("form", ["We tried 77.\nThe final answer is {}.", r"Hence \boxed{{{}}}", "7 + 7\n#### {}"])
@pytest.mark.parametrize(("generated", "reference"), SAME)
def test_an_answer_in_another_notation_is_correct(form: str, generated: str, reference: str) -> None:
    verdict = compare(form.format(generated), reference)

    assert verdict.correct is True
    assert verdict.method in {"exact", "math"}


@pytest.mark.parametrize("form", ["We tried 77.\nThe final answer is {}.", r"Hence \boxed{{{}}}", "7 + 7\n#### {}"])
@pytest.mark.parametrize(("generated", "reference"), DIFFERENT)
def test_a_different_answer_is_incorrect_however_similar(form: str, generated: str, reference: str) -> None:
    assert compare(form.format(generated), reference).correct is False


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"first \boxed{1}, then \boxed{\frac{2}{3}} at last", r"\frac{2}{3}"),
        (r"\boxed{4} and a torn \boxed{5", "4"),
        (r"the roots are $\boxed{3}$ and $\boxed{4}$.", "3, 4"),
        ("The answer is 3. No, the answer is 4.", "4"),
        ("The final answer is 3.5.", "3.5"),
        ("the ANSWER IS:  **7**", "7"),
        ("**Final Answer:** 8", "8"),
        ("The answer to the riddle is 9.", "9"),
        ("The final answer is\n$$\nx + 1\n$$", "x + 1"),
        ("The answer is:\n\\[ 12 \\]\nas we showed", "12"),
        ("steps\n#### 72", "72"),
        ("72", "72"),
    ],
)
def test_the_last_stated_answer_is_extracted(text: str, answer: str) -> None:
    assert final_answers(text)[0] == answer


def test_a_reason_after_the_answer_does_not_make_it_wrong() -> None:
    assert compare("The answer is 12 because 3 times 4 is 12.", "12").correct is True
    assert compare("The answer is 7. This follows from the above.", "7").correct is True


def test_a_long_text_whose_last_sentence_states_no_answer_is_undecided_although_it_holds_the_number() -> None:
    verdict = compare("We add and get 12 apples. " * 20 + "Then we look at the pears.", "12")

    assert (verdict.correct, verdict.method, verdict.extracted) == (None, "undecided", None)
    assert verdict.detail == "no final answer was found in the text"


def test_a_long_reference_equals_itself() -> None:
    text = "Yes: the therapy lowers the pressure in most patients, and the effect lasts for years. " * 10

    assert compare(text, text).method == "exact"


def test_an_empty_reference_gives_no_decision() -> None:
    assert compare("The answer is 5.", " ").correct is None


def test_no_result_holds_text_that_postgresql_refuses() -> None:
    assert compare("The answer is a\0\ud800.", "b").extracted == "a\ufffd\ufffd"


def test_every_reference_of_math_500_is_correct_for_itself_and_incorrect_for_its_neighbour() -> None:
    answers = MATH_500.read_text("utf-8").splitlines()
    itself = [answer for answer in answers if not compare(f"The final answer is {answer}.", answer).correct]
    boxed = [answer for answer in answers if not compare(f"so \\boxed{{{answer}}}", answer).correct]
    neighbour = [
        (neighbour_answer, answer)
        for answer, neighbour_answer in zip(answers, answers[1:] + answers[:1], strict=True)
        if answer != neighbour_answer and compare(f"The final answer is {neighbour_answer}.", answer).correct
    ]

    assert len(answers) == 500
    assert itself == []
    assert boxed == []
    assert neighbour == [("x=5", "5")]


@given(st.text(max_size=80))
def test_the_exact_key_of_a_tidied_text_is_the_same(text: str) -> None:
    assert exact_key(f"  {text}  ") == exact_key(text)
    tidy(text)
    split_list(text)


@given(st.lists(st.integers(-999, 999), min_size=2, max_size=5, unique=True))
def test_a_list_equals_the_same_values_in_another_order_unless_order_counts(numbers: list[int]) -> None:
    reference = ", ".join(map(str, numbers))
    turned = f"The answer is {', '.join(map(str, numbers[::-1]))}."

    assert compare(f"The answer is {reference}.", reference, Rule(ordered=True)).correct is True
    assert compare(turned, reference, Rule(ordered=False)).correct is True
    assert compare(turned, reference, Rule(ordered=True)).correct is False
    assert compare(f"The answer is {', '.join(map(str, numbers[:-1]))}.", reference).correct is False


@given(st.integers(), st.integers())
def test_two_integers_are_the_same_answer_only_if_they_are_equal(left: int, right: int) -> None:
    assert compare(f"The final answer is {left}.", str(right)).correct is (left == right)


@given(st.text(alphabet=r"\boxed{}$ answer is:#*[](),\begin", max_size=200))
def test_extraction_never_fails_on_any_text(text: str) -> None:
    assert all(isinstance(reading, str) and reading for reading in final_answers(text) if last_boxed(text) is None)


@pytest.mark.parametrize(
    ("before", "part"), [("answer is", " "), ("", r"\boxed{"), ("", "$"), ("", ", and"), ("answer", "*")]
)
def test_the_time_of_extraction_is_linear_in_the_length_of_a_hostile_text(before: str, part: str) -> None:
    assert grows_linearly(lambda text: final_answers(before + text), part)
    assert grows_linearly(lambda text: exact_key(before + text), part)
