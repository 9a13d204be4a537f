"""The runs that fill the tables of `make reproduce`: each is a valid configuration, and no two are alike."""

from __future__ import annotations

from pathlib import Path

import pytest

from cord_worker.config import RunConfig
from cord_worker.demo.merging import INTEGRATION_PROMPT
from cord_worker.reproduce.paper import ROWS
from cord_worker.reproduce.planned_runs import RUNS, PlannedRun, exam


def _config(planned: PlannedRun) -> RunConfig:
    return RunConfig.parse(planned.cord_toml(), source=planned.run, folder=Path())


@pytest.mark.parametrize("planned", RUNS, ids=lambda planned: planned.run)
def test_every_run_is_a_valid_configuration(planned: PlannedRun) -> None:
    config = _config(planned)
    assert len(config.teachers) == len(planned.teachers)
    for model in config.models.values():
        assert Path(model.location()).is_dir()


@pytest.mark.parametrize("planned", RUNS, ids=lambda planned: planned.run)
def test_scores_are_not_rounded_although_the_preset_rounds_them(planned: PlannedRun) -> None:
    config = _config(planned)
    assert config.search.score_resolution == 0.0


def test_no_two_runs_are_configured_alike() -> None:
    fingerprints = {_config(planned).fingerprint() for planned in RUNS}
    assert len(fingerprints) == len(RUNS) == len({planned.run for planned in RUNS})


def test_one_model_has_one_name_in_all_runs_so_that_one_worker_serves_them() -> None:
    names: dict[str, str] = {}
    for planned in RUNS:
        config = _config(planned)
        for name, model in config.models.items():
            assert names.setdefault(model.fingerprint(), name) == name


def test_every_run_is_in_a_table() -> None:
    assert {planned.run for planned in RUNS} <= {row.run for row in ROWS}


def test_a_limit_removes_problems_and_adds_none() -> None:
    assert RUNS[0].limited_to(5).problems == 5
    assert RUNS[0].limited_to(10**6).problems == RUNS[0].limited_to(None).problems == RUNS[0].problems


def test_in_an_exam_only_the_student_writes(tmp_path: Path) -> None:
    config = _config(exam("student-cord", str(tmp_path)))
    assert [teacher.model for teacher in config.teachers] == ["student-cord"]
    assert config.models["student-cord"].location() == str(tmp_path)
    assert config.search.trajectories == 1


def test_only_the_reward_model_has_a_reward_head_and_only_integration_runs_have_an_integrator() -> None:
    heads: dict[str, str] = {}
    for planned in RUNS:
        config = _config(planned)
        heads |= {name: model.head for name, model in config.models.items()}
        assert (config.integration is not None) == planned.run.startswith("integration")
        assert (config.reward is not None) == (planned.run == "reward-model")
    assert [name for name, head in heads.items() if head == "reward"] == ["reward"]


def test_the_bundled_integrator_gets_the_prompt_it_was_trained_on() -> None:
    prompts = {config.integration.prompt for planned in RUNS if (config := _config(planned)).integration is not None}
    assert prompts == {INTEGRATION_PROMPT}
