"""`cordctl plan`: a pilot run, and what is expected of the whole dataset."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest

from tests.support.cordctl_process import Cordctl, prepared, problem

PROBLEMS = 40
PILOT = 12


@pytest.fixture(scope="module")
def pilot(
    tmp_path_factory: pytest.TempPathFactory,
    migrated_database: Callable[[], AbstractContextManager[str]],
    broker_url: str,
    fresh_keys: Callable[[], AbstractContextManager[str]],
) -> Iterator[Cordctl]:
    """A folder in which a pilot of a dataset was run, with an engine that takes some time."""
    folder = tmp_path_factory.mktemp("pilot")
    with migrated_database() as url, fresh_keys() as prefix:
        cordctl = prepared(
            folder,
            {
                "CORD_DATABASE_URL": url,
                "CORD_BROKER_URL": broker_url,
                "CORD_KEY_PREFIX": prefix,
                "CORD_INSTANT_SECONDS": "0.05",
            },
        )
        cordctl.write_problems(*map(problem, range(PROBLEMS)))
        cordctl("run", "problems.jsonl", "--limit", str(PILOT), "-o", "pilot.jsonl")
        yield cordctl


def planned(cordctl: Cordctl, *arguments: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(cordctl("plan", "problems.jsonl", *arguments, "--json").stdout)
    return document


def test_a_plan_continues_from_the_pilot_of_the_same_dataset_and_configuration(pilot: Cordctl) -> None:
    plan = planned(pilot)
    cost = json.loads(pilot("cost", "--json").stdout)
    assert (plan["problems"], plan["pilot_problems"], plan["pilot"]) == (PROBLEMS, PILOT, cost["run"])
    assert 0 < plan["hours"]["low"] <= plan["hours"]["mean"] <= plan["hours"]["high"]
    check = plan["check"]
    assert check["measured"] + check["idle"] == pytest.approx(cost["run_seconds"])
    assert check["error"] == pytest.approx(check["simulated"] / check["measured"] - 1)
    assert plan["pilot_failed"] == 0
    assert plan["database_bytes"] > 0
    assert {model["model"]: model["workers"] for model in plan["models"]} == {"alpha": 1, "judge": 1}
    for model in plan["models"]:
        of_pilot = [one for one in cost["models"] if one["model"] == model["model"]]
        for kind in ("prompt_tokens", "completion_tokens"):
            assert model[kind] == pytest.approx(sum(one[kind] for one in of_pilot) * PROBLEMS / PILOT)
        assert 0 < model["busy"] <= 1
        assert model["with_one_more"] <= plan["hours"]["mean"] * 1.1


@pytest.mark.long
def test_more_problems_take_longer_and_more_workers_do_not(pilot: Cordctl) -> None:
    few, many = planned(pilot, "--problems", "1000"), planned(pilot, "--problems", "100000")
    assert many["hours"]["mean"] == pytest.approx(100 * few["hours"]["mean"], rel=0.1)
    more = planned(pilot, "--problems", "1000", "--workers", "alpha=8", "--workers", "judge=8")
    assert more["hours"]["mean"] <= few["hours"]["mean"]


def test_the_plan_uses_the_limits_of_the_configuration_and_the_check_those_of_the_pilot(pilot: Cordctl) -> None:
    before = planned(pilot, "--problems", "100")
    assert before["hours"]["mean"] * 3600 < 99 * before["problem_seconds"]
    text = (pilot.folder / "cord.toml").read_text("utf-8")
    (pilot.folder / "narrow.toml").write_text(text.replace("max_active = 64", "max_active = 1"), encoding="utf-8")
    narrow = planned(pilot, "--problems", "100", "--config", "narrow.toml")
    assert narrow["hours"]["mean"] * 3600 == pytest.approx(100 * narrow["problem_seconds"])  # one after the other
    assert narrow["check"] == before["check"]


def test_prices_make_a_cost_of_tokens_and_of_gpus_that_are_held_to_the_end(pilot: Cordctl) -> None:
    (pilot.folder / "prices.toml").write_text(
        'currency = "EUR"\n[models.alpha]\ngpu_hour = 2.0\ngpus = 4\n[models.judge]\ninput = 1.0\noutput = 0.0\n',
        encoding="utf-8",
    )
    plan = planned(pilot, "--prices", "prices.toml", "--workers", "alpha=2")
    alpha, judge = sorted(plan["models"], key=lambda model: model["model"])
    assert (alpha["gpus"], judge["gpus"]) == (8, 0)
    assert plan["gpu_hours"]["mean"] == pytest.approx(8 * plan["hours"]["mean"])
    expected = judge["prompt_tokens"] / 1e6 + 2.0 * plan["gpu_hours"]["mean"]
    assert plan["cost"]["mean"] == pytest.approx(expected, rel=0.05)
    assert plan["currency"] == "EUR"
    split = planned(pilot, "--prices", "prices.toml", "--gpus", "12")
    assert next(model["gpus"] for model in split["models"] if model["model"] == "alpha") in (4, 8, 12)
    printed = pilot("plan", "problems.jsonl", "--prices", "prices.toml").stdout
    assert "EUR" in printed
    assert "GPU hours" in printed


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--workers", "alpa=2"), "no model is called 'alpa': did you mean 'alpha'?"),
        (("--gpus", "8"), "no model of this run works on a GPU"),
        (("--from", "nowhere"), "nowhere"),
        (("--config", "other.toml"), "Make one, which counts towards the run: cordctl run problems.jsonl"),
    ],
)
def test_what_cannot_be_planned_is_refused_with_what_to_do(
    pilot: Cordctl, arguments: tuple[str, ...], said: str
) -> None:
    other = (pilot.folder / "cord.toml").read_text("utf-8").replace("[run]\n", "[run]\nseed = 77\n")
    (pilot.folder / "other.toml").write_text(other, encoding="utf-8")
    assert said in pilot("plan", "problems.jsonl", *arguments, exits=1).stderr


def test_a_repeated_row_is_no_second_problem(pilot: Cordctl) -> None:
    text = (pilot.folder / "problems.jsonl").read_text("utf-8")
    (pilot.folder / "twice.jsonl").write_text(text + text, encoding="utf-8")
    arguments = ("plan", "twice.jsonl", "--from", planned(pilot)["pilot"])
    assert f"twice.jsonl:{PROBLEMS + 1}: its id" in pilot(*arguments, exits=1).stderr
    without = json.loads(pilot(*arguments, "--skip-invalid", "--json").stdout)
    assert without["problems"] == PROBLEMS


def test_wrong_usage_is_said(pilot: Cordctl) -> None:
    for number in ("0", "1001", "9" * 5000):
        assert "is not MODEL=N" in pilot("plan", "problems.jsonl", "--workers", f"alpha={number}", exits=2).stderr
    for option in ("--problems", "--gpus"):
        assert "is not in the range" in pilot("plan", "problems.jsonl", option, "1" + "0" * 400, exits=2).stderr
    both = pilot("plan", "problems.jsonl", "--workers", "alpha=1", "--gpus", "2", exits=2)
    assert "not both" in both.stderr


@pytest.mark.long
def test_too_small_a_pilot_is_no_basis(cordctl: Cordctl) -> None:
    cordctl.write_problems(*map(problem, range(5)))
    cordctl("run", "problems.jsonl", "-o", "out.jsonl")
    refused = cordctl("plan", "problems.jsonl", exits=1).stderr
    assert "has only 5 done problems (0 failed); a plan needs 10 or more" in refused
