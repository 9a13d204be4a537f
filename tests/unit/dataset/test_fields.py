"""Which fields hold the question, answer, passage and id, and how their values are read."""

from __future__ import annotations

import datetime
import decimal
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cord_worker.dataset import Change, FieldMapping, ProblemRecord, RejectedRecord, read_problems
from cord_worker.errors import DatasetError
from tests.support.dataset_files import problems, write


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ('"72"', "72"),
        ("72", "72"),
        ("72.0", "72.0"),
        ("0.5", "0.5"),
        ('" 7 \\n"', "7"),
        ("1.10", "1.10"),
        ("0.000002", "0.000002"),
        ("6.02E23", "6.02E23"),
        ("-0", "-0"),
        ("-0.00", "-0.00"),
        ("98765432109876543210987654321", "98765432109876543210987654321"),
        ("3.14159265358979323846", "3.14159265358979323846"),
    ],
)
@pytest.mark.parametrize("kind", ["jsonl", "json"])
def test_an_answer_in_json_keeps_the_text_it_has(tmp_path: Path, kind: str, value: str, text: str) -> None:
    row = f'{{"question": "q", "answer": {value}}}'
    (problem,) = problems(write(tmp_path / f"d.{kind}", row if kind == "jsonl" else f"[{row}]"))

    assert problem.answer == text


def test_a_key_is_the_given_id_or_made_from_the_content(tmp_path: Path) -> None:
    rows = [{"question": "q", "answer": "1", "id": 7}, {"question": "q", "answer": "1", "id": "7b"}]
    given_ids = problems(write(tmp_path / "given.jsonl", "\n".join(map(json.dumps, rows))))
    made = problems(write(tmp_path / "made.jsonl", '{"question": "q", "answer": "1"}\n{"question": "q", "answer": 2}'))
    again = problems(write(tmp_path / "again.csv", "answer,question,more\n1,q,x\n"))

    assert [p.key for p in given_ids] == ["7", "7b"]
    assert made[0].key == again[0].key != made[1].key
    assert len(made[0].key) == 16


@pytest.mark.parametrize(
    ("columns", "mapping", "question", "answer"),
    [
        ("problem,solution", FieldMapping(), "problem", "solution"),
        ("solution,answer,problem,question", FieldMapping(), "question", "answer"),
        ("Problem,ANSWER", FieldMapping(), "Problem", "ANSWER"),
        ("a,b", FieldMapping(question="b", answer="a"), "b", "a"),
        ("question,answer,gold", FieldMapping(answer="gold"), "question", "gold"),
    ],
)
def test_fields_are_found_by_their_usual_names_or_as_given(
    tmp_path: Path, columns: str, mapping: FieldMapping, question: str, answer: str
) -> None:
    path = write(tmp_path / "d.csv", f"{columns}\n{columns}\n")
    (problem,) = problems(path, mapping=mapping)

    assert (problem.question, problem.answer) == (question, answer)


@pytest.mark.parametrize(
    ("columns", "mapping", "message"),
    [
        ("text,answer", FieldMapping(), r"(?s)question .*'text', 'answer'.*--question-field"),
        ("question,gold", FieldMapping(), r"(?s)answer .*'question', 'gold'.*--answer-field"),
        ("question,solution,final_answer", FieldMapping(), r"could be 'solution' or 'final_answer'.*--answer-field"),
        ("question,Answer,ANSWER", FieldMapping(), r"could be 'Answer' or 'ANSWER'"),
        ("question,answer", FieldMapping(id="nr"), r"no field 'nr' \(--id-field\).*'question', 'answer'"),
    ],
)
def test_ambiguous_fields_end_the_reading_and_name_the_option(
    tmp_path: Path, columns: str, mapping: FieldMapping, message: str
) -> None:
    with pytest.raises(DatasetError, match=message):
        list(read_problems(write(tmp_path / "d.csv", f"{columns}\n{columns}\n"), mapping=mapping))


def test_a_passage_is_kept_apart_and_paragraphs_are_joined(tmp_path: Path) -> None:
    rows = [{"question": "q", "answer": "a", "context": value} for value in ("one", ["one", "two"], None, "")]
    path = write(tmp_path / "d.jsonl", "\n".join(map(json.dumps, rows)))

    assert [p.passage for p in problems(path)] == ["one", "one\n\ntwo", None, None]
    assert problems(path)[0].metadata == {}


def test_cells_of_a_table_become_json(tmp_path: Path) -> None:
    row = {
        "question": "q",
        "answer": 5,
        "when": datetime.datetime(2026, 1, 2, 3, 4, 5),
        "day": datetime.date(2026, 1, 2),
        "price": decimal.Decimal("1.50"),
        "raw": b"\x00\xff",
        "tags": [{"a": 1}],
    }
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "d.parquet")
    (problem,) = problems(tmp_path / "d.parquet")

    assert problem.answer == "5"
    assert problem.metadata == {
        "when": "2026-01-02T03:04:05",
        "day": "2026-01-02",
        "price": "1.50",
        "raw": "AP8=",
        "tags": [{"a": 1}],
    }


def test_the_input_of_an_instruction_is_never_dropped(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_text(
        '{"instruction": "Add.", "input": "3 and 4", "answer": "7"}\n'
        '{"instruction": "1 + 1?", "input": "", "answer": "2"}\n',
        encoding="utf-8",
    )
    refused, without = read_problems(path)
    assert isinstance(refused, RejectedRecord)
    assert refused.field == "input"
    assert "--passage-field input" in refused.reason
    assert isinstance(without, ProblemRecord)
    first = next(read_problems(path, mapping=FieldMapping(passage="input")))
    assert isinstance(first, ProblemRecord)
    assert first.passage == "3 and 4"
    asked = next(read_problems(path, mapping=FieldMapping(question="instruction")))
    assert isinstance(asked, ProblemRecord)
    assert (asked.question, asked.passage) == ("Add.", None)


def test_a_columns_name_may_look_like_a_path(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text("prompt,reward_model.ground_truth\nq,7\n", encoding="utf-8")
    (problem,) = read_problems(path)
    assert isinstance(problem, ProblemRecord)
    assert problem.answer == "7"


def test_missing_values_of_a_table_are_null_and_noted(tmp_path: Path) -> None:
    columns = {"question": ["p", "q"], "answer": [1.0, float("nan")], "level": [float("nan"), 2.0]}
    pq.write_table(pa.table(columns), tmp_path / "d.parquet")
    kept, refused = read_problems(tmp_path / "d.parquet")
    assert isinstance(kept, ProblemRecord)
    assert kept.metadata == {"level": None}
    assert [(note.change, note.field) for note in kept.notes] == [(Change.NOT_A_NUMBER, "level")]
    assert isinstance(refused, RejectedRecord)
    assert refused.field == "answer"


def test_nanoseconds_inside_a_list_and_a_missing_choice_are_read(tmp_path: Path) -> None:
    times = pa.array([[1_000_000_000, 1_500_000_001]], pa.list_(pa.timestamp("ns")))
    choices = pa.array([{"A": "a", "B": "b", "C": None}])
    pq.write_table(
        pa.table({"question": ["q"], "answer": ["B"], "choices": choices, "times": times}), tmp_path / "d.parquet"
    )
    (problem,) = read_problems(tmp_path / "d.parquet")
    assert isinstance(problem, ProblemRecord)
    assert (problem.question, problem.answer) == ("q\n\nA. a\nB. b", "B")
    assert problem.metadata["times"] == ["1970-01-01T00:00:01", "1970-01-01T00:00:01.500000001"]
