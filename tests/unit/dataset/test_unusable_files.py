"""A file or folder that cannot be a dataset is an error that names it and the cause."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import Any

import pytest

from cord_worker.dataset import read_problems
from cord_worker.errors import DatasetError
from tests.support.dataset_files import GOOD, as_folder, as_gzip, as_jsonl, as_parquet, write


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
        ("d.json", "17", "not a JSON array"),
        ("d.json", '{"a": [1], "b": [2]}', "two arrays, 'a' and 'b'"),
        ("d.json", f"[{GOOD}", "cut off"),
        ("d.json", f"[{GOOD[:-9]}", "not JSON, or cut off"),
        ("d.json", f"[{GOOD}] x", "something follows"),
        ("d.json", f"[{GOOD},]", "comma before"),
        ("d.json", f"[{GOOD} {GOOD}]", "was expected"),
        ("d.json", f"{GOOD}\n{GOOD}", "without an array|something follows"),
        ("d.json", "[" * 100_000, "nested too deep|cut off"),
        ("d.csv", "question,answer\n", "holds no rows"),
        ("d.csv", "question,answer,answer\na,b,c\n", "'answer' twice"),
        ("d.csv", '"question,answer\n', "header line cannot be read"),
        ("d.parquet", "PAR1 and nothing", "cannot be read"),
        ("d.jsonl.gz", "not compressed", "not a complete gzip file"),
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
    with pytest.raises(DatasetError, match="not a saved dataset"):
        list(read_problems(tmp_path))
    with pytest.raises(DatasetError, match="leave out --split"):
        list(read_problems(as_jsonl(tmp_path), split="train"))


@pytest.mark.parametrize("written", [as_parquet, as_gzip])
def test_a_truncated_binary_file_is_an_error(tmp_path: Path, written: Any) -> None:
    path = written(tmp_path)
    path.write_bytes(path.read_bytes()[:-20])

    with pytest.raises(DatasetError, match=r"cut off|not a complete gzip file"):
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


def test_a_stream_that_is_cut_between_two_batches_is_an_error(tmp_path: Path) -> None:
    folder = as_folder(tmp_path)
    last = folder / "data-00001-of-00002.arrow"
    last.write_bytes(last.read_bytes()[:-8])

    with pytest.raises(DatasetError, match="cut off"):
        list(read_problems(folder))


def test_one_problem_that_holds_a_list_of_objects_is_not_a_list_of_problems(tmp_path: Path) -> None:
    path = tmp_path / "d.json"
    path.write_text('{"Problem": "q", "hints": [{"question": "a", "answer": "b"}], "answer": 1}', encoding="utf-8")
    with pytest.raises(DatasetError, match="is one problem"):
        list(read_problems(path))
    path.write_text('{"prompt": "sent before", "rows": [{"question": "a", "answer": "b"}]}', encoding="utf-8")
    assert len(list(read_problems(path))) == 1


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
    with pytest.raises(DatasetError, match="not a plain file"):
        list(read_problems(tmp_path / "d.jsonl"))
