"""The examples of docs/examples run as their pages say, and what comes out is what they show.

`CORD_TEST_WRITE_EXAMPLES=1` writes the files that they show.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cord_worker.config import RunConfig, model_location
from cord_worker.presets.smollm2_weights import find_smollm2
from tests.support.cordctl_process import Cordctl
from tests.support.openai_local_server import LocalServer

EXAMPLES = Path(__file__).parents[3] / "docs" / "examples"
NAMES = sorted(path.parent.name for path in EXAMPLES.glob("*/README.md"))
BUNDLED = ["bundled-models", "process-reward-model"]
HOSTED = ["api-teachers", "chinese", "multiple-choice", "open-ended"]
NOT_RUN = ["paper-settings"]
WRITES = os.environ.get("CORD_TEST_WRITE_EXAMPLES") == "1"
PROVER = "bundled:prover"
"""A tokenizer in place of that of the prover, which is not on this machine."""


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    pytest.importorskip("httpx2")
    from tests.support.example_server import example_server

    with example_server(Path(model_location(PROVER))).running() as running:
        yield running


def copied(cordctl: Cordctl, name: str) -> Path:
    """Copies the example's files into the folder of `cordctl`; returns the path of its cord.toml."""
    for file in ("cord.toml", "problems.jsonl"):
        shutil.copy(EXAMPLES / name / file, cordctl.folder / file)
    return cordctl.folder / "cord.toml"


def replaced(config: Path, changes: dict[str, str]) -> None:
    text = config.read_text(encoding="utf-8")
    for pattern, value in changes.items():
        assert re.search(pattern, text), pattern
        text = re.sub(pattern, value, text)
    config.write_text(text, encoding="utf-8")


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def without_scores(row: dict[str, Any]) -> dict[str, Any]:
    """What must be equal on every machine: neither the last digits of scores nor the day, the version, the address."""
    steps = [{name: value for name, value in step.items() if name != "score"} for step in row["steps"]]
    kept = {name: value for name, value in row.items() if name not in {"score", "base_score", "steps", "provenance"}}
    return {**kept, "steps": steps}


def scores(row: dict[str, Any]) -> list[float]:
    return [row["score"], row["base_score"], *(step["score"] for step in row["steps"])]


def run(cordctl: Cordctl, name: str) -> None:
    """Runs the example's command, and compares its result with the one shown (or writes that)."""
    command = next(line for line in commands(name) if line.startswith("cordctl run "))
    cordctl(*command.split()[1:], timeout=280)
    written, shown = cordctl.folder / "out.jsonl", EXAMPLES / name / "out.jsonl"
    if WRITES:
        shutil.copy(written, shown)
    for row, expected in zip(rows(written), rows(shown), strict=True):
        assert without_scores(row) == without_scores(expected)
        assert scores(row) == pytest.approx(scores(expected), rel=1e-3)


def commands(name: str) -> list[str]:
    return re.findall(r"^ {4}(.+)$", (EXAMPLES / name / "README.md").read_text(encoding="utf-8"), re.MULTILINE)


def test_every_example_is_run_here_or_named_as_one_that_is_not() -> None:
    assert sorted([*BUNDLED, *HOSTED, *NOT_RUN, "smollm2"]) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_an_example_has_a_valid_dataset_and_configuration(cordctl: Cordctl, name: str) -> None:
    config = copied(cordctl, name)
    RunConfig.load(config)
    if name in HOSTED or name in NOT_RUN or name == "smollm2":
        # Counting tokens needs tokenizers that are not on this machine.
        assert "2 problems" in cordctl("validate", "problems.jsonl").stdout
    else:
        assert "3 problems" in cordctl("validate", "problems.jsonl", "--config", "cord.toml").stdout


@pytest.mark.parametrize("name", [name for name in NAMES if name not in NOT_RUN])
def test_the_result_that_is_shown_belongs_to_the_problems(name: str) -> None:
    given, shown = rows(EXAMPLES / name / "problems.jsonl"), rows(EXAMPLES / name / "out.jsonl")
    assert [row["id"] for row in shown] == [row["id"] for row in given]
    assert all(row["steps"] and row["final_answer"] for row in shown)


@pytest.mark.long
@pytest.mark.parametrize("name", BUNDLED)
def test_an_example_with_bundled_models_writes_what_it_shows(cordctl: Cordctl, name: str) -> None:
    copied(cordctl, name)
    run(cordctl, name)


@pytest.mark.long
@pytest.mark.parametrize("name", HOSTED)
def test_an_example_with_models_on_servers_writes_what_it_shows(
    cordctl: Cordctl, server: LocalServer, name: str
) -> None:
    hosted = server.url.removesuffix("/v1") + "/hosted"
    changes = {
        r"https://\w+\.example\.com/v1": hosted,
        r"http://127\.0\.0\.1:8000/v1": server.url,
        r'path = "Qwen/Qwen2\.5-7B-Instruct"': f'path = "{PROVER}"',
        r"\[models\.prover\.openai\]\n": '[models.prover.openai]\nmodel = "Qwen/Qwen2.5-7B-Instruct"\n',
    }
    replaced(copied(cordctl, name), changes)
    run(cordctl, name)


@pytest.mark.slow
@pytest.mark.long
def test_the_example_with_real_language_runs(cordctl: Cordctl) -> None:
    weights = find_smollm2()
    if weights is None or not all(importlib.util.find_spec(package) for package in ("gguf", "accelerate")):
        pytest.skip("SmolLM2's weights, or the packages that read them, are not installed")
    config = copied(cordctl, "smollm2")
    path = f'path = "{weights.parent}"\ngguf_file = "{weights.name}"\nthreads = 1'
    replaced(config, {r'path = "HuggingFaceTB/SmolLM2-135M-Instruct"': path})
    cordctl("run", "problems.jsonl", "-o", "out.jsonl", timeout=580)
    if WRITES:
        shutil.copy(cordctl.folder / "out.jsonl", EXAMPLES / "smollm2" / "out.jsonl")
    written, shown = rows(cordctl.folder / "out.jsonl"), rows(EXAMPLES / "smollm2" / "out.jsonl")
    # Real models write other text on other processors.
    assert [row["id"] for row in written] == [row["id"] for row in shown]
    for row, one in zip(written, shown, strict=True):
        assert list(row) == list(one)
        assert {step["teacher"] for step in row["steps"]} <= {"cool", "warm", "hot"}
        assert 0.0 < row["score"] <= 1.0


def test_the_papers_settings_are_those_of_the_preset(cordctl: Cordctl) -> None:
    printed = cordctl("init", "--preset", "paper-hetero").stdout
    assert (EXAMPLES / "paper-settings" / "cord.toml").read_text(encoding="utf-8") == printed
