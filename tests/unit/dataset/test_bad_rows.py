"""A bad row is rejected with its place, field and reason, and the other rows are read."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cord_worker.dataset import ProblemRecord, RejectedRecord, read_problems
from tests.support.dataset_files import GOOD, only_rejected, problems, rejected_line, write


def test_a_last_line_without_an_end_is_read_but_a_torn_one_is_named(tmp_path: Path) -> None:
    assert len(problems(write(tmp_path / "whole.jsonl", f"{GOOD}\n{GOOD}"))) == 2

    torn = only_rejected(write(tmp_path / "torn.jsonl", f"{GOOD}\n{GOOD[:20]}"))
    assert torn.location == "torn.jsonl:2"
    assert "torn" in torn.reason
    assert torn.raw == GOOD[:20]


@pytest.mark.parametrize(
    ("line", "field", "reason"),
    [
        ('{"question": "q", "answer": "a", "id": "b"', None, "not JSON"),
        ("[1, 2]", None, "JSON array, not an object"),
        ("17", None, "JSON number, not an object"),
        (f"{GOOD} {GOOD}", None, "more than one JSON value"),
        ('{"question": "", "answer": "a", "id": "b"}', "question", "is empty"),
        ('{"question": " \\n\\t ", "answer": "a", "id": "b"}', "question", "is empty"),
        ('{"question": 5, "answer": "a", "id": "b"}', "question", "is of type int"),
        ('{"question": null, "answer": "a", "id": "b"}', "question", "is missing"),
        ('{"question": "q", "answer": "  ", "id": "b"}', "answer", "is empty"),
        ('{"question": "q", "id": "b"}', "answer", "is missing"),
        ('{"question": "q", "answer": [], "id": "b"}', "answer", "is an empty list"),
        ('{"question": "q", "answer": ["a", null], "id": "b"}', "answer", "element 1 is missing"),
        ('{"question": "q", "answer": {"text": "a"}, "id": "b"}', "answer", "object with the fields text"),
        ('{"question": "q", "answer": true, "id": "b"}', "answer", "is a boolean"),
        ('{"question": "q", "answer": NaN, "id": "b"}', None, "holds NaN"),
        ('{"question": "q", "answer": "a", "id": "b", "x": [-Infinity]}', None, "holds -Infinity"),
        ('{"question": "q", "answer": "a", "id": "b", "x": 1e999}', None, "too large"),
        ('{"question": "q", "answer": "a", "id": "b", "x": ' + "9" * 5000 + "}", None, "number of 5000 digits"),
        ('{"question": "q", "answer": "a"}', "id", "is missing"),
        ('{"question": "q", "answer": "a", "id": 1.5}', "id", "is of type float"),
        ('{"question": "q", "answer": "a", "id": true}', "id", "is of type bool"),
        ('{"question": "q", "answer": "a", "id": "' + "k" * 600 + '"}', "id", "at most 512"),
        ('{"question": "q", "answer": "a", "id": "b", "answer": "c"}', None, "'answer' twice"),
        ('{"question": "q", "answer": "a", "id": "b", "x": {"y": 1, "y": 2}}', None, "'y' twice"),
        ('{"question": "q\\u0000", "answer": "a", "id": "b"}', "question", "NUL character at position 1"),
        ('{"question": "q\0", "answer": "a", "id": "b"}', None, "not JSON"),
        ('{"question": "q", "answer": "a\\ud800", "id": "b"}', "answer", "surrogate pair"),
        ('{"question": "q", "answer": "a", "id": "b", "x": {"y": ["\\udc80"]}}', "x.y[0]", "surrogate pair"),
        ('{"question": "q", "answer": "a", "id": "b", "x\\u0000": 1}', None, "whose name holds a NUL"),
        ('{"question": "q", "answer": "a", "id": "b", "x": ' + "[" * 150 + "]" * 150 + "}", "x", "deeper than 100"),
        ('{"question": "q", "answer": "a", "x": ' + "[" * 100_000, None, "deeper than 100"),
        (b'{"question": "caf\xe9", "answer": "a", "id": "b"}', None, "byte 0xe9 at byte 18 of the line"),
    ],
    ids=str,
)
def test_a_bad_line_is_refused_with_its_field_and_the_other_lines_are_read(
    tmp_path: Path, line: str | bytes, field: str | None, reason: str
) -> None:
    rejected = rejected_line(tmp_path, line)

    assert reason in rejected.reason
    assert (rejected.field or "").startswith(field or "")
    assert bool(rejected.field) == bool(field)


def test_a_byte_that_is_not_utf_8_is_named_by_its_offset_in_the_file(tmp_path: Path) -> None:
    line = b'{"question": "caf\xe9", "answer": "a", "id": "b"}'
    table = b"question,answer\na,1\ncaf\xe9,2\n"

    assert f"byte offset {len(GOOD) + 1 + 17} of the file" in rejected_line(tmp_path, line).reason
    rejected = only_rejected(write(tmp_path / "d.csv", table))
    assert rejected.location == "d.csv:3"
    assert f"byte offset {table.index(0xE9)} of the file" in rejected.reason


def test_a_line_over_the_cap_is_skipped_without_being_held(tmp_path: Path) -> None:
    rejected = rejected_line(tmp_path, '{"question": "' + "x" * (40 << 20) + '"}')

    assert "longer than 16 MiB" in rejected.reason
    assert isinstance(rejected.raw, str)
    assert len(rejected.raw) < 5000


def test_the_columns_are_learnt_from_more_rows_than_a_bad_first_one(tmp_path: Path) -> None:
    path = write(tmp_path / "d.jsonl", f'{{"question": "no answer", "id": "z"}}\n{GOOD}\n')

    assert [type(record) for record in read_problems(path)] == [RejectedRecord, ProblemRecord]


@pytest.mark.parametrize(
    ("rows", "location", "reason"),
    [
        ("a,1\nb,2,3\nc,3\n", "d.csv:3", "3 columns, the header 2"),
        ("a,1\nb\nc,3\n", "d.csv:3", "1 columns, the header 2"),
        ('a,1\n"b"x,2\nc,3\n', "d.csv:3", "closing quote"),
        ('a,1\n"b,2\nc,3\n', "d.csv:3", "never closed"),
        ("a,1\nb\0,2\n", "d.csv:3", "NUL"),
        ("a,1\n ,2\n", "d.csv:3", "is empty"),
    ],
)
def test_a_bad_csv_row_is_refused(tmp_path: Path, rows: str, location: str, reason: str) -> None:
    rejected = only_rejected(write(tmp_path / "d.csv", "question,answer\n" + rows))

    assert rejected.location == location
    assert reason in rejected.reason


def test_a_quote_that_is_never_closed_does_not_fill_the_memory(tmp_path: Path) -> None:
    path = write(tmp_path / "d.csv", 'question,answer\na,1\n"b,2\n' + "c,3\n" * 5_000_000)
    rejected = next(record for record in read_problems(path) if isinstance(record, RejectedRecord))

    assert rejected.location == "d.csv:3"
    assert "16 MiB" in rejected.reason
    assert "never closed" in rejected.reason


def test_an_element_of_an_array_is_refused_in_its_place(tmp_path: Path) -> None:
    bad = ['{"question": "q", "answer": "\\ud800", "id": "a"}', "17", '{"question": "q", "question": "r"}']
    path = write(tmp_path / "d.json", "[" + ",\n".join([GOOD, *bad, GOOD]) + "]")
    found = list(read_problems(path))

    assert [type(record) for record in found] == [ProblemRecord, *[RejectedRecord] * 3, ProblemRecord]
    assert [record.location for record in found] == [f"d.json:{n + 1}[{n}]" for n in range(5)]


def test_bytes_of_an_array_that_are_not_utf_8_reject_only_their_row(tmp_path: Path) -> None:
    bad = b'{"question": "caf\xe9", "answer": "a", "id": "b"}'
    path = write(tmp_path / "d.json", b"[" + GOOD.encode() + b"," + bad + b"," + GOOD.encode() + b"]")
    rejected = only_rejected(path)

    assert rejected.field == "question"
    assert "not valid UTF-8" in rejected.reason


def test_a_bad_cell_of_a_table_rejects_only_its_row(tmp_path: Path) -> None:
    good, bad = b"fine", b"caf\xe9"
    texts = pa.array([good, bad, good], pa.binary()).view(pa.string())
    numbers = pa.array([1.0, 2.0, float("inf")])
    pq.write_table(pa.table({"question": texts, "answer": ["1", "2", "3"], "x": numbers}), tmp_path / "d.parquet")
    found = list(read_problems(tmp_path / "d.parquet"))

    assert [type(record) for record in found] == [ProblemRecord, RejectedRecord, RejectedRecord]
    assert "UTF-8" in found[1].reason  # type: ignore[union-attr]
    assert (found[2].location, found[2].field) == ("d.parquet:3", "x")  # type: ignore[union-attr]


def test_a_blank_before_a_quote_is_named(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text('question,answer\nq, "7"\nsay "a", 7 "b"\n', encoding="utf-8")
    spaced, plain = read_problems(path)
    assert isinstance(spaced, RejectedRecord)
    assert (spaced.location, spaced.field) == ("d.csv:2", "answer")
    assert "blank before its opening quote" in spaced.reason
    assert isinstance(plain, ProblemRecord)
    assert (plain.question, plain.answer) == ('say "a"', '7 "b"')
