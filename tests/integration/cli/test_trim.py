"""`cordctl trim` and `export --trim` as users run them."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.cordctl_process import Cordctl, problem

ABOVE = "0.5"


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def kept(row: dict[str, Any], above: float) -> int:
    """How many steps of an exported trajectory stay."""
    scores = [step["score"] for step in row["steps"]]
    first = len(scores)
    while first and scores[first - 1] > above:
        first -= 1
    return first + 1 if first < len(scores) else len(scores)


@pytest.mark.long
def test_one_command_trims_a_run_with_embedded_services_and_its_result_is_exported(embedded_cordctl: Cordctl) -> None:
    cordctl = embedded_cordctl
    cordctl.write_problems(*map(problem, range(8)))
    cordctl("run", "problems.jsonl", "--run", "mine", "-o", "out.jsonl")
    refused = cordctl("export", "mine", "--trim", ABOVE, "-o", "short.jsonl", exits=1)
    assert "cordctl trim mine --above 0.5" in refused.stderr
    started = cordctl("trim", "mine", "--above", ABOVE, "--no-wait", "--json")
    queued = json.loads(started.stdout)
    assert (queued["run"], queued["added"], queued["problems"]) == ("mine-trim-0.5", 8, None)
    assert queued["missing_workers"] == ["coordinator", "alpha"]
    assert 0 < queued["shortened"] < 8
    refused = cordctl("export", "mine", "--trim", ABOVE, "-o", "short.jsonl", exits=1)
    assert f"still has {queued['shortened']} unfinished problems" in refused.stderr
    ended = cordctl("trim", "mine", "--above", ABOVE)
    assert "starting a coordinator and a worker for each model: alpha\n" in ended.stderr + ended.stdout
    assert "8 done, 0 failed" in ended.stdout
    assert not list(Path(cordctl.environment["CORD_STATE_DIR"]).glob("*.toml"))
    exported = cordctl("export", "mine", "--trim", ABOVE, "-o", "short.jsonl")
    assert "8 trajectories" in exported.stderr
    whole, short = rows(cordctl.folder / "out.jsonl"), rows(cordctl.folder / "short.jsonl")
    assert [row["id"] for row in short] == [row["id"] for row in whole]
    assert [len(row["steps"]) for row in short] == [kept(row, 0.5) for row in whole]
    assert [row["finish"] == "trimmed" for row in short] == [kept(row, 0.5) < len(row["steps"]) for row in whole]
    again = cordctl("trim", "mine", "--above", ABOVE, "--json")
    assert json.loads(again.stdout.splitlines()[-1])["problems"]["done"] == 8
    assert "starting" not in again.stderr
    compared = json.loads(cordctl("compare", "mine", "mine-trim-0.5", "--json").stdout)["runs"]
    assert compared[1]["result_tokens"]["mean"] < compared[0]["result_tokens"]["mean"]
    listed = json.loads(cordctl("runs", "--json").stdout)["runs"]
    assert [(one["trimmed_from"], one["trim_above"]) for one in listed] == [(None, None), ("mine", 0.5)]


@pytest.mark.long
def test_an_interrupted_trim_continues_with_the_same_command(embedded_cordctl: Cordctl) -> None:
    cordctl = embedded_cordctl
    cordctl.write_problems(*map(problem, range(8)))
    cordctl("run", "problems.jsonl", "--run", "mine", "-o", "out.jsonl")
    cordctl.environment["CORD_INSTANT_SECONDS"] = "60"  # no answer comes
    trim = cordctl.start("trim", "mine", "--above", ABOVE)
    assert trim.stderr is not None
    said = ""
    while "starting a coordinator" not in said:
        said = trim.stderr.readline()
        assert said
    time.sleep(2)
    trim.send_signal(signal.SIGINT)
    _, error = trim.communicate(timeout=120)
    assert trim.returncode == 130
    assert "run the same command again to continue" in error
    del cordctl.environment["CORD_INSTANT_SECONDS"]
    assert "8 done, 0 failed" in cordctl("trim", "mine", "--above", ABOVE).stdout


@pytest.mark.long
def test_on_a_cluster_it_queues_and_waits_if_asked_for(cordctl: Cordctl) -> None:
    cordctl("run", "problems.jsonl", "--run", "mine", "-o", "out.jsonl")
    queued = cordctl("trim", "mine", "--above", ABOVE, "--name", "short")
    assert "NO WORKER for coordinator, alpha: " in queued.stdout  # and none for the prover
    assert json.loads(cordctl("status", "short", "--json").stdout)["problems"]["queued"] > 0
    workers = [cordctl.start("coordinator"), cordctl.start("worker", "alpha")]
    try:
        waited = cordctl("trim", "mine", "--above", ABOVE, "--name", "short", "--wait")
        assert "5 done, 0 failed" in waited.stdout
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()
    assert cordctl("verify-db").exit_code == 0
    assert "no difference" in cordctl("replay", "short").stdout
    refused = cordctl("enqueue", "problems.jsonl", "--run", "short", exits=1)
    assert "cordctl trim adds" in refused.stderr
    assert "trimmed from it, and still there: short" in cordctl("rm", "mine", "--yes").stdout
    assert "was removed" in cordctl("replay", "short").stdout
    assert "trimmed runs not compared with their source, because it was removed: short" in cordctl("verify-db").stdout
