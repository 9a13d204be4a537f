"""Enqueuing, waiting for and changing runs from a program, wrong uses included."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import psutil
import pyarrow as pa
import pytest
import sqlalchemy as sa

from cord_worker import (
    Client,
    ConfigError,
    DatasetError,
    EnqueuedRun,
    RunConflict,
    RunFailed,
    RunNotFound,
    RunProgress,
    RunStopped,
    StoreError,
    WaitTimeout,
    WorkersMissing,
    preset,
)
from cord_worker.store.database import create_engine
from tests.integration.client.conftest import Place
from tests.support.configurations import SMALL
from tests.support.cordctl_process import problem


def execute(place: Place, statement: str) -> None:
    engine = create_engine(place.cordctl.environment["CORD_DATABASE_URL"])
    with engine.begin() as connection:
        connection.execute(sa.text(statement))
    engine.dispose()


def postgres_of(state: Path) -> Any:
    """The embedded PostgreSQL that runs for a state folder, as recorded there."""
    return json.loads((state / "services.json").read_text(encoding="utf-8"))["postgres"]


def enqueued(place: Place, **more: Any) -> EnqueuedRun:
    return place.client.enqueue(place.problems, place.config, **more)


def test_a_file_is_enqueued_as_by_the_command(place: Place) -> None:
    dry = enqueued(place, dry_run=True)
    assert (dry.enqueued.dry_run, dry.enqueued.added) == (True, 5)
    with pytest.raises(RunNotFound):
        dry.status()
    run = enqueued(place)
    again = json.loads(place.cordctl("enqueue", "problems.jsonl", "--json").stdout)
    assert again == {**again, "run": run.name, "created": False, "added": 0, "already": 5}
    assert (run.enqueued.created, run.enqueued.added, run.enqueued.already) == (True, 5, 0)
    assert set(again) == set(run.enqueued.__dataclass_fields__) - {"rejects"}


def test_rows_of_every_kind_are_the_problems_of_the_file(place: Place) -> None:
    rows = [problem(number, topic="sums") for number in range(5)]
    given = {
        "dicts": (dict(row) for row in rows),
        "pandas": pd.DataFrame(rows),
        "polars": pl.DataFrame(rows),
        "arrow": pa.Table.from_pylist(rows),
    }
    for name, dataset in given.items():
        assert place.client.enqueue(dataset, place.config, run=name).enqueued.added == 5
        # Equal ids with another content would be a conflict.
        assert enqueued(place, run=name).enqueued.already == 5


def test_bad_rows_stop_everything_or_are_in_the_result(place: Place) -> None:
    rows = [problem(1), {"id": "p2", "question": ""}, problem(3), problem(3)]
    with pytest.raises(DatasetError, match=r"rows.jsonl:2: field 'question' is empty"):
        place.client.enqueue(rows, place.config, run="mine")
    with pytest.raises(RunNotFound):
        place.client.run("mine")
    found = place.client.enqueue(rows, place.config, run="mine", skip_invalid=True).enqueued
    assert (found.added, found.rejected, found.rejects_file) == (2, 2, None)
    assert [(one.location, one.field) for one in found.rejects] == [
        ("rows.jsonl:2", "question"),
        ("rows.jsonl:4", "id"),
    ]
    assert found.rejects[0].raw == {"id": "p2", "question": ""}


def test_bad_rows_of_a_file_are_in_the_result_and_beside_it(place: Place) -> None:
    place.cordctl.write_problems(problem(1), {"id": "p2", "question": ""})
    found = enqueued(place, skip_invalid=True).enqueued
    assert found.rejects_file == place.folder / "problems.jsonl.rejects.jsonl"
    (line,) = found.rejects_file.read_text(encoding="utf-8").splitlines()
    (row,) = found.rejects
    assert json.loads(line) == {"location": row.location, "field": row.field, "reason": row.reason, "raw": row.raw}


def test_fields_are_named_as_for_the_command(place: Place) -> None:
    rows = [{"q": "What is 1 + 1?", "a": "2"}, {"q": "What is 2 + 2?", "a": "4"}]
    run = place.client.enqueue(rows, place.config, run="named", question_field="q", answer_field="a", limit=1)
    assert run.enqueued.added == 1
    with pytest.raises(TypeError, match="anwser_field"):
        place.client.enqueue(rows, place.config, run="named", anwser_field="a")  # type: ignore[call-arg]
    with pytest.raises(DatasetError, match="give 1 or more"):
        place.client.enqueue(rows, place.config, run="named", limit=0)


def test_what_cannot_be_enqueued_is_refused_and_leaves_nothing(place: Place) -> None:
    client, rows = place.client, [problem(1)]
    with pytest.raises(ConfigError, match="give one, run="):
        client.enqueue(rows, place.config)
    with pytest.raises(ConfigError, match="the run's name is empty"):
        client.enqueue(rows, place.config, run="")
    with pytest.raises(ConfigError, match="must begin with a letter"):
        client.enqueue(rows, place.config, run="../mine")
    with pytest.raises(ConfigError, match="serch"):
        client.enqueue(rows, {**preset("tiny"), "serch": {}}, run="mine")
    with pytest.raises(DatasetError, match="does not exist"):
        client.enqueue(place.folder / "nowhere.jsonl", place.config)
    with pytest.raises(DatasetError, match="int is not a dataset"):
        client.enqueue(7, place.config, run="mine")
    assert client.runs() == []
    client.enqueue(rows, place.config, run="mine")
    with pytest.raises(RunConflict, match="another configuration"):
        client.enqueue(rows, preset("tiny"), run="mine")


def test_a_wait_ends_with_the_reason_why_it_goes_no_further(place: Place) -> None:
    run = enqueued(place, run="mine")
    seen: list[RunProgress] = []
    started = time.monotonic()
    with pytest.raises(WaitTimeout, match="not final after") as raised:
        run.wait(0.3, interval=0.1, on_progress=seen.append, missing_workers_seconds=None)
    assert isinstance(raised.value, TimeoutError)
    assert time.monotonic() - started >= 0.3
    assert seen[0].problems["queued"] == 5
    assert seen[0].missing_workers == ["coordinator", "alpha", "judge"]
    with pytest.raises(WorkersMissing, match="NO WORKER for coordinator, alpha, judge: start one with"):
        run.wait(missing_workers_seconds=0.2, interval=0.1)
    run.pause()
    with pytest.raises(RunStopped, match=r"is paused\. Continue it"):
        run.wait()
    run.cancel()
    with pytest.raises(RunStopped, match="was cancelled"):
        run.wait()


def test_a_wait_tells_the_progress_at_every_look(place: Place) -> None:
    class SeenEnough(Exception):
        pass

    def on_progress(progress: RunProgress) -> None:
        seen.append(progress)
        if len(seen) == 3:
            raise SeenEnough

    seen: list[RunProgress] = []
    with pytest.raises(SeenEnough):
        enqueued(place, run="mine").wait(interval=0.05, on_progress=on_progress)
    assert [progress.problems["queued"] for progress in seen] == [5, 5, 5]


def test_changes_return_what_the_commands_print(place: Place) -> None:
    run = enqueued(place, run="mine")
    paused = run.pause()
    assert (paused.changed, run.status().state) == (True, "paused")
    assert json.loads(place.cordctl("pause", "mine", "--json").stdout) == {**paused.to_json(), "changed": False}
    resumed = run.resume()
    assert (resumed.changed, list(resumed.missing_workers)) == (True, ["coordinator", "alpha", "judge"])
    assert json.loads(place.cordctl("resume", "mine", "--json").stdout) == {**resumed.to_json(), "changed": False}
    execute(place, "UPDATE problems SET state = 'failed', failure_reason = 'worker lost', finished_at = now()")
    with pytest.raises(RunFailed, match=r"5 problems failed and none is done.* worker lost"):
        run.wait()
    with pytest.raises(StoreError, match="no failed problem whose reason contains"):
        run.retry(reason="engine")
    with pytest.raises(StoreError, match="the reason is empty"):
        run.retry(reason=" ")
    with pytest.raises(StoreError, match="give the ids of problems or a reason, not both"):
        run.retry("p1", reason="worker")
    with pytest.raises(StoreError, match="no problem 'p9'"):
        run.retry(["p1", "p9"])
    with pytest.raises(StoreError, match="no id of a problem was given"):
        run.retry([], from_scratch=True)
    assert run.status().failed == 5
    retried = run.retry("p1")
    assert (retried.retried, dict(retried.problems)) == (1, {"queued": 1})
    assert run.retry(["p1"]).left_alone == {"p1": "queued"}
    rest = run.retry(reason="worker", from_scratch=True).to_json()
    assert (rest["retried"], rest["problems"]) == (4, {"queued": 4})
    nothing = json.loads(place.cordctl("retry", "mine", "--json").stdout)
    assert nothing == {**json.loads(json.dumps(rest)), "retried": 0, "problems": {}}
    assert run.recheck(dry_run=True).to_json()["unfinished_problems"] == 5
    assert run.cancel().to_json() == {"run": "mine", "state": "cancelled", "cancelled": 5}
    assert run.cancel().cancelled == 0
    with pytest.raises(RunConflict, match="was cancelled"):
        run.resume()


@pytest.mark.usefixtures("one_by_one")
def test_a_run_that_is_deleted_while_it_is_read_is_read_to_its_end_or_fails(place: Place) -> None:
    seen: list[RunProgress] = []
    run = place.client.run_local(
        [problem(number) for number in range(3)], place.config, run="mine", on_progress=seen.append
    )
    assert seen[-1].is_final
    whole = run.candidates().read_all()
    reader = run.candidates()
    first = reader.read_next_batch()
    cut = run.trajectories()
    cut.read_next_batch()
    place.cordctl("rm", "mine", "--yes")
    rest = reader.read_all()
    assert pa.concat_tables([pa.Table.from_batches([first]), rest]).equals(whole)
    for attempt in (run.status, run.trajectories, run.pause, run.wait, run.retry):
        with pytest.raises(RunNotFound, match="mine"):
            attempt()
    # A closed client ends what is still being read, with an error: a cut stream must not look complete.
    place.client.close()
    for _ in range(2):
        with pytest.raises(StoreError, match="this client is closed"):
            cut.read_next_batch()
    with pytest.raises(StoreError, match="this client is closed"):
        run.status()
    place.client.close()


def test_a_paused_run_is_not_run(place: Place) -> None:
    enqueued(place, run="mine").pause()
    with pytest.raises(RunConflict, match="is paused"):
        place.client.run_local(place.problems, place.config, run="mine")


@pytest.mark.parametrize(
    ("urls", "told"),
    [
        ({"database_url": "mysql://u:pa55w0rd@h/d"}, "must be a PostgreSQL URL"),
        ({"broker_url": "redis://u:pa55w0rd@h/first"}, "broker_url: a Redis URL ends with the number"),
        ({"database_url": ""}, "database_url: "),
    ],
)
def test_a_wrong_url_is_refused_without_its_password(urls: dict[str, str], told: str) -> None:
    with pytest.raises(ConfigError, match=told) as raised:
        Client(**urls)
    assert "pa55w0rd" not in str(raised.value)


def test_a_database_that_is_away_is_one_error(tmp_path: Path) -> None:
    url = "postgresql://u:pa55w0rd@127.0.0.1:1/d"
    with Client(tmp_path, database_url=url) as client, pytest.raises(StoreError) as raised:
        client.runs()
    assert "pa55w0rd" not in str(raised.value)


def test_background_workers_are_used_and_results_outlive_them(empty_state: Path) -> None:
    config = f"{SMALL}[search]\nmax_steps = 3\n"
    file = empty_state.parent / "cord.toml"
    file.write_text(config, encoding="utf-8")
    with Client(empty_state) as client:
        with pytest.raises(ConfigError, match="no embedded services run in"):
            client.runs()
        assert client.down() is False
        said: list[str] = []
        started = client.up(file, on_message=said.append)
        assert (started.started, started.ready) == (True, True)
        assert {one["name"] for one in started.processes} == {"coordinator", "worker-alpha", "worker-judge"}
        assert any("ready: judge" in line for line in said)
        run = client.enqueue([problem(number) for number in range(4)], file, run="mine")
        assert run.wait(120, interval=0.2).done == 4
        assert client.up(file, wait=False).started is False
        assert client.down() is True
        # PostgreSQL is started again for this program.
        assert run.trajectories().read_all().num_rows == 4
        assert [one.state for one in client.runs()] == ["finished"]
        assert postgres_of(empty_state) is not None
    assert postgres_of(empty_state) is None
    # A program that forgets to close its client and to read to the end leaves nothing behind, and prints nothing.
    script = (
        "import sys; from cord_worker import Client\n"
        "client = Client(sys.argv[1]); reader = client.run('mine').trajectories(); print(reader.schema.names[0])\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script, str(empty_state)], capture_output=True, text=True, timeout=60, check=True
    )
    assert (ended.stdout, ended.stderr) == ("id\n", "")
    assert postgres_of(empty_state) is None


def test_an_interrupted_local_run_stops_its_workers_and_continues_later(place: Place) -> None:
    def interrupt(_: RunProgress) -> None:
        raise KeyboardInterrupt

    before = set(psutil.Process().children(recursive=True))
    with pytest.raises(KeyboardInterrupt):
        place.client.run_local(place.problems, place.config, run="mine", on_progress=interrupt)
    assert set(psutil.Process().children(recursive=True)) <= before
    assert place.client.run("mine").status().problems["total"] == 5
    again = place.client.run_local(place.problems, place.config, run="mine")
    assert (again.enqueued.already, again.status().done) == (5, 5)
