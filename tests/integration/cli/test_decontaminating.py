"""`cordctl contaminated` before a run, and `cordctl export --decontaminate` after it."""

from __future__ import annotations

import json

import pytest

from tests.support.cordctl_process import Cordctl


def lines(cordctl: Cordctl, name: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in (cordctl.folder / name).read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def benchmark(finished: Cordctl) -> str:
    """A benchmark with the question of the second problem of the run, in capitals."""
    question = str(lines(finished, "out.jsonl")[1]["question"])
    rows = [{"problem": "What is asked here?"}, {"problem": question.upper()}]
    (finished.folder / "benchmark.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return "benchmark.jsonl"


@pytest.mark.long
def test_an_export_leaves_out_the_problems_of_a_benchmark_and_says_how_many(finished: Cordctl, benchmark: str) -> None:
    everything = [line["id"] for line in lines(finished, "out.jsonl")]
    ended = finished("export", "done", "-o", "clean.jsonl", "--decontaminate", benchmark)
    assert [line["id"] for line in lines(finished, "clean.jsonl")] == [everything[0], *everything[2:]]
    assert "4 trajectories" in ended.stderr
    assert "1 problem left out because a benchmark has the question" in ended.stderr
    ended = finished("export", "done", "-o", "clean.jsonl", "--decontaminate", benchmark, "--json")
    report = json.loads(ended.stdout)
    assert (report["exported"], report["left_out"], report["contaminated"]) == (4, 1, 1)


def test_an_unreadable_benchmark_stops_the_export_before_it_writes(finished: Cordctl) -> None:
    (finished.folder / "odd.jsonl").write_text('{"text": "x"}\n', encoding="utf-8")
    ended = finished("export", "done", "-o", "none.jsonl", "--decontaminate", "odd.jsonl", exits=1)
    assert "--decontaminate-field" in ended.stderr
    assert not (finished.folder / "none.jsonl").exists()
    finished("export", "done", "-o", "none.jsonl", "--decontaminate-field", "x", exits=2)


def test_the_dataset_of_a_run_is_found_contaminated_before_it_runs(finished: Cordctl, benchmark: str) -> None:
    ended = finished("contaminated", "problems.jsonl", "--against", benchmark, "--json", exits=4)
    found = json.loads(ended.stdout)
    assert (found["contaminated"], found["by_kind"]["exact"]) == (1, 1)
    assert found["first"][0]["benchmark_location"] == "benchmark.jsonl:2"
