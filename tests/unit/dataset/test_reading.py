"""Files of every format, folders and splits give the same problems."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cord_worker.dataset import FieldMapping, ProblemRecord, read_problems
from cord_worker.errors import DatasetError
from tests.support.dataset_files import FORMATS, GOOD, ROWS, as_folder, as_parquet, problems, save_stream, write


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


def test_a_csv_field_may_be_long(tmp_path: Path) -> None:
    (problem,) = problems(write(tmp_path / "d.csv", f'question,answer\n"{"long " * 100_000}",1\n'))

    assert len(problem.question) == 499_999


def test_an_array_is_read_across_the_borders_of_its_chunks(tmp_path: Path) -> None:
    rows = [{"question": "é" * 70_000 + f" {n}", "answer": n} for n in range(40)]
    path = write(tmp_path / "d.json", json.dumps(rows, ensure_ascii=False))

    assert [p.answer for p in problems(path)] == [str(n) for n in range(40)]


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
