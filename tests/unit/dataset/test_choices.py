"""Multiple choice as datasets publish it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from cord_worker.dataset import Change, ProblemRecord, RejectedRecord, read_problems
from cord_worker.errors import DatasetError
from tests.support.dataset_files import only_problem, read_rows, reason_of_refusal

RIVERS = ["Rhine", "Oder", "Elbe"]


@pytest.mark.parametrize(
    ("row", "answer"),
    [
        ({"choices": RIVERS, "answer": 2}, "C"),
        ({"choices": RIVERS, "answer": "B"}, "B"),
        ({"choices": RIVERS, "answer": "(B)"}, "B"),
        ({"choices": RIVERS, "answer": "Elbe"}, "C"),
        ({"options": RIVERS, "answer": "1"}, "B"),
        ({"choices": RIVERS, "answer": "c"}, "C"),
        ({"choices": RIVERS, "answer": "b)"}, "B"),
        ({"choices": RIVERS, "answer": "B. Oder"}, "B"),
        ({"choices": RIVERS, "answer": "C)Elbe"}, "C"),
        ({"choices": RIVERS, "answer": "It flows north: $\\boxed{B}$"}, "B"),
        ({"choices": RIVERS, "answer": "It flows north.\n#### B"}, "B"),
        ({"options": ["A) Rhine", "B) Oder", "C) Elbe"], "answer": "A"}, "A"),
        ({"options": {"A": "Rhine", "B": "Oder", "C": "Elbe"}, "answer": "Oder"}, "B"),
        ({"choices": {"text": RIVERS, "label": ["A", "B", "C"]}, "answerKey": "C"}, "C"),
        (
            {
                "choices": [{"text": text, "label": label} for text, label in zip(RIVERS, "ABC", strict=True)],
                "answer": "A",
            },
            "A",
        ),
        ({"A": "Rhine", "B": "Oder", "C": "Elbe", "D": "Main", "answer": "D"}, "D"),
        ({"A": "Rhine", "B": "Oder", "C": "Elbe", "answer": "1"}, "B"),
        ({**dict(zip("ABCDEF", [*RIVERS, "Main", "Isar", "Lech"], strict=True)), "answer": 5}, "F"),
    ],
    ids=str,
)
def test_the_answer_is_the_label_and_the_question_lists_the_choices(
    tmp_path: Path, row: dict[str, Any], answer: str
) -> None:
    problem = only_problem(tmp_path, {"question": "Which river?", **row})
    assert problem.answer == answer
    assert problem.question.startswith("Which river?\n\nA. Rhine\nB. Oder\nC. Elbe")
    assert [note.change for note in problem.notes] == [Change.CHOICE]


def test_numeric_labels_are_not_read_as_indices(tmp_path: Path) -> None:
    row = {"question": "q", "choices": {"text": RIVERS, "label": ["1", "2", "3"]}, "answerKey": "3"}
    problem = only_problem(tmp_path, row)
    assert (problem.answer, problem.question) == ("3", "q\n\n1. Rhine\n2. Oder\n3. Elbe")


def test_a_question_that_lists_its_choices_is_left_as_it_is(tmp_path: Path) -> None:
    question = "Which? (A) Rhine (B) Oder (C) Elbe"
    assert only_problem(tmp_path, {"question": question, "choices": RIVERS, "answer": 0}).question == question


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"choices": RIVERS, "answer": 3}, "none of the choices .*counts from 0"),
        ({"choices": RIVERS, "answer": -1}, "none of the choices"),
        ({"choices": RIVERS, "answer": 0.5}, "none of the choices"),
        ({"choices": RIVERS, "answer": "Weser"}, "none of the choices"),
        ({"choices": ["2", "3", "0"], "answer": "2"}, "may mean C or A"),
        ({"choices": ["B", "A"], "answer": "A"}, "may mean A or B"),
        ({"choices": ["Rhine"], "answer": 0}, "at least two"),
        ({"choices": ["Rhine", " "], "answer": 0}, "none of them empty"),
        ({"choices": "Rhine, Oder", "answer": 0}, "write the choices as a list"),
        ({"choices": {"text": RIVERS, "label": ["A", "A", "B"]}, "answer": "A"}, "different label"),
    ],
    ids=str,
)
def test_a_choice_that_is_not_clear_is_refused(tmp_path: Path, row: dict[str, Any], reason: str) -> None:
    assert re.search(reason, reason_of_refusal(tmp_path, {"question": "q", **row}))


def test_a_text_and_index_that_name_the_same_choice_are_accepted(tmp_path: Path) -> None:
    assert only_problem(tmp_path, {"question": "q", "choices": ["2", "1", "0"], "answer": "1"}).answer == "B"


def test_an_integer_is_an_index_unless_it_is_the_text_of_another_choice(tmp_path: Path) -> None:
    assert only_problem(tmp_path, {"question": "q", "choices": ["40", "30", "20"], "answer": 1}).answer == "B"
    assert only_problem(tmp_path, {"question": "q", "choices": ["40", "30", "20"], "answer": 20}).answer == "C"
    assert only_problem(tmp_path, {"question": "q", "choices": ["0", "1", "2"], "answer": 1}).answer == "B"
    assert "may mean B or D" in reason_of_refusal(
        tmp_path, {"question": "q", "choices": ["4", "3", "2", "1"], "answer": 1}
    )


def test_an_empty_column_between_choices_shifts_no_index(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text("question,A,B,C,D,answer\nq,one,,three,four,2\nq,one,,three,four,1\n", encoding="utf-8")
    right, missing = read_problems(path)
    assert isinstance(right, ProblemRecord)
    assert right.answer == "C"
    assert isinstance(missing, RejectedRecord)


def test_columns_of_choices_with_a_gap_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="D is missing"):
        read_rows(tmp_path, {"question": "q", "A": "a", "B": "b", "C": "c", "E": "e", "answer": "A"})


def test_a_choice_counts_as_listed_only_if_it_is_complete(tmp_path: Path) -> None:
    for question in ("Which? A. 15 B. 2", "Which? A. 1 m B. 2", "Which? (A) 1.5 (B) 2"):
        assert only_problem(tmp_path, {"question": question, "choices": ["1", "2"], "answer": "A"}).question != question
    for question in ("Which? A. 1, B. 2", "Which?\nA) 1\nB) 2\nChoose.", "Which? A: 1. B: 2. Choose."):
        assert only_problem(tmp_path, {"question": question, "choices": ["1", "2"], "answer": "A"}).question == question
