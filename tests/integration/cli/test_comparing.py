"""`cordctl compare` and `cordctl cost`."""

from __future__ import annotations

import json

import pytest
from cordctl_process import Cordctl


@pytest.fixture(scope="module")
def two_runs(finished: Cordctl) -> Cordctl:
    """Beside `done` a run called `other` of the same problems with another seed."""
    config = (finished.folder / "cord.toml").read_text(encoding="utf-8")
    changed = config.replace("[run]\n", "[run]\nseed = 5\n") if "[run]\n" in config else f"{config}\n[run]\nseed = 5\n"
    (finished.folder / "other.toml").write_text(changed, encoding="utf-8")
    finished("run", "problems.jsonl", "--config", "other.toml", "--run", "other", "-o", "other.jsonl")
    return finished


def lines(cordctl: Cordctl, name: str) -> list[dict]:  # type: ignore[type-arg]
    return [json.loads(line) for line in (cordctl.folder / name).read_text(encoding="utf-8").splitlines()]


def test_runs_are_compared_on_the_problems_that_they_share(two_runs: Cordctl) -> None:
    document = json.loads(two_runs("compare", "done", "other", "--json").stdout)
    assert document["problems"] == 5
    done, other = document["runs"]
    assert (done["run"], other["run"]) == ("done", "other")
    for run, name in ((done, "out.jsonl"), (other, "other.jsonl")):
        exported = lines(two_runs, name)
        assert run["score"]["mean"] == pytest.approx(sum(line["score"] for line in exported) / 5)
        assert run["accuracy"]["mean"] == pytest.approx(sum(bool(line["correct"]) for line in exported) / 5)
        assert run["score"]["low"] <= run["score"]["mean"] <= run["score"]["high"]
    assert done["score_difference"] is None
    assert other["score_difference"]["mean"] == pytest.approx(other["score"]["mean"] - done["score"]["mean"])
    table = two_runs("compare", "done", "other").stdout
    assert "5 problems in common" in table


def test_a_run_compared_with_itself_differs_by_nothing(two_runs: Cordctl) -> None:
    document = json.loads(two_runs("compare", "done", "done", "--json").stdout)
    assert document["runs"][1]["score_difference"] == {"mean": 0.0, "low": 0.0, "high": 0.0}


def test_runs_without_a_common_problem_are_refused(two_runs: Cordctl) -> None:
    (two_runs.folder / "else.jsonl").write_text('{"id": "x", "question": "1 + 1?", "answer": "2"}\n', encoding="utf-8")
    two_runs("run", "else.jsonl", "--run", "elsewhere", "-o", "else-out.jsonl")
    assert "share no finished problem" in two_runs("compare", "done", "elsewhere", exits=1).stderr


def test_the_cost_adds_up_to_the_tokens_of_the_run(two_runs: Cordctl) -> None:
    document = json.loads(two_runs("cost", "done", "--json").stdout)
    status = json.loads(two_runs("status", "done", "--json").stdout)
    assert document["problems"] == 5
    generated = sum(row["completion_tokens"] for row in document["models"])
    assert generated == status["tokens"]
    kinds = {row["kind"]: row for row in document["models"]}
    assert set(kinds) == {"propose", "score", "answer"}
    assert kinds["answer"]["requests"] == 5
    assert kinds["score"]["completion_tokens"] == 0
    for row in document["models"]:
        assert 0 <= row["engine_seconds"] <= row["request_seconds"] + 1e-6
    assert "engine s" in two_runs("cost", "done").stdout
