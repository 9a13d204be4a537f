"""`cordctl eval` of a bundled model, from the first sample to the figures, and again."""

from __future__ import annotations

import json

import pytest

from cord_worker.demo.problems import generate
from tests.support.cordctl_process import Cordctl, problem

PROBLEMS = 10
SAMPLES = 4
EVAL = (
    *("eval", "benchmark.jsonl", "--model", "bundled:closer", "--engine", "transformers", "--samples", str(SAMPLES)),
    *("--max-tokens", "128", "--answer-tokens", "48", "--category", "kind", "--run", "closer", "-o", "samples.jsonl"),
    "--json",
)


@pytest.mark.long
def test_a_bundled_model_is_sampled_and_counted_once(cordctl: Cordctl) -> None:
    cordctl.write_problems(
        *(
            dict[str, object](id=one.id, question=one.question, answer=one.answer, kind=("even", "odd")[index % 2])
            for index, one in enumerate(generate(PROBLEMS, seed=1, split="heldout"))
        ),
        name="benchmark.jsonl",
    )
    # Threads of one small model wait for each other if other processes use the cores.
    cordctl.environment["OMP_NUM_THREADS"] = "1"
    found = json.loads(cordctl(*EVAL, timeout=480).stdout)
    assert (found["run"], found["pipeline"], found["samples"], found["unfinished"]) == ("closer", "sample", SAMPLES, 0)
    (model,) = found["models"]
    assert (model["name"], model["model"], model["problems"]) == ("closer", "bundled:closer", PROBLEMS)
    answers = model["answers"]
    assert sum(answers.values()) == PROBLEMS * SAMPLES
    assert set(model["pass_at"]) == {"1", "2", "4"}
    means = [model["pass_at"][k]["mean"] for k in ("1", "2", "4")]
    assert means == sorted(means)
    assert {value: of["problems"] for value, of in model["categories"]["kind"].items()} == {"even": 5, "odd": 5}
    assert model["tokens"]["thinking"] > 0
    assert found["run_seconds"] > 0

    text = (cordctl.folder / "samples.jsonl").read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    assert len(lines) == PROBLEMS * SAMPLES - answers["missing"]
    assert sum(bool(line["correct"]) for line in lines) == answers["correct"]
    assert means[0] == pytest.approx(answers["correct"] / (PROBLEMS * SAMPLES - answers["undecided"]))
    assert [line["sample"] for line in lines[:SAMPLES]] == list(range(SAMPLES))
    assert all(line["score"] is None and line["provenance"]["prover_model"] is None for line in lines)

    assert json.loads(cordctl(*EVAL).stdout) == found
    assert (cordctl.folder / "samples.jsonl").read_text(encoding="utf-8") == text
    assert json.loads(cordctl("eval", "--of", "closer", "--category", "kind", "--json").stdout) == found
    views(cordctl, answers)


def views(cordctl: Cordctl, answers: dict[str, int]) -> None:
    """Checks every other view of a run without prover and winner."""
    status = json.loads(cordctl("status", "closer", "--json").stdout)
    assert status["problems"]["done"] == PROBLEMS
    assert status["correct"] == answers["correct"]
    assert status["mean_score"] is None
    assert status["candidates"]["unfinished"] == 0
    assert "closer" in cordctl("status", "closer").stdout
    assert "closer" in cordctl("stats", "closer").stdout
    (row,) = json.loads(cordctl("runs", "--json").stdout)["runs"]
    assert (row["state"], row["mean_score"]) == ("finished", None)
    compared = json.loads(cordctl("compare", "closer", "closer", "--json").stdout)
    assert compared["runs"][1]["score"] is None
    assert compared["runs"][1]["score_difference"] is None
    assert compared["runs"][1]["accuracy_difference"]["mean"] == 0
    kinds = {row["kind"] for row in json.loads(cordctl("cost", "closer", "--json").stdout)["models"]}
    assert kinds == {"propose", "answer"}
    cordctl("export", "closer", "-o", "right.jsonl", "--only-correct")
    right = (cordctl.folder / "right.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(right) == answers["correct"]
    table = cordctl("eval", "--of", "closer", "--category", "kind").stdout
    assert "pass@4" in table
    assert "closer by kind" in table
    error = cordctl("eval", "--of", "closer", "--category", "sort", exits=1).stderr
    assert "category 'sort': no row of the run 'closer' has such a field; there are: kind" in error


@pytest.mark.long
def test_a_model_of_cord_toml_is_named_by_its_key(cordctl: Cordctl) -> None:
    cordctl.write_problems(problem(1), problem(2), name="benchmark.jsonl")
    found = json.loads(cordctl("eval", "benchmark.jsonl", "--model", "alpha", "--samples", "2", "--json").stdout)
    assert found["models"][0]["name"] == "alpha"
    assert found["models"][0]["answers"]["missing"] == 0
    assert "There are: alpha, judge" in cordctl("eval", "benchmark.jsonl", "--model", "gamma", exits=1).stderr
    assert "--of RUN" in cordctl("eval", "benchmark.jsonl", exits=2).stderr
