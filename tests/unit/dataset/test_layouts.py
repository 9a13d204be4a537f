"""Layouts in which datasets publish rows: lists, messages, nested fields, and fields that only some rows have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cord_worker.dataset import Change, FieldMapping, ProblemRecord, RejectedRecord, read_problems
from cord_worker.errors import DatasetError
from tests.support.dataset_files import only_problem, read_rows, reason_of_refusal

RIVERS = ["Rhine", "Oder", "Elbe"]


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
    records = read_rows(tmp_path, *[plain] * 40, {**plain, **late}, {**plain, "note": "x"})
    assert isinstance(records[-1], ProblemRecord)
    refused = records[-2]
    assert isinstance(refused, RejectedRecord)
    assert refused.field == field
    assert "the first rows" in refused.reason


def test_a_list_is_read_as_its_values_in_order(tmp_path: Path) -> None:
    assert only_problem(tmp_path, {"question": "q", "answer": ["7"]}).answer == "7"
    assert only_problem(tmp_path, {"question": "q", "answer": [1.50, "x"]}).answer == "1.5, x"
    assert only_problem(tmp_path, {"question": "q", "answer": ["1,5", "2"]}).answer == "1,5; 2"
    first = only_problem(tmp_path, {"question": "q", "answer": ["a", "b"]}, mapping=FieldMapping(answer="answer.0"))
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
        ([{"role": "user", "content": [{"type": "image", "url": "x"}]}], "is not text"),
        ([{"role": "user", "content": " "}], "is empty"),
        (["a"], "is of type list"),
        ({"stem": "a", "x": 1}, "object with the fields stem, x"),
    ],
)
def test_messages_that_hold_no_single_question_are_refused(tmp_path: Path, prompt: Any, reason: str) -> None:
    assert reason in reason_of_refusal(tmp_path, {"prompt": prompt, "answer": "1"})


def test_an_unknown_dotted_name_is_refused_with_the_existing_fields(tmp_path: Path) -> None:
    row = {"question": "q", "gold": {"text": "a", "score": 1}}
    with pytest.raises(DatasetError, match=r"no field 'gold.answer'.*'gold.text', 'gold.score'"):
        read_rows(tmp_path, row, mapping=FieldMapping(answer="gold.answer"))
    assert only_problem(tmp_path, row, mapping=FieldMapping(answer="gold.text")).answer == "a"


def test_a_field_whose_name_holds_a_dot_takes_precedence(tmp_path: Path) -> None:
    row = {"question": "q", "a.b": "own", "a": {"b": "nested"}}
    assert only_problem(tmp_path, row, mapping=FieldMapping(answer="a.b")).answer == "own"
