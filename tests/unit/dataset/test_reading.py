from __future__ import annotations

import datetime
import decimal
import gzip
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cord_worker.dataset import Change, FieldMapping, ProblemRecord, RejectedRecord, read_problems
from cord_worker.errors import DatasetError

GOOD = '{"question": "1 + 1?", "answer": "2", "id": "a"}'


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def problems(path: Path, **options: Any) -> list[ProblemRecord]:
    records = list(read_problems(path, **options))
    assert not [record for record in records if isinstance(record, RejectedRecord)]
    return [record for record in records if isinstance(record, ProblemRecord)]


def only_rejected(path: Path, **options: Any) -> RejectedRecord:
    (rejected,) = [record for record in read_problems(path, **options) if isinstance(record, RejectedRecord)]
    return rejected


def rejected_line(tmp_path: Path, line: str | bytes) -> RejectedRecord:
    """The rejection of a line between two good ones, which must stay."""
    body = line if isinstance(line, bytes) else line.encode()
    path = write(tmp_path / "d.jsonl", GOOD.encode() + b"\n" + body + b"\n" + GOOD.encode() + b"\n")
    records = list(read_problems(path))
    assert [type(record) for record in records] == [ProblemRecord, RejectedRecord, ProblemRecord]
    rejected = records[1]
    assert isinstance(rejected, RejectedRecord)
    assert rejected.location == "d.jsonl:2"
    json.dumps(rejected.raw, allow_nan=False).encode()
    return rejected


ROWS: list[dict[str, Any]] = [
    {"question": f"What is {n} + {n}?", "answer": str(2 * n), "id": f"p{n}", "level": "x"} for n in range(5)
]


def as_jsonl(path: Path) -> Path:
    return write(path / "d.jsonl", "".join(json.dumps(row) + "\n" for row in ROWS))


def as_ndjson(path: Path) -> Path:
    return as_jsonl(path).rename(path / "d.ndjson")


def as_gzip(path: Path) -> Path:
    return write(path / "d.jsonl.gz", gzip.compress(as_jsonl(path).read_bytes()))


def as_json(path: Path) -> Path:
    return write(path / "d.json", json.dumps(ROWS, indent=1))


def as_json_object(path: Path) -> Path:
    return write(path / "d.json", json.dumps({"version": {"n": 1}, "data": ROWS, "count": 5}))


def as_csv(path: Path) -> Path:
    text = "id,question,answer,level\r\n" + "".join(
        f'{row["id"]},"{row["question"]}",{row["answer"]},x\r\n' for row in ROWS
    )
    return write(path / "d.csv", text)


def as_parquet(path: Path) -> Path:
    pq.write_table(pa.Table.from_pylist(ROWS), path / "d.parquet", row_group_size=2)
    return path / "d.parquet"


def save_stream(folder: Path, files: list[list[dict[str, Any]]]) -> Path:
    """The layout of `datasets.save_to_disk`."""
    folder.mkdir(parents=True)
    names = [f"data-{n:05d}-of-{len(files):05d}.arrow" for n in range(len(files))]
    for name, rows in zip(names, files, strict=True):
        table = pa.Table.from_pylist(rows)
        with pa.OSFile(str(folder / name), "wb") as out, pa.ipc.new_stream(out, table.schema) as stream:
            stream.write_table(table, max_chunksize=2)
    state = {"_data_files": [{"filename": name} for name in names], "_split": None}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text("{}")
    return folder


def as_folder(path: Path) -> Path:
    return save_stream(path / "d", [ROWS[:3], ROWS[3:]])


FORMATS = [as_jsonl, as_ndjson, as_gzip, as_json, as_json_object, as_csv, as_parquet, as_folder]


@pytest.mark.parametrize("written", FORMATS)
def test_every_format_gives_the_same_problems(tmp_path: Path, written: Any) -> None:
    found = problems(written(tmp_path))

    assert [(p.key, p.question, p.answer, p.passage, p.metadata) for p in found] == [
        (row["id"], row["question"], row["answer"], None, {"level": "x"}) for row in ROWS
    ]
    assert len({p.location for p in found}) == 5


@pytest.mark.parametrize("written", FORMATS)
def test_a_limit_reads_only_the_first_rows(tmp_path: Path, written: Any) -> None:
    assert [p.key for p in problems(written(tmp_path), limit=2)] == ["p0", "p1"]


def test_a_location_is_a_line_of_a_text_and_a_row_of_a_table(tmp_path: Path) -> None:
    text = write(tmp_path / "t.jsonl", f"\n\n{GOOD}\n\n{GOOD}")
    array = write(tmp_path / "t.json", f"[\n\n{GOOD},\n{GOOD}]")
    table = write(tmp_path / "t.csv", 'question,answer\n"two\nlines",1\n\nb,2\n')

    assert [p.location for p in problems(text)] == ["t.jsonl:3", "t.jsonl:5"]
    assert [p.location for p in problems(array)] == ["t.json:3[0]", "t.json:4[1]"]
    assert [p.location for p in problems(table)] == ["t.csv:2", "t.csv:5"]
    assert [p.location for p in problems(as_parquet(tmp_path))][-1] == "d.parquet:5"
    assert [p.location for p in problems(as_folder(tmp_path))][3] == "d/data-00001-of-00002.arrow:1"


def test_a_folder_that_the_datasets_library_saved_is_read(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    data = datasets.Dataset.from_list([*ROWS, {**ROWS[0], "id": "last"}]).select([5, 1])
    data.save_to_disk(str(tmp_path / "one"))
    datasets.DatasetDict(train=data, test=data.select([0])).save_to_disk(str(tmp_path / "both"))

    assert [p.key for p in problems(tmp_path / "one")] == ["last", "p1"]
    assert [p.key for p in problems(tmp_path / "both", split="test")] == ["last"]


def test_a_folder_of_several_splits_needs_the_name_of_one(tmp_path: Path) -> None:
    root = tmp_path / "both"
    save_stream(root / "train", [ROWS[:2]])
    save_stream(root / "test", [ROWS[2:]])
    write(root / "dataset_dict.json", '{"splits": ["train", "test"]}')

    assert [p.key for p in problems(root, split="train")] == ["p0", "p1"]
    with pytest.raises(DatasetError, match=r"several splits: choose one with --split: train, test"):
        list(read_problems(root))
    with pytest.raises(DatasetError, match=r"no split 'dev'"):
        list(read_problems(root, split="dev"))


def test_the_only_split_needs_no_name(tmp_path: Path) -> None:
    save_stream(tmp_path / "d" / "train", [ROWS])
    write(tmp_path / "d" / "dataset_dict.json", '{"splits": ["train"]}')

    assert len(problems(tmp_path / "d")) == 5


def test_a_byte_order_mark_crlf_and_blank_lines_change_nothing(tmp_path: Path) -> None:
    bom = b"\xef\xbb\xbf"
    line = write(tmp_path / "d.jsonl", bom + GOOD.encode() + b"\r\n\r\n  \r\n" + GOOD.encode() + b"\r\n")
    array = write(tmp_path / "d.json", bom + f"[{GOOD}]\r\n".encode())
    table = write(tmp_path / "d.csv", bom + b"question,answer\r\n1 + 1?,2\r\n\r\n")

    assert [len(problems(path)) for path in (line, array, table)] == [2, 1, 1]


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


def test_the_columns_are_learnt_from_more_rows_than_a_bad_first_one(tmp_path: Path) -> None:
    path = write(tmp_path / "d.jsonl", f'{{"question": "no answer", "id": "z"}}\n{GOOD}\n')

    assert [type(record) for record in read_problems(path)] == [RejectedRecord, ProblemRecord]


def test_a_passage_is_kept_apart_and_paragraphs_are_joined(tmp_path: Path) -> None:
    rows = [{"question": "q", "answer": "a", "context": value} for value in ("one", ["one", "two"], None, "")]
    path = write(tmp_path / "d.jsonl", "\n".join(map(json.dumps, rows)))

    assert [p.passage for p in problems(path)] == ["one", "one\n\ntwo", None, None]
    assert problems(path)[0].metadata == {}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("d.txt", "x", "unknown kind of file '.txt'"),
        ("d", "x", "no extension"),
        ("d.parquet.gz", "x", "unknown kind"),
        ("d.jsonl", "", "is empty"),
        ("d.jsonl", "\n \n", "holds no rows"),
        ("d.jsonl", "{\n", "no readable row"),
        ("d.json", "[]", "holds no rows"),
        ("d.json", "{}", "without an array"),
        ("d.json", "17", "no JSON array"),
        ("d.json", '{"a": [1], "b": [2]}', "two arrays, 'a' and 'b'"),
        ("d.json", f"[{GOOD}", "cut off"),
        ("d.json", f"[{GOOD[:-9]}", "not JSON, or cut off"),
        ("d.json", f"[{GOOD}] x", "something follows"),
        ("d.json", f"[{GOOD},]", "comma stands before"),
        ("d.json", f"[{GOOD} {GOOD}]", "was expected"),
        ("d.json", f"{GOOD}\n{GOOD}", "without an array|something follows"),
        ("d.json", "[" * 100_000, "nested too deep|cut off"),
        ("d.csv", "question,answer\n", "holds no rows"),
        ("d.csv", "question,answer,answer\na,b,c\n", "'answer' twice"),
        ("d.csv", '"question,answer\n', "header line cannot be read"),
        ("d.parquet", "PAR1 and nothing", "cannot be read"),
        ("d.jsonl.gz", "not compressed", "not a whole gzip file"),
    ],
)
def test_an_unusable_file_is_an_error_that_names_it(tmp_path: Path, name: str, content: str, message: str) -> None:
    path = write(tmp_path / name, content)

    with pytest.raises(DatasetError, match=message) as raised:
        list(read_problems(path))
    assert str(path) in str(raised.value)


def test_a_missing_file_a_foreign_folder_and_a_split_of_a_file_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="does not exist"):
        list(read_problems(tmp_path / "none.jsonl"))
    with pytest.raises(DatasetError, match="no saved dataset"):
        list(read_problems(tmp_path))
    with pytest.raises(DatasetError, match="leave out --split"):
        list(read_problems(as_jsonl(tmp_path), split="train"))


@pytest.mark.parametrize("written", [as_parquet, as_gzip])
def test_a_truncated_binary_file_is_an_error(tmp_path: Path, written: Any) -> None:
    path = written(tmp_path)
    path.write_bytes(path.read_bytes()[:-20])

    with pytest.raises(DatasetError, match=r"cut off|not a whole gzip file"):
        list(read_problems(path))


def test_a_folder_with_a_missing_or_truncated_file_is_an_error(tmp_path: Path) -> None:
    folder = as_folder(tmp_path)
    last = folder / "data-00001-of-00002.arrow"
    last.write_bytes(last.read_bytes()[:300])
    with pytest.raises(DatasetError, match="cut off"):
        list(read_problems(folder))
    last.unlink()
    with pytest.raises(DatasetError, match="is missing"):
        list(read_problems(folder))


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


def test_a_csv_field_may_be_long(tmp_path: Path) -> None:
    (problem,) = problems(write(tmp_path / "d.csv", f'question,answer\n"{"long " * 100_000}",1\n'))

    assert len(problem.question) == 499_999


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


def test_an_array_is_read_across_the_borders_of_its_chunks(tmp_path: Path) -> None:
    rows = [{"question": "é" * 70_000 + f" {n}", "answer": n} for n in range(40)]
    path = write(tmp_path / "d.json", json.dumps(rows, ensure_ascii=False))

    assert [p.answer for p in problems(path)] == [str(n) for n in range(40)]


def test_a_stream_that_is_cut_between_two_batches_is_an_error(tmp_path: Path) -> None:
    folder = as_folder(tmp_path)
    last = folder / "data-00001-of-00002.arrow"
    last.write_bytes(last.read_bytes()[:-8])

    with pytest.raises(DatasetError, match="cut off"):
        list(read_problems(folder))


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


def test_a_bad_cell_of_a_table_rejects_only_its_row(tmp_path: Path) -> None:
    good, bad = b"fine", b"caf\xe9"
    texts = pa.array([good, bad, good], pa.binary()).view(pa.string())
    numbers = pa.array([1.0, 2.0, float("inf")])
    pq.write_table(pa.table({"question": texts, "answer": ["1", "2", "3"], "x": numbers}), tmp_path / "d.parquet")
    found = list(read_problems(tmp_path / "d.parquet"))

    assert [type(record) for record in found] == [ProblemRecord, RejectedRecord, RejectedRecord]
    assert "UTF-8" in found[1].reason  # type: ignore[union-attr]
    assert (found[2].location, found[2].field) == ("d.parquet:3", "x")  # type: ignore[union-attr]


def test_importing_it_loads_no_pyarrow() -> None:
    code = "import sys, cord_worker.dataset; print('pyarrow' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert run.stdout.strip() == "False"


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(st.dictionaries(st.sampled_from(["question", "answer", "id", "x"]), JSON_VALUES), max_size=6))
def test_any_row_gives_one_record_that_json_can_hold(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]
) -> None:
    rows = [{"question": "q", "answer": "a"}, *rows]
    folder = tmp_path_factory.mktemp("any")
    line = write(folder / "d.jsonl", "\n".join(map(json.dumps, rows)))
    array = write(folder / "d.json", json.dumps(rows))
    mapping = FieldMapping(question="question", answer="answer")
    of_lines, of_array = list(read_problems(line, mapping=mapping)), list(read_problems(array, mapping=mapping))

    assert len(of_lines) == len(of_array) == len(rows)
    for one, other in zip(of_lines, of_array, strict=True):
        assert type(one) is type(other)
        if isinstance(one, ProblemRecord):
            assert one.question
            assert one.answer
            assert "\\u0000" not in json.dumps(one.metadata, allow_nan=False)
            json.dumps(one.metadata, ensure_ascii=False).encode()


@given(st.binary(max_size=300), st.sampled_from(["d.jsonl", "d.json", "d.csv", "d.parquet", "d.jsonl.gz"]))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes, name: str) -> None:
    path = write(tmp_path_factory.mktemp("bytes") / name, data)
    try:
        records = list(read_problems(path))
    except DatasetError:
        return
    assert records


def test_a_blank_before_a_quote_is_named(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text('question,answer\nq, "7"\nsay "a", 7 "b"\n', encoding="utf-8")
    spaced, plain = read_problems(path)
    assert isinstance(spaced, RejectedRecord)
    assert (spaced.location, spaced.field) == ("d.csv:2", "answer")
    assert "blank before its opening quote" in spaced.reason
    assert isinstance(plain, ProblemRecord)
    assert (plain.question, plain.answer) == ('say "a"', '7 "b"')


def test_one_problem_that_holds_a_list_of_objects_is_not_a_list_of_problems(tmp_path: Path) -> None:
    path = tmp_path / "d.json"
    path.write_text('{"Problem": "q", "hints": [{"question": "a", "answer": "b"}], "answer": 1}', encoding="utf-8")
    with pytest.raises(DatasetError, match="is one problem"):
        list(read_problems(path))
    path.write_text('{"prompt": "sent before", "rows": [{"question": "a", "answer": "b"}]}', encoding="utf-8")
    assert len(list(read_problems(path))) == 1


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


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("d.jsonl", b"Entry not found", "no such file"),
        ("d.jsonl", b"<?xml version='1.0'?><a/>", "is XML"),
        ("d.jsonl", b"%PDF-1.7\n", "is a PDF"),
        ("d.csv", b"question,answer\rq,1\rr,2\r", "carriage returns alone"),
        ("d.jsonl.gz", gzip.compress(gzip.compress(b'{"question": "q", "answer": "1"}\n')), "compressed twice"),
        ("d.json", b'{"question": ["q", "r"], "answer": ["1", "2"]}', "written by columns"),
        ("d.jsonl", b'{"question": "q", "answer": ' + b"7" * 5_000 + b"}\n", "number of 5000 digits"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_rejection_names_its_cause(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DatasetError, match=message):
        list(read_problems(tmp_path / name))


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "d.jsonl")
    with pytest.raises(DatasetError, match="no plain file"):
        list(read_problems(tmp_path / "d.jsonl"))
