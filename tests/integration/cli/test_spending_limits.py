"""A run that reaches its spending limit."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cord_worker.engines.instant import takes
from tests.support.cordctl_process import CONFIG, Cordctl

PRICES = 'currency = "EUR"\n' + "".join(f"[models.{name}]\ninput = 2\noutput = 10\n" for name in ("alpha", "judge"))


def document(cordctl: Cordctl, *arguments: str) -> Any:
    return json.loads(cordctl(*arguments, "--json").stdout)


@pytest.mark.long
def test_a_run_is_paused_at_its_limit_and_goes_on_with_a_higher_one(cordctl: Cordctl) -> None:
    rows: list[dict[str, object]] = [
        {"question": f"What is {n} + {n}? {takes(0.5)}", "answer": str(2 * n)} for n in range(2)
    ]
    cordctl.write_problems(*rows)
    config = cordctl.folder / "cord.toml"
    config.write_text(CONFIG + "max_tokens = 1\n", encoding="utf-8")
    run = ("run", "problems.jsonl", "--run", "mine", "-o", "out.jsonl")
    paused = cordctl(*run, exits=3)
    assert "run mine is paused:" in paused.stderr
    assert "of at most 1 (run.max_tokens). Nothing is lost." in paused.stderr
    assert "cordctl resume mine --max-tokens N" in paused.stderr
    assert not (cordctl.folder / "out.jsonl").exists()

    status = document(cordctl, "status", "mine")
    assert status["state"] == "paused"
    assert status["problems"]["failed"] == 0
    assert status["candidates"]["proposing"] == status["candidates"]["scoring"] == 0
    spent = status["spending"]["tokens"]
    generated, _, limit = status["pause_reason"].partition(" ")
    assert 1 <= int(generated.replace(",", "")) <= spent
    assert limit in (f"generated {noun}, of at most 1 (run.max_tokens)" for noun in ("token", "tokens"))
    assert "paused (spending limit)" in cordctl("runs").stdout
    assert document(cordctl, "runs")["runs"][0]["pause_reason"] == status["pause_reason"]
    assert sum(row["completion_tokens"] for row in document(cordctl, "cost", "mine")["models"]) == spent

    assert "Continue it with a higher limit" in cordctl("resume", "mine", exits=1).stderr
    assert "of at most 1 (" in cordctl("resume", "mine", "--max-tokens", "1", exits=1).stderr
    assert "give --prices FILE" in cordctl("resume", "mine", "--max-cost", "5", exits=1).stderr
    assert document(cordctl, "runs")["runs"][0]["state"] == "paused"
    (cordctl.folder / "prices.toml").write_text(PRICES, encoding="utf-8")
    limits = ("--max-tokens", "none", "--max-cost", "100", "--prices", "prices.toml")
    resumed = document(cordctl, "resume", "mine", *limits)
    assert (resumed["state"], resumed["max_tokens"], resumed["max_cost"]) == ("active", None, 100.0)
    # The file's limit is the one that it had before, so the one of the command stays.
    cordctl(*run)
    assert len((cordctl.folder / "out.jsonl").read_text(encoding="utf-8").splitlines()) == 2
    assert document(cordctl, "status", "mine")["spending"]["max_cost"] == 100.0
