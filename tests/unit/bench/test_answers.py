"""Answers in the styles of models, made from references of every type: right ones are accepted, different ones are not.

CORD_ANSWER_DATASETS may name further datasets (paths, separated by colons) of questions and answers.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from cord_worker.bench.answer_styles import STYLES, as_number, in_all_styles
from cord_worker.bench.answer_values import evaluate, values_differ
from cord_worker.bench.answers import AnswerFigures, Reference, measure_answers, other_pairs
from cord_worker.cli import cli
from cord_worker.dataset import RejectedRecord, read_problems
from cord_worker.verify import Rule

pytestmark = pytest.mark.slow

OWN = Path(__file__).resolve().parents[2] / "fixtures" / "references" / "answers.jsonl"
DATASETS = [OWN, *(Path(path) for path in os.environ.get("CORD_ANSWER_DATASETS", "").split(":") if path)]


def references(path: Path) -> list[Reference]:
    found = []
    for number, record in enumerate(read_problems(path), start=1):
        assert not isinstance(record, RejectedRecord)
        found.append(Reference(number, record.answer, record.question))
    return found


@pytest.fixture(scope="module", params=DATASETS, ids=lambda path: path.stem)
def measured(request: pytest.FixtureRequest) -> AnswerFigures:
    path: Path = request.param
    return measure_answers(path.stem, references(path), rule=Rule(), others=True, processes=2, timeout_seconds=60)


@pytest.mark.long
def test_every_reference_is_written_in_twenty_styles_or_more(measured: AnswerFigures) -> None:
    assert measured.least_styles >= 20
    assert len(STYLES) >= 40


def test_99_of_100_styles_are_accepted(measured: AnswerFigures) -> None:
    missed = [(miss["style"], miss["reference"], miss["answer"]) for miss in measured.misses]
    assert measured.accepted_share >= 0.99, missed


def test_no_answer_with_a_different_value_is_accepted(measured: AnswerFigures) -> None:
    wrong = [(miss["reference"], miss["answer"]) for miss in measured.misses if miss["style"] == "another answer"]
    assert wrong == []
    assert measured.others_accepted == 0
    assert measured.other_pairs > 1000


def test_a_large_integer_is_also_written_as_money_in_a_box() -> None:
    assert in_all_styles("70000")["dollar sign in a box"] == r"He pays $\boxed{\$70,000}$."
    assert in_all_styles("70000")["thousands with braced commas"] == r"$\boxed{70{,}000}$"
    assert "thousands with commas" not in in_all_styles("700")


@pytest.mark.parametrize(
    ("reference", "decimal"), [(r"\frac{5}{8}", "0.625"), (r"-\frac{7}{4}", "-1.75"), ("3", "3.0"), ("12.50", "12.5")]
)
def test_an_exact_decimal_is_one_of_the_styles(reference: str, decimal: str) -> None:
    assert in_all_styles(reference)["exact decimal"] == f"Thus the result is $\\boxed{{{decimal}}}$."


@pytest.mark.parametrize("reference", [r"\frac{1}{3}", r"\sqrt{2}", r"\text{odd}", "(1,2)"])
def test_a_rounded_decimal_is_none_of_the_styles(reference: str) -> None:
    assert "exact decimal" not in in_all_styles(reference)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (r"\frac{1}{2}", "0.5"),
        (r"\dfrac12", r"\frac{1}{2}"),
        ("x+1", "1 + x"),
        (r"2\sqrt{2}", r"\sqrt{8}"),
        ("(n+8)(n-3)", "n^2+5n-24"),
        ("2, 7", "7, 2"),
        (r"3 \pm \sqrt2", r"3-\sqrt{2}, 3+\sqrt{2}"),
        (r"36^\circ", "36"),
        (r"\$1,250", "1250"),
        (r"\text{(C)}", "C"),
        ("x=4", "4"),
        ("52_8", "52"),
        (r"180^\circ", r"\pi"),
        (r"-\frac{\pi}{6}", r"-30^\circ"),
    ],
)
def test_references_of_equal_value_form_no_pair(left: str, right: str) -> None:
    assert not values_differ(left, right)
    assert not values_differ(right, left)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("7", "8"),
        ("0.3", r"\frac{1}{3}"),
        ("x+1", "x+2"),
        ("r", "R"),
        ("(1,2)", "(1,3)"),
        ("52_8", "53_8"),
        ("B", "C"),
        (r"90^\circ", r"\pi"),
    ],
)
def test_references_of_different_values_form_a_pair(left: str, right: str) -> None:
    assert values_differ(left, right)


def test_the_evaluator_reads_numbers_letters_and_functions_and_reports_what_it_cannot_read() -> None:
    assert as_number(r"-\frac{3}{4}") == -0.75
    assert evaluate(r"\frac{\sqrt{16}}{2}+3^{2}") == pytest.approx(11)
    assert evaluate("2i^2") == pytest.approx(-2)
    assert evaluate(r"\unknown{3}") is None
    assert evaluate("9^(9^9)") is None


def test_a_reference_is_paired_once_with_every_reference_of_a_different_value() -> None:
    made = list(other_pairs([Reference(1, "3", None), Reference(2, "3.0", None), Reference(3, "5", "How many?")]))
    assert [(pair.reference, pair.answer, pair.question) for pair in made] == [
        ("3", r"Therefore $\boxed{5}$.", None),
        ("5", r"Therefore $\boxed{3}$.", "How many?"),
    ]


def test_the_command_prints_one_object_for_scripts(tmp_path: Path) -> None:
    path = tmp_path / "two.jsonl"
    path.write_text('{"question": "How many?", "answer": "12"}\n{"question": "How long?", "answer": "3.5"}\n')
    result = CliRunner().invoke(
        cli, ["bench", "answers", str(path), "--against-others", "--json", "--timeout", "60"], catch_exceptions=False
    )
    assert result.exit_code == 0
    (found,) = json.loads(result.output.splitlines()[-1])["datasets"]
    assert (found["references"], found["other_pairs"], found["others_accepted"]) == (2, 2, 0)
    assert found["pairs"] == sum(counts["pairs"] for counts in found["styles"].values())
