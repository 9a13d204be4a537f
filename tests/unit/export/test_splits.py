"""Splits by problem, and the entry by which LLaMA-Factory finds a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cord_worker.export.dataset_info import check_dataset_info, write_dataset_info
from cord_worker.export.files import ExportError
from cord_worker.export.format import OptionError
from cord_worker.export.splits import Splits


def test_a_problem_is_in_the_same_split_in_every_run_and_the_shares_are_kept() -> None:
    splits = Splits.parse("train=0.9, test=0.1")
    places = [splits.of(f"p{number}") for number in range(10_000)]
    assert places == [Splits.parse("train=0.9,test=0.1").of(f"p{number}") for number in range(10_000)]
    assert 850 < sum(place == 1 for place in places) < 1_150


def test_a_larger_share_keeps_the_problems_of_the_smaller_one() -> None:
    few, many = Splits.parse("train=0.5,test=0.5"), Splits.parse("train=0.8,test=0.2")
    keys = [f"p{number}" for number in range(1_000)]
    assert {key for key in keys if few.of(key) == 0} < {key for key in keys if many.of(key) == 0}


@pytest.mark.parametrize(
    ("output", "outputs"),
    [
        ("out.jsonl", ["out-train.jsonl", "out-test.jsonl"]),
        ("a.b/out.v2.JSONL.GZ", ["a.b/out.v2-train.JSONL.GZ", "a.b/out.v2-test.JSONL.GZ"]),
        ("out.parquet", ["out-train.parquet", "out-test.parquet"]),
    ],
)
def test_the_name_of_a_split_is_put_before_the_ending(output: str, outputs: list[str]) -> None:
    assert Splits.parse("train=0.9,test=0.1").outputs(output) == outputs


@pytest.mark.parametrize(
    "text", ["", "train", "train=x", "train=1.5.2", "=1", "a=0.5,a=0.5", "a=0,b=1", "../a=1", "a=1,"]
)
def test_a_list_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(OptionError, match=r"train=0\.9,test=0\.1|write different names"):
        Splits.parse(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a=1e-9,b=1", "'1e-9' is not a share"),
        ("a=0,b=1", "'0' is not a share"),
        ("a=0.5,a=0.5", "'a' is there twice"),
        ("a-b=0.5,c=0.5", "'a-b=0.5' is not a name with its share"),
        ("train", "'train' is not a name with its share"),
    ],
)
def test_the_error_names_the_part_that_is_wrong(text: str, reason: str) -> None:
    with pytest.raises(OptionError, match=reason):
        Splits.parse(text)


def test_shares_must_add_up_to_one() -> None:
    with pytest.raises(OptionError, match=r"add up to 0\.99999991, not to 1"):
        Splits.parse("train=0.9999999,test=0.00000001")
    with pytest.raises(OptionError, match=r"add up to 1\.2"):
        Splits.parse("train=0.9,test=0.3")
    assert Splits.parse("a=0.3,b=0.3,c=0.4").bounds[-1] == 1.0


@pytest.mark.parametrize("output", ["-", "/dev/null"])
def test_an_output_that_is_no_file_cannot_be_split(output: str) -> None:
    with pytest.raises(OptionError, match="name a file"):
        Splits.parse("a=0.5,b=0.5").outputs(output)


def test_an_entry_is_added_to_the_existing_ones(tmp_path: Path) -> None:
    (tmp_path / "dataset_info.json").write_text('{"other": {"file_name": "é.json"}}', encoding="utf-8")
    for _ in range(2):
        write_dataset_info([str(tmp_path / "out-train.jsonl"), str(tmp_path / "out-test.jsonl")], "alpaca")
    entries = json.loads((tmp_path / "dataset_info.json").read_text(encoding="utf-8"))
    assert list(entries) == ["other", "out-train", "out-test"]
    assert entries["other"] == {"file_name": "é.json"}
    assert entries["out-train"]["file_name"] == "out-train.jsonl"
    assert entries["out-train"]["columns"] == {"prompt": "instruction", "query": "input", "response": "output"}


@pytest.mark.parametrize("output", ["-", "out.jsonl.gz", "out.jsonl.zst"])
def test_a_file_that_llama_factory_does_not_read_is_refused(output: str) -> None:
    with pytest.raises(OptionError, match="LLaMA-Factory cannot read"):
        check_dataset_info([output])


@pytest.mark.parametrize("content", ["{", "[]"])
def test_a_damaged_dataset_info_is_not_replaced(tmp_path: Path, content: str) -> None:
    (tmp_path / "dataset_info.json").write_text(content, encoding="utf-8")
    with pytest.raises(ExportError, match="or leave out --dataset-info"):
        check_dataset_info([str(tmp_path / "out.jsonl")])
