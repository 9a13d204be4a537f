"""Multiple choice, lists and messages as datasets publish them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cord_worker.dataset import Change, FieldMapping, ProblemRecord, RejectedRecord, read_problems
from cord_worker.errors import DatasetError

RIVERS = ["Rhine", "Oder", "Elbe"]


def read(tmp_path: Path, *rows: dict[str, Any], **options: Any) -> list[ProblemRecord | RejectedRecord]:
    path = tmp_path / "d.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return list(read_problems(path, **options))


def only(tmp_path: Path, row: dict[str, Any], **options: Any) -> ProblemRecord:
    (problem,) = read(tmp_path, row, **options)
    assert isinstance(problem, ProblemRecord), problem
    return problem


def refusal(tmp_path: Path, row: dict[str, Any]) -> str:
    (refused,) = read(tmp_path, row)
    assert isinstance(refused, RejectedRecord), refused
    return refused.reason


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
    problem = only(tmp_path, {"question": "Which river?", **row})
    assert problem.answer == answer
    assert problem.question.startswith("Which river?\n\nA. Rhine\nB. Oder\nC. Elbe")
    assert [note.change for note in problem.notes] == [Change.CHOICE]


def test_labels_that_are_numbers_are_labels(tmp_path: Path) -> None:
    row = {"question": "q", "choices": {"text": RIVERS, "label": ["1", "2", "3"]}, "answerKey": "3"}
    problem = only(tmp_path, row)
    assert (problem.answer, problem.question) == ("3", "q\n\n1. Rhine\n2. Oder\n3. Elbe")


def test_a_question_that_lists_its_choices_is_left_as_it_is(tmp_path: Path) -> None:
    question = "Which? (A) Rhine (B) Oder (C) Elbe"
    assert only(tmp_path, {"question": question, "choices": RIVERS, "answer": 0}).question == question


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"choices": RIVERS, "answer": 3}, "none of the choices .*counts from 0"),
        ({"choices": RIVERS, "answer": -1}, "none of the choices"),
        ({"choices": RIVERS, "answer": 0.5}, "none of the choices"),
        ({"choices": RIVERS, "answer": "Weser"}, "none of the choices"),
        ({"choices": ["2", "1", "0"], "answer": "1"}, None),
        ({"choices": ["2", "3", "0"], "answer": "2"}, "may mean C or A"),
        ({"choices": ["B", "A"], "answer": "A"}, "may mean A or B"),
        ({"choices": ["Rhine"], "answer": 0}, "at least two"),
        ({"choices": ["Rhine", " "], "answer": 0}, "none of them empty"),
        ({"choices": "Rhine, Oder", "answer": 0}, "write the choices as a list"),
        ({"choices": {"text": RIVERS, "label": ["A", "A", "B"]}, "answer": "A"}, "different label"),
    ],
    ids=str,
)
def test_a_choice_that_is_not_clear_is_refused(tmp_path: Path, row: dict[str, Any], reason: str | None) -> None:
    row = {"question": "q", **row}
    if reason is None:
        assert only(tmp_path, row).answer == "B"
    else:
        assert re.search(reason, refusal(tmp_path, row))


def test_an_integer_is_an_index_unless_it_is_the_text_of_another_choice(tmp_path: Path) -> None:
    assert only(tmp_path, {"question": "q", "choices": ["40", "30", "20"], "answer": 1}).answer == "B"
    assert only(tmp_path, {"question": "q", "choices": ["40", "30", "20"], "answer": 20}).answer == "C"
    assert only(tmp_path, {"question": "q", "choices": ["0", "1", "2"], "answer": 1}).answer == "B"
    assert "may mean B or D" in refusal(tmp_path, {"question": "q", "choices": ["4", "3", "2", "1"], "answer": 1})


def test_an_empty_column_between_choices_shifts_no_index(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text("question,A,B,C,D,answer\nq,one,,three,four,2\nq,one,,three,four,1\n", encoding="utf-8")
    right, missing = read_problems(path)
    assert isinstance(right, ProblemRecord)
    assert right.answer == "C"
    assert isinstance(missing, RejectedRecord)


def test_columns_of_choices_with_a_gap_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="D is missing"):
        read(tmp_path, {"question": "q", "A": "a", "B": "b", "C": "c", "E": "e", "answer": "A"})


@pytest.mark.parametrize(
    ("late", "field"),
    [
        ({"choices": RIVERS}, "choices"),
        ({"Options": RIVERS}, "Options"),
        ({"id": "x"}, "id"),
        ({"passage": "Long ago"}, "passage"),
        ({"A": "a", "B": "b", "C": "c"}, "A"),
    ],
)
def test_a_field_that_first_appears_late_is_refused_by_name(tmp_path: Path, late: dict[str, Any], field: str) -> None:
    plain = {"question": "q", "answer": "a"}
    records = read(tmp_path, *[plain] * 40, {**plain, **late}, {**plain, "note": "x"})
    assert isinstance(records[-1], ProblemRecord)
    refused = records[-2]
    assert isinstance(refused, RejectedRecord)
    assert refused.field == field
    assert "the first rows" in refused.reason


def test_a_choice_counts_as_listed_only_if_it_is_complete(tmp_path: Path) -> None:
    for question in ("Which? A. 15 B. 2", "Which? A. 1 m B. 2", "Which? (A) 1.5 (B) 2"):
        assert only(tmp_path, {"question": question, "choices": ["1", "2"], "answer": "A"}).question != question
    for question in ("Which? A. 1, B. 2", "Which?\nA) 1\nB) 2\nChoose.", "Which? A: 1. B: 2. Choose."):
        assert only(tmp_path, {"question": question, "choices": ["1", "2"], "answer": "A"}).question == question


def test_a_list_is_read_as_its_values_in_order(tmp_path: Path) -> None:
    assert only(tmp_path, {"question": "q", "answer": ["7"]}).answer == "7"
    assert only(tmp_path, {"question": "q", "answer": [1.50, "x"]}).answer == "1.5, x"
    assert only(tmp_path, {"question": "q", "answer": ["1,5", "2"]}).answer == "1,5; 2"
    first = only(tmp_path, {"question": "q", "answer": ["a", "b"]}, mapping=FieldMapping(answer="answer.0"))
    assert (first.answer, first.metadata) == ("a", {"answer": ["a", "b"]})


def test_the_layout_of_reinforcement_learning_datasets_is_understood(tmp_path: Path) -> None:
    row = {
        "data_source": "sums",
        "prompt": [{"role": "system", "content": "Think."}, {"role": "user", "content": "3 + 4?"}],
        "reward_model": {"style": "rule", "ground_truth": "7"},
        "extra_info": {"index": 12},
    }
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "d.parquet")
    (problem,) = read_problems(tmp_path / "d.parquet", mapping=FieldMapping(id="extra_info.index"))
    assert isinstance(problem, ProblemRecord)
    assert (problem.key, problem.question, problem.answer) == ("12", "3 + 4?", "7")
    assert problem.metadata == row
    assert [note.change for note in problem.notes] == [Change.MESSAGES, Change.SYSTEM_TURN]


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        ([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "a turn of 'assistant'"),
        ([{"role": "user", "content": "a"}, {"role": "user", "content": "b"}], "2 turns of the user"),
        ([{"role": "system", "content": "a"}], "0 turns of the user"),
        ([{"role": "user", "content": [{"type": "image", "url": "x"}]}], "no text"),
        ([{"role": "user", "content": " "}], "is empty"),
        (["a"], "is of type list"),
        ({"stem": "a", "x": 1}, "object with the fields stem, x"),
    ],
)
def test_messages_that_hold_no_single_question_are_refused(tmp_path: Path, prompt: Any, reason: str) -> None:
    assert reason in refusal(tmp_path, {"prompt": prompt, "answer": "1"})


def test_an_unknown_dotted_name_is_refused_with_the_existing_fields(tmp_path: Path) -> None:
    row = {"question": "q", "gold": {"text": "a", "score": 1}}
    with pytest.raises(DatasetError, match=r"no field 'gold.answer'.*'gold.text', 'gold.score'"):
        read(tmp_path, row, mapping=FieldMapping(answer="gold.answer"))
    assert only(tmp_path, row, mapping=FieldMapping(answer="gold.text")).answer == "a"


def test_a_field_whose_name_holds_a_dot_takes_precedence(tmp_path: Path) -> None:
    row = {"question": "q", "a.b": "own", "a": {"b": "nested"}}
    assert only(tmp_path, row, mapping=FieldMapping(answer="a.b")).answer == "own"
