"""The runs: each a valid configuration, and no two alike."""

from __future__ import annotations

from pathlib import Path

import pytest

from cord_worker.config import RunConfig
from cord_worker.reproduce.experiments import RUNS, Experiment, exam
from cord_worker.reproduce.paper import ROWS


@pytest.mark.parametrize("experiment", RUNS, ids=lambda experiment: experiment.run)
def test_every_run_is_a_valid_configuration(experiment: Experiment) -> None:
    config = RunConfig.parse(experiment.cord_toml(), source=experiment.run, folder=Path())
    assert len(config.teachers) == len(experiment.teachers)
    for model in config.models.values():
        assert Path(model.location()).is_dir()


def test_no_two_runs_are_configured_alike() -> None:
    fingerprints = {
        RunConfig.parse(experiment.cord_toml(), source=experiment.run, folder=Path()).fingerprint()
        for experiment in RUNS
    }
    assert len(fingerprints) == len(RUNS) == len({experiment.run for experiment in RUNS})


def test_one_model_has_one_name_in_all_runs_so_that_one_worker_serves_them() -> None:
    names: dict[str, str] = {}
    for experiment in RUNS:
        config = RunConfig.parse(experiment.cord_toml(), source=experiment.run, folder=Path())
        for name, model in config.models.items():
            assert names.setdefault(model.fingerprint(), name) == name


def test_every_run_stands_in_a_table() -> None:
    assert {experiment.run for experiment in RUNS} <= {row.run for row in ROWS}


def test_a_limit_takes_problems_away_and_adds_none() -> None:
    assert RUNS[0].limited_to(5).problems == 5
    assert RUNS[0].limited_to(10**6).problems == RUNS[0].limited_to(None).problems == RUNS[0].problems


def test_an_exam_has_the_student_write_alone(tmp_path: Path) -> None:
    config = RunConfig.parse(exam("student-cord", str(tmp_path)).cord_toml(), source="exam", folder=Path())
    assert [teacher.model for teacher in config.teachers] == ["student-cord"]
    assert config.models["student-cord"].location() == str(tmp_path)
    assert config.search.trajectories == 1
