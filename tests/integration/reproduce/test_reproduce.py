"""`python -m cord_worker.reproduce` with the bundled models on a few problems: run, repeated, and killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

PROBLEMS = 4
RUNS = ("cord", "curation", "closer-alone")


class Reproduction:
    """The command in its own folder, with a migrated database."""

    def __init__(self, folder: Path, variables: dict[str, str]) -> None:
        self.folder = folder
        self._variables = {**os.environ, **variables, "HF_HUB_OFFLINE": "1"}

    def start(self, *runs: str) -> subprocess.Popen[str]:
        only = [argument for run in runs for argument in ("--only", run)]
        command = [sys.executable, "-m", "cord_worker.reproduce", "-o", str(self.folder), "--problems", str(PROBLEMS)]
        return subprocess.Popen(
            [*command, *only], env=self._variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def __call__(self, *runs: str) -> str:
        process = self.start(*runs)
        output, _ = process.communicate(timeout=500)
        assert process.returncode == 0, output
        return output

    def cells(self) -> dict[tuple[str, str, str], dict[str, Any]]:
        cells = json.loads((self.folder / "reproduce.json").read_text(encoding="utf-8"))
        return {(cell["table"], cell["row"], cell["metric"]): cell for cell in cells}


@pytest.fixture
def reproduction(tmp_path: Path, database_url: str, broker_url: str, key_prefix: str) -> Reproduction:
    return Reproduction(
        tmp_path,
        {"CORD_DATABASE_URL": database_url, "CORD_BROKER_URL": broker_url, "CORD_KEY_PREFIX": key_prefix},
    )


@pytest.mark.long
def test_the_tables_come_from_the_runs_and_a_second_call_repeats_no_work(reproduction: Reproduction) -> None:
    output = reproduction(*RUNS)
    assert "3 of 3 runs to do" in output
    cells = reproduction.cells()
    for table, row in (("Table 2", "CoRD, different teachers"), ("Table 2", "Curation, different teachers")):
        for metric in ("accuracy", "score"):
            cell = cells[table, row, metric]
            assert cell["problems"] == PROBLEMS
            assert 0 <= cell["low"] <= cell["value"] <= cell["high"] <= 1
            assert cell["paper"] is not None
    assert 0 < cells["Teachers alone", "closer", "score"]["value"] <= 1
    assert cells["Table 6", "greedy, four chains", "accuracy"]["value"] is None
    tenths: dict[str, float] = defaultdict(float)
    for (table, row, _), cell in cells.items():
        if table == "Figure 2":
            tenths[row.rpartition(", ")[2]] += cell["value"]
    assert tenths
    assert tenths == pytest.approx(dict.fromkeys(tenths, 1.0))
    page = (reproduction.folder / "reproduce.html").read_text(encoding="utf-8")
    assert "CoRD above Curation" in page

    again = reproduction(*RUNS)
    assert "to do" not in again
    assert reproduction.cells() == cells


@pytest.mark.long
def test_a_command_killed_after_the_first_run_does_not_repeat_it(reproduction: Reproduction) -> None:
    process = reproduction.start("cord", "closer-alone")
    assert process.stdout is not None
    told = []
    for line in process.stdout:
        told.append(line)
        if line.rstrip().endswith(": done"):
            break
    else:
        pytest.fail(f"no run was done: {told}")
    finished = line.split()[-2].removesuffix(":")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    again = reproduction("cord", "closer-alone").splitlines()
    # No line if the other run was done as well when the process was killed.
    to_do = [line.rpartition(": ")[2] for line in again if "runs to do" in line]
    assert to_do in ([], [next(run for run in ("cord", "closer-alone") if run != finished)])
    disturbed = reproduction.cells()
    assert disturbed["Table 2", "CoRD, different teachers", "score"]["problems"] == PROBLEMS
    assert disturbed["Teachers alone", "closer", "score"]["problems"] == PROBLEMS


@pytest.mark.long
def test_runs_with_an_integrator_and_with_a_reward_model_have_their_own_rows(reproduction: Reproduction) -> None:
    reproduction("integration", "integration-homogeneous", "reward-model")
    cells = reproduction.cells()
    for table, row in (
        ("Table 2", "Integration, different teachers"),
        ("Table 2", "Integration, one teacher"),
        ("Table 5", "process reward model, steps"),
    ):
        cell = cells[table, row, "score"]
        assert cell["problems"] == PROBLEMS
        assert 0 < cell["value"] <= 1
        assert cell["paper"] is not None
        tokens = cells[table, row, "tokens"]
        assert 0 < tokens["low"] <= tokens["value"] <= tokens["high"]
