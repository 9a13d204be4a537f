"""Folders in the hub's layout."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cord_worker.dataset import ProblemRecord, read_problems
from cord_worker.errors import DatasetError


def put(folder: Path, name: str, *questions: str) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"question": question, "answer": "1"} for question in questions or (name,)]
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def questions(folder: Path, split: str | None = None) -> list[str]:
    records = list(read_problems(folder, split=split))
    assert all(isinstance(record, ProblemRecord) for record in records)
    return [record.question for record in records if isinstance(record, ProblemRecord)]


def card(folder: Path, front: str) -> None:
    (folder / "README.md").write_text(f"---\n{front}\n---\n# A dataset\n", encoding="utf-8")


def test_the_files_of_a_split_are_read_in_order_and_located(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    for number in (2, 0, 1):
        put(folder, f"data/train-{number:05d}-of-00003.parquet", str(number))
    card(folder, "license: mit")
    records = list(read_problems(folder))
    assert [record.question for record in records if isinstance(record, ProblemRecord)] == ["0", "1", "2"]
    assert records[1].location == "set/data/train-00001-of-00003.parquet:1"


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (["data/train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet"], ["test", "train"]),
        (["train.jsonl", "dev.jsonl"], ["train", "validation"]),
        (["train/a.jsonl", "train/b.jsonl", "test/a.jsonl"], ["test", "train"]),
        (["data/hard-00000-of-00001.parquet", "data/easy-00000-of-00001.parquet"], ["easy", "hard"]),
        (
            ["main/train-00000-of-00001.parquet", "main/test-00000-of-00001.parquet", "plain/train.jsonl"],
            ["main/test", "main/train", "plain/train"],
        ),
    ],
    ids=str,
)
def test_several_splits_are_named_and_one_is_chosen(tmp_path: Path, names: list[str], splits: list[str]) -> None:
    for name in names:
        put(tmp_path, name)
    with pytest.raises(DatasetError, match=f"several splits: choose one with --split: {', '.join(splits)}"):
        questions(tmp_path)
    assert sorted(question for split in splits for question in questions(tmp_path, split)) == sorted(names)
    with pytest.raises(DatasetError, match="no split 'none': choose one with --split"):
        questions(tmp_path, "none")


def test_a_split_that_only_one_configuration_has_needs_no_configuration(tmp_path: Path) -> None:
    for name in ("main/train.jsonl", "main/test.jsonl", "plain/train.jsonl"):
        put(tmp_path, name)
    assert questions(tmp_path, "test") == ["main/test.jsonl"]
    assert questions(tmp_path, "plain") == ["plain/train.jsonl"]
    with pytest.raises(DatasetError, match=r"'train' more than once: choose one with --split: main/train, plain/train"):
        questions(tmp_path, "train")


def test_the_card_decides_if_it_names_files(tmp_path: Path) -> None:
    for name in ("a/one.jsonl", "a/two.jsonl", "b/three.jsonl", "old/train.jsonl"):
        put(tmp_path, name)
    card(
        tmp_path,
        "configs:\n- config_name: default\n  data_files:\n  - split: train\n    path: a/*\n  - split: test\n    path:\n"
        "    - b/three.jsonl",
    )
    assert questions(tmp_path, "train") == ["a/one.jsonl", "a/two.jsonl"]
    assert questions(tmp_path, "test") == ["b/three.jsonl"]
    card(tmp_path, 'configs:\n- config_name: default\n  data_files: "b/*.jsonl"')
    assert questions(tmp_path) == ["b/three.jsonl"]


def test_what_the_card_lists_keeps_its_order_and_a_split_named_twice_is_one(tmp_path: Path) -> None:
    for name in ("a.jsonl", "b.jsonl", "c.jsonl"):
        put(tmp_path, name)
    entries = "".join(f"  - split: train\n    path: {path}\n" for path in ("[c.jsonl, a.jsonl]", "b.jsonl", "a.jsonl"))
    card(tmp_path, f"configs:\n- config_name: default\n  data_files:\n{entries}")
    assert questions(tmp_path) == ["c.jsonl", "a.jsonl", "b.jsonl"]


@pytest.mark.parametrize(
    ("front", "message"),
    [
        ("configs:\n- config_name: x\n  data_files:\n  - split: train\n    path: gone/*", "is incomplete.*gone"),
        ("configs:\n- config_name: x\n  data_files: ../secret.jsonl", "outside the folder"),
        ("configs: [", "is not YAML"),
    ],
)
def test_a_card_that_does_not_fit_its_folder_is_an_error(tmp_path: Path, front: str, message: str) -> None:
    put(tmp_path, "train.jsonl")
    card(tmp_path, front)
    with pytest.raises(DatasetError, match=message):
        questions(tmp_path)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["data/train-00000-of-00003.parquet", "data/train-00002-of-00003.parquet"], "incomplete: .* number 00001"),
        (["train.jsonl", "train.parquet"], r"several kinds"),
        (["notes.txt"], r"no data files \(it holds .txt files\)"),
        ([".cache/train.jsonl", "dataset_infos.json"], "no data files"),
    ],
    ids=str,
)
def test_an_incomplete_or_ambiguous_folder_is_refused(tmp_path: Path, names: list[str], message: str) -> None:
    for name in names:
        put(tmp_path, name)
    with pytest.raises(DatasetError, match=message):
        questions(tmp_path)


def test_a_file_of_rejected_rows_is_not_data(tmp_path: Path) -> None:
    put(tmp_path, "train.jsonl")
    put(tmp_path, "train.jsonl.rejects.jsonl")
    assert questions(tmp_path) == ["train.jsonl"]


def test_a_folder_with_too_many_files_is_refused_before_it_is_walked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cord_worker.dataset.folders._MOST_ENTRIES", 3)
    for number in range(5):
        put(tmp_path, f"{number}.jsonl")
    with pytest.raises(DatasetError, match=r"more than 3 files.*Name the folder of the dataset itself"):
        questions(tmp_path)


def test_too_deeply_nested_folders_are_not_a_dataset(tmp_path: Path) -> None:
    put(tmp_path, "/".join(["a"] * 8) + "/train.jsonl", "deep")
    assert questions(tmp_path) == ["deep"]
    put(tmp_path, "/".join(["a"] * 9) + "/train.jsonl", "deeper")
    with pytest.raises(DatasetError, match="folders more than 8 deep"):
        questions(tmp_path)
