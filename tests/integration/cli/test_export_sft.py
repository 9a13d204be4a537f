"""`cordctl export --format sft`, and the filters that both formats share."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest

from tests.support.cordctl_process import Cordctl

SFT = ("--format", "sft", "--student", "bundled:closer")


def lines(cordctl: Cordctl, name: str) -> list[dict]:  # type: ignore[type-arg]
    return [json.loads(line) for line in (cordctl.folder / name).read_text(encoding="utf-8").splitlines()]


@pytest.mark.long
def test_a_row_is_the_trajectory_of_the_export_split_at_the_opening_of_the_thinking(finished: Cordctl) -> None:
    report = finished("export", "done", "-o", "sft.jsonl", *SFT).stderr
    assert "5 trajectories to sft.jsonl" in report
    for row, line in zip(lines(finished, "sft.jsonl"), lines(finished, "out.jsonl"), strict=True):
        assert list(row) == ["id", "prompt", "completion"]
        assert row["id"] == line["id"]
        assert f"<think>\n{row['completion']}" == line["trajectory"]
        assert line["question"] in row["prompt"]


def test_parquet_by_the_name_of_the_file_and_lines_on_standard_output(finished: Cordctl) -> None:
    finished("export", "done", "-o", "sft.parquet", *SFT)
    rows = pq.read_table(finished.folder / "sft.parquet").to_pylist()
    printed = finished("export", "done", "-o", "-", *SFT).stdout
    assert rows == [json.loads(line) for line in printed.splitlines()]


@pytest.mark.parametrize("form", [(), SFT], ids=["jsonl", "sft"])
def test_a_least_score_and_correctness_choose_the_same_problems_in_both_formats(
    finished: Cordctl, form: tuple[str, ...]
) -> None:
    known = lines(finished, "out.jsonl")
    least = sorted(line["score"] for line in known)[2]
    report = finished("export", "done", "-o", "good.jsonl", "--min-score", str(least), *form).stderr
    chosen = [line["id"] for line in known if line["score"] >= least]
    assert 0 < len(chosen) < 5
    assert [row["id"] for row in lines(finished, "good.jsonl")] == chosen
    assert f"{5 - len(chosen)} finished ones left out" in report
    finished("export", "done", "-o", "correct.jsonl", "--only-correct", *form)
    assert [row["id"] for row in lines(finished, "correct.jsonl")] == [line["id"] for line in known if line["correct"]]


def test_the_student_and_its_format_go_together(finished: Cordctl) -> None:
    for options, said in (
        (("--format", "sft"), "needs --student MODEL"),
        (("--student", "bundled:closer"), "no meaning with --format jsonl"),
    ):
        assert said in finished("export", "done", "-o", "no.jsonl", *options, exits=2).stderr
    assert not (finished.folder / "no.jsonl").exists()


def test_an_unknown_student_is_named_before_anything_is_written(finished: Cordctl) -> None:
    error = finished("export", "done", "-o", "no.jsonl", "--format", "sft", "--student", "bundled:x", exits=1).stderr
    assert "no bundled model is called 'x'" in error
    assert not (finished.folder / "no.jsonl").exists()
