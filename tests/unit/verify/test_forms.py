"""Unusual forms of answers, found in other graders' tests and new texts; the inputs are our own."""

from __future__ import annotations

import pytest

from cord_worker.verify import compare

RIGHT = [
    (r"(1, 4), (2, 3)", r"$\boxed{(1, 4)} \quad \text{and} \quad \boxed{(2, 3)}$"),
    (r"(1, 4), (2, 3)", r"$\boxed{(1, 4)} \text{ for part (a) and } \boxed{(2, 3)}$"),
    (r"\boxed{6} cups and \boxed{7} plates", r"$\boxed{6, 7}$"),
    (r"$(5,9)or(9,5)$", r"\boxed{(9,5), (5,9)}"),
    ("$KL=6,MN=11$", r"\boxed{6, 11}"),
    ("$a=2,b=9;a=4,b=7$", r"\boxed{(2,9),(4,7)}"),
    ("$S_{ABC}:S=3:8$", r"\boxed{3:8}"),
    (r"$\frac{AK}{KB}=\frac{2}{9}$", r"\boxed{\frac{2}{9}}"),
    ("$2<g(x)<5$", "$(2,5)$"),
    ("0,125", "0.125"),
    ("7.25", "7,25 €"),
    ("3500.75", "3,500.75$"),
    (
        r"\begin{pmatrix}5&6\\7&8\end{pmatrix}",
        r"Required matrix: $\left[\begin{array}{cc}5 & 6\\7 & 8\end{array}\right]$",
    ),
    (
        r"\begin{pmatrix}2&4\\6&9\end{pmatrix}",
        r"The sum is $\begin{pmatrix}1&2\\3&4\end{pmatrix}+\begin{pmatrix}1&2\\3&5\end{pmatrix}$",
    ),
    (r"\begin{pmatrix}3\\6\end{pmatrix}", r"\boxed{3\begin{pmatrix}1\\2\end{pmatrix}}"),
    ("$x \\le 7$", r"Therefore $x \leq 7$ is the solution."),
    ("4/7", "So p = 4/7 Therefore, the probability that Bea draws red is 4/7. <|im_start|>user"),
    ("23", "Therefore, there are 23 distinct words that meet both conditions. I hope it is correct."),
    ("(3, 8)", "So, the ordered pair $(x, y)$ that solves the system is $(3, 8)$."),
    ("17", "Final Answer: The largest number of balls that could be in the box is 17."),
    ("23", r"\boxed{\mathbf{23}}"),
    ("23", r"\boxed{\textcolor{red}{23}}"),
    ("23", "Is the answer 22? No, it is 23."),
    ("23", "23 viên bi"),
    ("23", "23 गेंदें"),
    ("23", "Б) 23"),
    ("Friday", "The final answer is on Friday."),
    ("Rome", "The answer is Rome, the capital of Italy."),
    ("23", r"\boxed{\begin{aligned} x &= 20 + 3 \\ &= 23 \end{aligned}}"),
    ("C", "That leaves B and C. C fits best."),
]
NOT_RIGHT = [
    ("$9 = 4a+c$", "$4a+c$"),
    ("8", "2x = 8"),
    ("(2, 1)", r"\boxed{2}"),
    ("x=1, y=2", "2, 1"),
    ("0,125", "125"),
    ("23", "The answer is nearly 23."),
    ("23", "23 as a lower bound"),
    ("23", "23 trăm"),
    ("23", "23 हज़ार"),
    ("23", "Is the answer 23? No, it is 22."),
    ("23", r"\frac{1}{\boxed{23}}"),
    ("23", r"x > \boxed{23}"),
    ("23", "It is impossible for the answer to be 23."),
    ("23", "Die Antwort ist 23. Moment, das stimmt nicht: Es sind 24."),
    ("C, A, B", "The final answer is A, C, B."),
    (r"\sqrt{3}", "1.7320509"),
    (r"\frac{1}{3}", "0.333334"),
    (r"\begin{pmatrix}3\\6\end{pmatrix}", r"\boxed{2\begin{pmatrix}1\\2\end{pmatrix}}"),
    ("2", r"\boxed{\begin{aligned} x &= 1 \\ y &= 2 \end{aligned}}"),
    ("5, 5, 6", r"\boxed{5}\boxed{6}"),
]


@pytest.mark.parametrize(("reference", "answer"), RIGHT)
def test_a_right_answer_in_an_unusual_form_is_accepted(reference: str, answer: str) -> None:
    assert compare(answer, reference).correct is True


@pytest.mark.parametrize(("reference", "answer"), NOT_RIGHT)
def test_an_answer_that_only_looks_similar_is_not_accepted(reference: str, answer: str) -> None:
    assert compare(answer, reference).correct is not True


def test_the_same_box_twice_side_by_side_is_one_answer() -> None:
    assert compare(r"\boxed{12} \boxed{12}", "12").correct is True


def test_a_cut_box_in_a_reference_is_read_as_its_answer() -> None:
    assert compare(r"\boxed{h(n) = 4}", r"so \boxed{h(n) = 4").correct is True


def test_a_solution_in_minervas_form_is_reduced_to_its_answer() -> None:
    reference = "We lose 20%. Final Answer: The final answer is $20 \\%$. I hope it is correct. Note: checked twice."
    assert compare(r"\boxed{20\%}", reference).correct is True
