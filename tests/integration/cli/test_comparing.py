"""`cordctl compare` and `cordctl cost`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import Connection

from cord_worker.display_text import money
from tests.support import web_documents
from tests.support.cordctl_process import Cordctl

PRICES = """
currency = "EUR"
[models.alpha]
input = 2
cached = 1
output = 10
gpu_hour = 3.5
gpus = 2
[models.judge]
input = 0.5
output = 0
"""


@pytest.fixture(scope="module")
def two_runs(finished: Cordctl) -> Cordctl:
    """The run `done`, and a run `other` of the same problems with another seed."""
    config = (finished.folder / "cord.toml").read_text(encoding="utf-8")
    changed = config.replace("[run]\n", "[run]\nseed = 5\n") if "[run]\n" in config else f"{config}\n[run]\nseed = 5\n"
    (finished.folder / "other.toml").write_text(changed, encoding="utf-8")
    (finished.folder / "waiting.toml").write_text(changed.replace("seed = 5", "seed = 6"), encoding="utf-8")
    finished("run", "problems.jsonl", "--config", "other.toml", "--run", "other", "-o", "other.jsonl")
    return finished


@pytest.fixture
def database(two_runs: Cordctl) -> Iterator[Connection]:
    url = two_runs.environment["CORD_DATABASE_URL"].replace("+psycopg", "")
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


def lines(cordctl: Cordctl, name: str) -> list[dict]:  # type: ignore[type-arg]
    return [json.loads(line) for line in (cordctl.folder / name).read_text(encoding="utf-8").splitlines()]


@pytest.mark.long
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


def test_an_unfinished_rescoring_has_no_figures_and_one_with_gaps_says_so(
    two_runs: Cordctl, database: Connection
) -> None:
    config = (two_runs.folder / "cord.toml").read_text(encoding="utf-8")
    other = '[models.other]\npath = "other"\nengine = "instant"\n'
    (two_runs.folder / "rescoring.toml").write_text(config + other, encoding="utf-8")
    queued = two_runs("rescore", "done", "--prover", "other", "--config", "rescoring.toml", "--json")
    number = json.loads(queued.stdout)["candidates"]
    try:
        printed = " ".join(two_runs("compare", "done").stdout.split())
        assert f"done@other is unfinished, {number} candidates left: it has figures when all are scored" in printed
        assert "given up" not in printed
        (compared,) = json.loads(two_runs("compare", "done", "--json").stdout)["rescorings"]
        assert (compared["left"], compared["given_up"], compared["rescore"]) == (number, 0, None)
        database.execute("UPDATE rescores SET state = 'invalid', invalid_reason = 'given_up'")
        printed = " ".join(two_runs("compare", "done").stdout.split())
        assert f"done@other lacks {number} candidates that were given up" in printed
        assert "cordctl rescore --retry" in printed
        assert "unfinished" not in printed
        (compared,) = json.loads(two_runs("compare", "done", "--json").stdout)["rescorings"]
        assert (compared["left"], compared["given_up"], compared["invalid"]) == (0, number, number)
    finally:
        two_runs("rescore", "done", "--remove", "other", "--yes")


def test_hit_rates_of_a_trimmed_run_are_said_not_to_be_comparable(two_runs: Cordctl) -> None:
    assert "is trimmed" not in two_runs("compare", "done", "other").stdout
    # Above 0.999 no winner is cut: all are copied with their answers, so no worker is needed.
    two_runs("trim", "done", "--above", "0.999", "--name", "whole")
    try:
        printed = " ".join(two_runs("compare", "done", "whole").stdout.split())
        assert "5 problems in common" in printed
        assert "whole is trimmed" in printed
        assert "hit rates are not comparable with those of other runs" in printed
        assert "done is trimmed" not in printed
    finally:
        two_runs("rm", "whole", "--yes")


@pytest.mark.parametrize("option", ['score = "mean_probability"', "score_full_stop = true"])
@pytest.mark.long
def test_scores_of_another_kind_are_shown_without_a_difference(two_runs: Cordctl, option: str) -> None:
    config = (two_runs.folder / "cord.toml").read_text(encoding="utf-8")
    name = option.partition(" ")[0].replace("_", "-")
    (two_runs.folder / f"{name}.toml").write_text(
        config.replace("[prover]\n", f"[prover]\n{option}\n"), encoding="utf-8"
    )
    two_runs("run", "problems.jsonl", "--config", f"{name}.toml", "--run", name, "-o", f"{name}.jsonl")
    two_runs("verify-db", name)
    two_runs("replay", name)
    (_, other) = json.loads(two_runs("compare", "done", name, "--json").stdout)["runs"]
    assert other["score"] is not None
    assert other["accuracy_difference"] is not None
    assert other["score_difference"] is None


@pytest.mark.long
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
    for per_problem, of in (("generation", ("propose", "answer")), ("scoring", ("score",))):
        total = sum(row["engine_seconds"] for row in document["models"] if row["kind"] in of)
        assert document[f"{per_problem}_engine_seconds_per_problem"] == pytest.approx(total / 5)
        assert 0 <= document[f"{per_problem}_wall_seconds_per_problem"] <= document["mean_problem_seconds"] + 1e-6


def test_the_time_of_a_run_begins_with_its_first_request_not_with_loading_models(
    two_runs: Cordctl, database: Connection
) -> None:
    def seconds() -> tuple[float, float]:
        document = json.loads(two_runs("cost", "other", "--json").stdout)
        return document["run_seconds"], document["mean_problem_seconds"]

    before = seconds()
    database.execute(
        "UPDATE problems SET admitted_at = admitted_at - interval '1 hour' WHERE run_id = "
        "(SELECT id FROM runs WHERE name = 'other')"
    )
    assert before[0] < 3600
    assert seconds()[0] == before[0]
    assert seconds()[1] < 3600


def test_table_14_has_the_seconds_a_question_of_every_run(two_runs: Cordctl) -> None:
    done, other = json.loads(two_runs("cost", "done", "other", "--table", "14", "--json").stdout)["runs"]
    assert (done["run"], other["run"]) == ("done", "other")
    assert (done["pipeline"], done["budget"]) == ("cord", "B = 2")
    assert done == json.loads(two_runs("cost", "done", "--json").stdout)
    printed = two_runs("cost", "done", "other", "--table", "14").stdout
    assert "Table 14" in printed
    assert f"{done['generation_engine_seconds_per_problem']:.2f}" in printed


def test_table_15_has_accuracy_and_score_against_the_cost_of_a_question(two_runs: Cordctl) -> None:
    document = json.loads(two_runs("cost", "done", "other", "--table", "15", "--json").stdout)
    assert {**document, "rescorings": []} == json.loads(two_runs("compare", "done", "other", "--json").stdout)
    done = document["runs"][0]
    assert done["cost"]["tokens_out_per_problem"] == pytest.approx(done["tokens_per_problem"])
    printed = two_runs("cost", "done", "other", "--table", "15").stdout
    assert "Table 15" in printed
    assert f"{done['score']['mean']:.3f}" in printed
    [newest] = json.loads(two_runs("cost", "--table", "15", "--json").stdout)["runs"]
    assert newest["run"] == json.loads(two_runs("cost", "--json").stdout)["run"]


def test_a_run_without_a_final_problem_costs_nothing_yet(two_runs: Cordctl) -> None:
    two_runs("enqueue", "problems.jsonl", "--config", "waiting.toml", "--run", "waiting")
    document = json.loads(two_runs("cost", "waiting", "--json").stdout)
    assert (document["problems"], document["models"], document["run_seconds"]) == (0, [], 0)
    assert document["generation_engine_seconds_per_problem"] is None
    assert "-" in two_runs("cost", "waiting", "--table", "14").stdout


def test_the_cost_in_money_is_that_of_tokens_and_gpu_hours(two_runs: Cordctl) -> None:
    without = json.loads(two_runs("cost", "done", "--json").stdout)
    assert without["money"] is None
    prices = two_runs.folder / "prices.toml"
    prices.write_text(PRICES, encoding="utf-8")
    found = json.loads(two_runs("cost", "done", "--prices", "prices.toml", "--json").stdout)
    model, judge = found["money"]["models"]
    rows = [row for row in found["models"] if row["model"] == "alpha"]
    tokens = sum(
        2 * (row["prompt_tokens"] - row["cached_tokens"]) + row["cached_tokens"] + 10 * row["completion_tokens"]
        for row in rows
    )
    [scores] = [row for row in found["models"] if row["model"] == "judge"]
    assert (judge["of_tokens"], judge["gpu_hours"]) == (pytest.approx(0.5 * scores["prompt_tokens"] / 1e6), None)
    assert model["of_tokens"] == pytest.approx(tokens / 1e6)
    assert model["of_gpus"] == pytest.approx(3.5 * model["gpu_hours"])
    # One worker wrote steps and final answers, at times in the same second.
    seconds = [row["engine_seconds"] for row in rows]
    assert max(seconds) - 1e-3 <= model["gpu_hours"] * 3600 / 2 <= sum(seconds) + 1e-3
    assert found["money"]["total"] == pytest.approx(model["total"] + judge["total"])
    assert found["money"]["per_problem"] == pytest.approx(found["money"]["total"] / 5)
    assert "EUR" in two_runs("cost", "done", "--prices", "prices.toml", "--table", "14").stdout
    table_15 = json.loads(two_runs("cost", "done", "--prices", "prices.toml", "--table", "15", "--json").stdout)
    assert table_15["runs"][0]["cost"]["money"] == found["money"]
    compared = json.loads(two_runs("compare", "done", "other", "--prices", "prices.toml", "--json").stdout)["runs"]
    assert compared[0]["cost"]["money"] == found["money"]
    prices.write_text(PRICES.replace("judge", "beta"), encoding="utf-8")
    assert "no price for judge" in two_runs("cost", "done", "--prices", "prices.toml", exits=1).stderr
    assert "no price for judge" in two_runs("compare", "done", "--prices", "prices.toml", exits=1).stderr


def test_compare_has_a_column_of_money_if_there_are_prices(two_runs: Cordctl) -> None:
    (two_runs.folder / "prices.toml").write_text(PRICES, encoding="utf-8")
    assert "EUR" not in two_runs("compare", "done", "other").stdout
    printed = two_runs("compare", "done", "other", "--prices", "prices.toml").stdout.splitlines()
    assert "EUR / problem" in printed[0]
    for name, line in zip(("done", "other"), printed[1:], strict=False):
        cost = json.loads(two_runs("cost", name, "--prices", "prices.toml", "--json").stdout)
        assert line.startswith(name)
        assert money(cost["money"]["per_problem"]) in line.split()


def test_the_examples_of_the_web_view_can_be_written_again(
    two_runs: Cordctl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web_documents, "FOLDER", tmp_path)
    web_documents.main(two_runs.environment["CORD_DATABASE_URL"], "done", "other")
    written = {path.name: json.loads(path.read_text(encoding="utf-8")) for path in tmp_path.iterdir()}
    assert set(written) == set(web_documents.KINDS)
    assert [fault for name in written for fault in web_documents.faults(written[name], web_documents.KINDS[name])] == []
