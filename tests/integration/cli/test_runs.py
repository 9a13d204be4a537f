"""`cordctl status`, `stats`, `export` of a finished run; `pause`, `resume`, `cancel` of one that waits."""

from __future__ import annotations

import json
import math
import signal
import time
from collections import Counter

import psycopg
import pytest

from cord_worker.store.reports.sample_queries import QUERIES
from tests.support.closed_pipes import without_reader
from tests.support.cordctl_process import Cordctl

KEYS = [
    "id",
    "question",
    "answer",
    "trajectory",
    "final_answer",
    "base_score",
    "score",
    "correct",
    "verification",
    "finish",
    "steps",
    "provenance",
    "metadata",
]


NO_PROBLEMS = dict.fromkeys(("queued", "searching", "answering", "verifying", "done", "failed", "cancelled"), 0)


def exported(cordctl: Cordctl) -> list[dict]:  # type: ignore[type-arg]
    return [json.loads(line) for line in (cordctl.folder / "out.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.mark.long
def test_status_counts_the_results_of_the_run(finished: Cordctl) -> None:
    document = json.loads(finished("status", "done", "--json").stdout)
    assert document["problems"] == {**NO_PROBLEMS, "total": 5, "active": 0, "done": 5}
    assert document["eta_seconds"] == 0.0
    assert set(document["teachers"]) == {"alpha", "alpha-hot"}
    assert sum(teacher["share"] for teacher in document["teachers"].values()) == pytest.approx(1.0)
    steps = sum(len(line["steps"]) for line in exported(finished))
    assert sum(teacher["winning"] for teacher in document["teachers"].values()) == steps
    lines = exported(finished)
    assert document["mean_score"] == pytest.approx(sum(line["score"] for line in lines) / len(lines))
    assert document["mean_steps"] == pytest.approx(steps / len(lines))
    assert document["candidates"]["unfinished"] == 0


def test_status_without_a_name_shows_the_newest_run_and_watching_a_finished_run_ends(finished: Cordctl) -> None:
    output = finished("status", "--watch", timeout=20).stdout
    assert "done" in output
    assert "5 done" in output
    lines = finished("status", "--watch", "--json", timeout=20).stdout.splitlines()
    assert json.loads(lines[-1])["problems"]["done"] == 5


def test_runs_are_listed(finished: Cordctl) -> None:
    (row,) = json.loads(finished("runs", "--json").stdout)["runs"]
    assert (row["run"], row["state"], row["problems"]) == ("done", "finished", {**NO_PROBLEMS, "total": 5, "done": 5})


def test_a_finished_run_and_its_engine_seconds_are_called_the_same_everywhere(finished: Cordctl) -> None:
    status, cost = (json.loads(finished(command, "--json").stdout) for command in ("status", "cost"))
    compared = json.loads(finished("compare", "done", "--json").stdout)["runs"][0]["cost"]
    evaluated = json.loads(finished("eval", "--of", "done", "--json").stdout)
    watched = json.loads(finished("status", "--watch", "--json").stdout.splitlines()[-1])
    listed = json.loads(finished("runs", "--json").stdout)["runs"][0]
    assert {document["state"] for document in (status, watched, listed)} == {"finished"}
    figures = {document["engine_seconds"] for document in (status, cost, compared, evaluated, watched)}
    assert len(figures) == 1
    assert cost["engine_seconds"] == pytest.approx(sum(row["engine_seconds"] for row in cost["models"]), abs=1e-3)
    proposals = sum(row["request_seconds"] for row in cost["models"] if row["kind"] == "propose")
    teachers = status["teachers"].values()
    assert sum(teacher["request_seconds"] for teacher in teachers) == pytest.approx(proposals, abs=1e-2)


def test_every_ready_query_answers_its_question(finished: Cordctl) -> None:
    url = finished.variables()["CORD_DATABASE_URL"].replace("+psycopg", "")
    with psycopg.connect(url) as connection:
        answers = {query.question: connection.execute(query.of("done").encode()).fetchall() for query in QUERIES}
    assert [query.question for query in QUERIES if not answers[query.question] and not query.may_be_empty] == []
    wins = answers["The same as a table: a row for each teacher, a column for each tenth"]
    assert {teacher for teacher, *_ in wins} == {"alpha", "alpha-hot"}
    ((state, problems, done, failed, *_),) = answers["Where does the run stand, and how good is it?"]
    assert (state, problems, done, failed) == ("finished", 5, 5, 0)
    best = answers["What do the best trajectories say?"]
    assert all(thinking and answer for *_, thinking, answer in best)
    check_against_rows(answers, exported(finished))


def check_against_rows(answers: dict[str, list[tuple]], rows: list[dict]) -> None:  # type: ignore[type-arg]
    """Compares answers of ready queries with the exported rows."""
    ((correct, checked, undecided, low, percent, high),) = next(
        rows for question, rows in answers.items() if "Wilson" in question
    )
    decided = [row["correct"] for row in rows if row["correct"] is not None]
    assert (correct, checked, undecided) == (sum(decided), len(decided), len(rows) - len(decided))
    assert (float(low), float(high)) == pytest.approx(wilson(correct, checked), abs=0.05)
    assert low <= percent <= high
    lengths = answers["The same by number of steps"]
    assert {steps: winners for steps, winners, *_ in lengths} == Counter(len(row["steps"]) for row in rows)
    longest = next(found for question, found in answers.items() if "How long is the mean winner" in question)
    assert float(longest[0][3]) == pytest.approx(sum(len(row["steps"]) for row in rows) / len(rows), abs=0.005)
    assert longest[0][2] == max(most for *_, most in lengths)
    winners = next(found for question, found in answers.items() if "of winners only" in question)
    assert {step: number for step, number, *_ in winners} == Counter(
        place for row in rows for place, _ in enumerate(row["steps"], start=1)
    )
    assert {step: last for step, _, last, *_ in winners if last} == Counter(len(row["steps"]) for row in rows)
    wrong = answers["Which answers are wrong, and what do they say?"]
    assert {problem for problem, *_ in wrong} == {row["id"] for row in rows if row["correct"] is False}
    best = next(found for question, found in answers.items() if "best loser of each step" in question)
    assert [step for step, *_ in best] == [place for place, _ in enumerate(rows[0]["steps"], start=1)]
    leads = [(float(won - lost), float(lead)) for _, _, won, _, lost, lead, *_ in best if lead is not None]
    assert leads
    assert all(difference == pytest.approx(lead, abs=2e-4) for difference, lead in leads)
    gains = next(found for question, found in answers.items() if "Whose steps gain most" in question)
    total = sum(row["score"] - row["base_score"] for row in rows)
    assert sum(float(steps * mean) for _, steps, mean, *_ in gains if mean is not None) == pytest.approx(total, abs=0.1)
    first_third = next(found for question, found in answers.items() if "carries the first third" in question)
    middles = [(place + 0.5) / len(row["steps"]) for row in rows for place in range(len(row["steps"]))]
    assert float(sum(row[1] for row in first_third)) == pytest.approx(sum(one < 0.3 for one in middles), abs=0.02)
    assert float(sum(row[2] for row in first_third)) == pytest.approx(1.0, abs=0.002)
    contributions = next(found for question, found in answers.items() if "does each teacher contribute" in question)
    assert float(sum(row[7] for row in contributions)) == pytest.approx(len(middles), abs=0.02)
    assert sum(row[1] for row in answers["How many problems and tokens were finished in each minute?"]) == len(rows)
    seeds = answers["With which seed was a candidate drawn?"]
    assert seeds
    assert all(isinstance(seed, int) for _, _, seed, *_ in seeds)


def wilson(right: int, number: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's score interval in percent, as the roots of its definition: (p - share)^2 = z^2 p (1 - p) / number."""
    share, a = right / number, 1 + z * z / number
    b, c = -(2 * share + z * z / number), share * share
    root = math.sqrt(max(0.0, b * b - 4 * a * c))
    return 100 * (-b - root) / (2 * a), 100 * (-b + root) / (2 * a)


def test_no_command_fails_when_nobody_reads_its_output(finished: Cordctl) -> None:
    commands = (
        *(("runs",), ("status",), ("stats",), ("stats", "--plot"), ("stats", "--csv", "-", "--table", "problems")),
        *(("show", "p0"), ("show", "p0", "--json"), ("cost",), ("cost", "--table", "15"), ("compare", "done")),
        *(
            ("trace", "-o", "-"),
            ("export", "-o", "-"),
            ("logs",),
            ("verify-db",),
            ("replay",),
            ("validate", "problems.jsonl"),
        ),
    )
    ended = without_reader(
        [finished.command(*command) for command in commands],
        folder=finished.folder,
        environment=finished.variables(),
    )
    silent = {
        command: (code, "" if code == 141 else errors) for command, (code, errors) in zip(commands, ended, strict=True)
    }
    assert silent == dict.fromkeys(commands, (141, ""))


def test_events_that_did_not_happen_are_counted_as_zero(finished: Cordctl) -> None:
    document = json.loads(finished("status", "--json").stdout)
    assert {state: document["problems"][state] for state in ("failed", "queued", "cancelled")} == {
        "failed": 0,
        "queued": 0,
        "cancelled": 0,
    }
    assert {"scored", "invalid", "pending", "scoring", "judging"} <= set(document["candidates"])


def test_json_is_one_object_on_one_line(finished: Cordctl) -> None:
    for command in (
        *(("runs",), ("status",), ("stats",), ("cost",), ("cost", "done", "done"), ("replay",), ("verify-db",)),
        *(("compare", "done"), ("export", "-o", "again.jsonl"), ("db", "current"), ("db", "check"), ("doctor",)),
        *(("pause", "done"), ("resume", "done"), ("priority", "done", "0"), ("validate", "problems.jsonl")),
    ):
        (line,) = finished(*command, "--json").stdout.splitlines()
        assert isinstance(json.loads(line), dict), command


def test_stats_agree_with_the_exported_steps(finished: Cordctl) -> None:
    document = json.loads(finished("stats", "done", "--json").stdout)
    winning = {"alpha": 0, "alpha-hot": 0}
    for line in exported(finished):
        for step in line["steps"]:
            winning[step["teacher"]] += 1
    assert {teacher["name"]: teacher["winning"] for teacher in document["teachers"]} == winning
    by_tenth: dict[int, float] = {}
    for row in document["tenths"]:
        by_tenth[row["tenth"]] = by_tenth.get(row["tenth"], 0.0) + (row["hit_rate"] or 0.0)
    assert all(total == pytest.approx(1.0) or total == 0.0 for total in by_tenth.values())
    shown = finished("stats").stdout
    assert "hit rate" in shown
    gains = [line["score"] - line["base_score"] for line in exported(finished)]
    base = document["base_scores"]
    assert (base["problems"], base["known"]) == (len(gains), len(gains))
    assert base["mean_gain"] == pytest.approx(sum(gains) / len(gains))
    assert base["unmoved"] == sum(gain <= 0 for gain in gains)
    assert f"of {len(gains)} done problems the prover knows {base['by_heart']} by heart" in shown


def test_an_exported_line_holds_the_whole_trajectory_in_dataset_order(finished: Cordctl) -> None:
    lines = exported(finished)
    assert [line["id"] for line in lines] == [f"p{number}" for number in range(5)]
    for line in lines:
        assert list(line) == KEYS
        thinking, answer = line["trajectory"].removeprefix("<think>\n").split("\n</think>\n\n")
        assert answer == line["final_answer"]
        written = [f"### Step {step['step']}.{step['text']}" for step in line["steps"]]
        assert thinking == "\n".join(written).rstrip()
        assert [step["step"] for step in line["steps"]] == list(range(1, len(line["steps"]) + 1))
        assert line["score"] == line["steps"][-1]["score"]
        assert line["metadata"] == {"topic": "sums"}
        assert line["provenance"]["run"] == "done"
        assert line["provenance"]["prover_model"] == "judge"
        assert "{answer}" in line["provenance"]["scoring_template"]
        assert line["provenance"]["prover_score"] == "geometric_mean"
        assert line["provenance"]["score_full_stop"] is False


def test_an_export_is_the_same_bytes_every_time_and_on_standard_output(finished: Cordctl) -> None:
    finished("export", "done", "-o", "again.jsonl")
    assert (finished.folder / "again.jsonl").read_bytes() == (finished.folder / "out.jsonl").read_bytes()
    assert finished("export", "done", "-o", "-").stdout == (finished.folder / "out.jsonl").read_text(encoding="utf-8")


def test_only_correct_leaves_the_others_out_and_reports_their_number(finished: Cordctl) -> None:
    result = finished("export", "done", "-o", "correct.jsonl", "--only-correct")
    correct = [line for line in exported(finished) if line["correct"]]
    kept = (finished.folder / "correct.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in kept] == correct
    if len(correct) < 5:
        assert f"{5 - len(correct)} finished ones left out" in result.stderr


def test_an_unknown_run_is_answered_with_the_existing_runs(finished: Cordctl) -> None:
    error = finished("export", "nothing", "-o", "x.jsonl", exits=1).stderr
    assert "no run is called 'nothing'. There are: done" in error
    assert not (finished.folder / "x.jsonl").exists()


def test_running_again_adds_nothing_and_exports_the_same(finished: Cordctl) -> None:
    result = finished("run", "problems.jsonl", "--run", "done", "-o", "rerun.jsonl")
    assert "nothing new (5 already there)" in result.stderr
    assert (finished.folder / "rerun.jsonl").read_bytes() == (finished.folder / "out.jsonl").read_bytes()


def test_a_run_is_paused_resumed_and_cancelled(cordctl: Cordctl) -> None:
    cordctl("enqueue", "problems.jsonl", "--run", "mine")
    assert "is paused" in cordctl("pause", "mine").stdout
    assert "was already paused" in cordctl("pause", "mine").stdout
    assert json.loads(cordctl("status", "--json").stdout)["state"] == "paused"
    assert "cordctl resume mine" in cordctl("run", "problems.jsonl", "--run", "mine", "-o", "o.jsonl", exits=1).stderr
    resumed = cordctl("resume", "mine").stdout
    assert "continues\nNO WORKER for coordinator, " in resumed
    assert "5 problems were not finished" in cordctl("cancel", "mine", "--yes").stdout
    problems = json.loads(cordctl("status", "--json").stdout)["problems"]
    assert problems == {**NO_PROBLEMS, "total": 5, "active": 0, "cancelled": 5}
    assert "cancelled, which is final" in cordctl("resume", "mine", exits=1).stderr


def test_failed_problems_are_counted_and_exported_only_if_asked(cordctl: Cordctl, database_url: str) -> None:
    import psycopg

    cordctl("enqueue", "problems.jsonl", "--run", "mine")
    with psycopg.connect(database_url.replace("+psycopg", "")) as connection:
        connection.execute(
            "UPDATE problems SET state = 'failed', failure_reason = E'a \\x1b[2J reason' WHERE key = 'p1'"
        )
    result = cordctl("export", "mine", "-o", "out.jsonl", "--failures", "failed.jsonl")
    assert "0 trajectories" in result.stderr
    assert "1 failed problem not exported, 4 unfinished" in result.stderr
    assert (cordctl.folder / "out.jsonl").read_bytes() == b""
    (failed,) = (cordctl.folder / "failed.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(failed)["id"] == "p1"
    shown = cordctl("status").stdout
    assert "failed: p1: a \\x1b[2J reason" in shown


def test_failed_problems_are_retried_and_the_run_is_deleted(cordctl: Cordctl, database_url: str) -> None:
    import psycopg

    cordctl("enqueue", "problems.jsonl", "--run", "mine")
    assert "no failed problems" in cordctl("retry", "mine").stdout
    with psycopg.connect(database_url.replace("+psycopg", "")) as connection:
        connection.execute("UPDATE problems SET state = 'failed' WHERE key IN ('p1', 'p2', 'p3')")
    assert "run 'mine' has no problem 'p9'" in cordctl("retry", "mine", "--problem", "p9", exits=1).stderr
    named = cordctl("retry", "mine", "--problem", "p1", "--problem", "p0").stdout
    assert "problem p0 has not failed, it is queued: left as it is" in named
    assert "run mine: 1 failed problem continues (1 queued)" in named
    assert "NO WORKER for coordinator, " in named
    restarted = json.loads(cordctl("retry", "mine", "--problem", "p2", "--from-scratch", "--yes", "--json").stdout)
    assert (restarted["retried"], restarted["problems"], restarted["left_alone"]) == (1, {"queued": 1}, {})
    cordctl("pause", "mine")
    assert "cordctl resume mine" in cordctl("retry", "mine", "--failed").stdout
    cordctl("resume", "mine")
    assert "5 unfinished problems" in cordctl("rm", "mine", "--yes", exits=1).stderr
    cordctl("cancel", "mine", "--yes")
    assert "which is final" in cordctl("retry", "mine", exits=1).stderr
    assert "run mine is deleted: 5 problems" in cordctl("rm", "mine", "--yes").stdout
    assert json.loads(cordctl("runs", "--json").stdout) == {"runs": []}


def test_failed_problems_of_one_cause_are_retried_by_the_command_that_status_prints(
    cordctl: Cordctl, database_url: str
) -> None:
    import shlex

    import psycopg

    cordctl("enqueue", "problems.jsonl", "--run", "mine")
    with psycopg.connect(database_url.replace("+psycopg", "")) as connection:
        connection.execute(
            """
            UPDATE problems SET state = 'failed', finished_at = now(),
                failure_reason = 'the decision failed 5 times: OSError: it''s ' || position || ' MiB too large'
            WHERE key IN ('p1', 'p2', 'p3')
            """
        )
        connection.execute(
            "UPDATE problems SET state = 'failed', failure_reason = 'all are invalid', finished_at = now() "
            "WHERE key = 'p4'"
        )
    shown = cordctl("status").stdout
    assert "failed: p4: all are invalid\n" in shown
    assert "and 2 more: the decision failed 5 times: OSError: it's" in shown
    (command,) = [line.partition("once that is fixed: ")[2] for line in shown.splitlines() if "is fixed" in line]
    program, *arguments = shlex.split(command)
    assert program == "cordctl"
    failures = json.loads(cordctl("status", "--json").stdout)["failures"]
    assert [(cause["count"], cause["is_technical"]) for cause in failures] == [(3, True), (1, False)]
    unknown = cordctl("retry", "mine", "--reason", "nothing", exits=1).stderr
    assert "no failed problem whose reason contains 'nothing'" in unknown
    assert "give one of them" in cordctl("retry", "mine", "--reason", "x", "--failed", exits=2).stderr
    assert "--reason is empty" in cordctl("retry", "mine", "--reason", " ", exits=2).stderr
    assert "run mine: 3 failed problems continue" in cordctl(*arguments).stdout
    assert "once that is fixed" not in cordctl("status").stdout


def test_a_run_is_given_a_priority(cordctl: Cordctl) -> None:
    cordctl("enqueue", "problems.jsonl", "--run", "mine")
    assert "run mine has priority 5 (before: 0)" in cordctl("priority", "mine", "5").stdout
    assert "run mine has priority -3 (before: 5)" in cordctl("priority", "mine", "-3").stdout
    assert json.loads(cordctl("runs", "--json").stdout)["runs"][0]["priority"] == -3
    assert "no run is called 'yours'. There are: mine" in cordctl("priority", "yours", "1", exits=1).stderr
    assert "1001" in cordctl("priority", "mine", "1001", exits=2).stderr


def test_a_worker_is_drained_by_its_address(cordctl: Cordctl) -> None:
    cordctl("enqueue", "problems.jsonl", "--run", "mine")
    assert "no living worker is called 'here:1'. There are: none" in cordctl("drain", "here:1", exits=1).stderr
    coordinator = cordctl.start("coordinator")
    try:
        deadline = time.monotonic() + 60
        while not (alive := json.loads(cordctl("status", "--json").stdout)["processes"]):
            assert time.monotonic() < deadline
            time.sleep(0.2)
        address = alive[0]["process"]
        assert address.endswith(f":{coordinator.pid}")
        assert f"coordinator {address} finishes what it holds and exits" in cordctl("drain", address).stdout
        assert coordinator.wait(timeout=60) == 0
    finally:
        coordinator.kill()
        coordinator.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_process_that_is_asked_to_end_exits_cleanly(cordctl: Cordctl, number: signal.Signals) -> None:
    cordctl.environment["CORD_READY_FILE"] = str(cordctl.folder / "ready")
    cordctl("db", "upgrade")
    coordinator = cordctl.start("coordinator")
    try:
        deadline = time.monotonic() + 60
        while not (cordctl.folder / "ready").exists():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        coordinator.send_signal(number)
        assert coordinator.wait(timeout=60) == 0
    finally:
        coordinator.kill()
        coordinator.communicate()


def test_show_prints_the_search_of_one_problem(finished: Cordctl) -> None:
    row = exported(finished)[0]
    document = json.loads(finished("show", row["id"], "--json").stdout)
    texts = {one["lineage"]: one["text"] for one in document["candidates"]}
    assert [texts[lineage] for lineage in document["winning_path"]] == [step["text"] for step in row["steps"]]
    assert (document["score"], document["correct"]) == (row["score"], row["correct"])
    output = finished("show", row["id"], "done", "--text").stdout
    assert row["steps"][0]["text"].strip() in output
    assert "step 1" in finished("show", row["id"], "--step", "1").stdout
    missing = finished("show", "nothing", exits=1).stderr
    assert "no problem is called 'nothing'" in missing
    assert row["id"] in missing


def test_statistics_are_drawn_and_written_as_csv(finished: Cordctl) -> None:
    drawn = finished("stats", "done", "--plot").stdout
    assert "\x1b" not in drawn
    assert max(map(len, drawn.splitlines())) <= 80
    for title in (
        "by tenth",
        "mean score, by depth",
        "mean gain of a winning step",
        "steps of the result",
        "generated",
    ):
        assert title in drawn
    assert "no data yet" not in drawn
    figures = json.loads(finished("stats", "done", "--plot", "--json").stdout)
    assert [row["depth"] for row in figures["depths"]] == list(range(len(figures["depths"])))
    winning = sum(row["winning_steps"] for row in figures["gains"])
    assert winning == pytest.approx(sum(row["winners"] for row in figures["depths"][1:]))
    files = json.loads(finished("stats", "done", "--csv", "tables", "--json").stdout)["files"]
    assert len(files) == 7
    one = finished("stats", "done", "--csv", "-", "--table", "problems").stdout
    assert one == (finished.folder / "tables" / "problems.csv").read_text(encoding="utf-8")
    assert len(one.splitlines()) == 1 + 5
