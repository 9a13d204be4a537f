"""What the client reads of a finished run is what the commands print and write."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from cord_worker import ExportError, OptionError, RunNotFound, RunProgress, RunStatus, StoreError
from cord_worker.export.format import Need
from cord_worker.export.formats import FORMATS
from cord_worker.store.database import create_engine
from tests.integration.client.conftest import DonePlace

WITHOUT_STUDENT = [one.name for one in FORMATS.values() if Need.STUDENT not in one.needs]
PASSING = {"idle_seconds", "steps_per_second", "tokens_per_second", "scores_per_second", "eta_seconds"}
"""Numbers that are others a moment later."""


def printed(place: DonePlace, *command: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(place.cordctl(*command, "--json").stdout)
    return document


def steady(document: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name not in PASSING}


@pytest.mark.long
def test_a_local_run_enqueues_works_and_says_what_it_does(done: DonePlace) -> None:
    assert (done.run.name, done.run.enqueued.added, done.run.enqueued.rejects) == ("done", 5, ())
    assert done.run.enqueued.created
    assert any("5 problems added" in message for message in done.messages)


def test_the_status_is_that_of_the_command(done: DonePlace) -> None:
    status = done.run.status()
    assert status.is_final
    assert (status.state, status.done, status.failed) == ("finished", 5, 0)
    assert steady(json.loads(json.dumps(status.to_json()))) == steady(printed(done, "status", "done"))
    assert RunStatus.from_json(status.to_json()) == status


def test_progress_is_what_watching_prints(done: DonePlace) -> None:
    seen: list[RunProgress] = []
    assert done.run.wait(5, on_progress=seen.append).done == 5
    line = done.cordctl("status", "done", "--watch", "--json").stdout.splitlines()[-1]
    assert [steady(json.loads(json.dumps(one.to_json()))) for one in seen] == [steady(json.loads(line))]


def test_the_list_of_runs_is_that_of_the_command(done: DonePlace) -> None:
    found = done.client.runs()
    assert [one.run for one in found] == ["done"]
    document = printed(done, "runs")["runs"]
    assert [{**asdict(one), "created_at": one.created_at.isoformat()} for one in found] == document


@pytest.mark.parametrize("form", WITHOUT_STUDENT)
def test_a_reader_has_the_rows_and_types_of_the_file(done: DonePlace, form: str) -> None:
    done.cordctl("export", "done", "--format", form, "-o", f"{form}.parquet")
    done.cordctl("export", "done", "--format", form, "-o", f"{form}.jsonl")
    table = done.run.export(form).read_all()
    assert table.num_rows
    assert table.equals(pq.read_table(done.folder / f"{form}.parquet"))
    lines = (done.folder / f"{form}.jsonl").read_text(encoding="utf-8").splitlines()
    assert table.to_pylist() == [json.loads(line) for line in lines]


def test_trajectories_and_candidates_are_these_formats(done: DonePlace) -> None:
    assert done.run.trajectories().read_all() == done.run.export("jsonl").read_all()
    assert done.run.candidates().read_all() == done.run.export("candidates").read_all()
    assert done.run.trajectories().schema == done.run.export().schema


def test_pandas_and_polars_take_the_rows(done: DonePlace) -> None:
    rows = done.run.trajectories().read_all().to_pylist()
    frame = done.run.trajectories().read_pandas()
    assert list(frame["id"]) == [row["id"] for row in rows]
    assert frame["score"].dtype == "float64"
    assert list(frame["score"]) == [row["score"] for row in rows]
    winners = pl.DataFrame(pl.from_arrow(done.run.candidates())).filter(pl.col("winning"))
    assert set(winners["id"]) == {row["id"] for row in rows}
    assert pl.DataFrame(done.run.trajectories())["question"].to_list() == [row["question"] for row in rows]
    nothing = done.run.trajectories(min_score=1)
    assert nothing.read_pandas().shape == (0, len(nothing.schema))
    assert pl.DataFrame(pl.from_arrow(done.run.trajectories(min_score=1))).shape == (0, len(nothing.schema))


def test_a_student_s_format_has_its_rows_too(done: DonePlace) -> None:
    done.cordctl("export", "done", "--format", "sft", "--student", "bundled:student", "-o", "sft.parquet")
    reports: list[Any] = []
    table = done.run.export("sft", student="bundled:student", max_tokens=100_000, on_report=reports.append).read_all()
    assert table.equals(pq.read_table(done.folder / "sft.parquet"))
    (report,) = reports
    assert report.exported == table.num_rows == 5
    assert report.longest > 0


def test_the_report_comes_with_the_last_row_and_counts_what_is_left_out(done: DonePlace) -> None:
    printed_report = json.loads(
        done.cordctl("export", "done", "--teachers", "alpha", "-o", "one.jsonl", "--json").stdout
    )
    reports: list[Any] = []
    reader = done.run.trajectories(teachers="alpha", on_report=reports.append)
    assert not reports
    rows = reader.read_all().num_rows
    (report,) = reports
    assert report.exported == rows == printed_report["exported"]
    assert report.left_out == 5 - rows == printed_report["left_out"]
    assert report.files == {}


def test_filters_are_those_of_the_command(done: DonePlace) -> None:
    scores = done.run.trajectories().read_all()["score"].to_pylist()
    least = sorted(scores)[2]
    of_numpy: Any = {"min_score": np.float64(least), "top_k": np.int64(1)}
    assert done.run.trajectories(**of_numpy).read_all().num_rows == 3
    kept = done.run.trajectories(min_score=least).read_all()["score"].to_pylist()
    assert kept == [score for score in scores if score >= least]
    assert 0 < len(kept) < 5
    one = {row["teacher"] for row in done.run.candidates(teachers=["alpha-hot"]).read_all().to_pylist()}
    assert one == {"alpha-hot"}
    (done.folder / "benchmark.jsonl").write_text('{"question": "What is 3 + 3?"}\n', encoding="utf-8")
    clean = done.run.trajectories(decontaminate=done.folder / "benchmark.jsonl").read_all()
    assert "p3" not in clean["id"].to_pylist()
    assert clean.num_rows < 5


def test_a_file_is_that_of_the_command(done: DonePlace) -> None:
    report = done.run.export_to(done.folder / "mine.jsonl", top_k=1, failures=str(done.folder / "failed.jsonl"))
    printed_report = printed(done, "export", "done", "--top-k", "1", "-o", "theirs.jsonl")
    mine, theirs = ((done.folder / name).read_bytes() for name in ("mine.jsonl", "theirs.jsonl"))
    assert mine == theirs
    assert report.exported == printed_report["exported"] == 5
    assert (done.folder / "failed.jsonl").read_bytes() == b""
    split = done.run.export_to(done.folder / "parts.jsonl", split="train=0.5,test=0.5")
    assert sum(split.files.values()) == 5
    assert (done.folder / "parts-train.jsonl").exists()


@pytest.mark.parametrize(
    ("form", "choices", "told"),
    [
        ("json", {}, "no format is called 'json': did you mean 'jsonl'?"),
        ("jsonl", {"student": "bundled:student"}, "--student has no meaning with --format jsonl"),
        ("sft", {}, "needs --student MODEL"),
        ("messages", {"max_tokens": 5}, "--max-tokens needs --student"),
        ("messages", {"think": "inlined"}, "give field or inline"),
        ("jsonl", {"top_k": 0}, "--top-k 0: give a whole number from 1"),
        ("jsonl", {"top_k": True}, "give a whole number"),
        ("jsonl", {"min_score": 1.5}, "give a number from 0 to 1"),
        ("jsonl", {"min_score": float("nan")}, "give a number from 0 to 1"),
        ("jsonl", {"teachers": ""}, "names no teacher"),
        ("jsonl", {"decontaminate": []}, "--decontaminate names no file"),
        ("jsonl", {"decontaminate": ""}, "give the path of a file"),
        ("jsonl", {"license": "mit"}, "goes with --card"),
        ("jsonl", {"private": False}, "go with --push"),
        ("jsonl", {"split": "train=1"}, "use export_to"),
        ("jsonl", {"dataset_info": True}, "use export_to"),
        ("jsonl", {"decontaminate_field": "question"}, "goes with --decontaminate"),
    ],
)
def test_wrong_choices_are_refused_in_one_line(done: DonePlace, form: str, choices: Any, told: str) -> None:
    with pytest.raises(OptionError) as raised:
        done.run.export(form, **choices)
    assert told in str(raised.value)
    assert "\n" not in str(raised.value)


def test_what_the_run_lacks_and_what_does_not_exist_is_refused(done: DonePlace) -> None:
    with pytest.raises(ExportError, match=r"no teacher is called 'alhpa'.* did you mean 'alpha'"):
        done.run.trajectories(teachers="alhpa")
    with pytest.raises(ExportError, match="one result of each problem"):
        done.run.export("dpo", student="bundled:student")
    with pytest.raises(ExportError, match="standard output"):
        done.run.export_to("-")
    with pytest.raises(ExportError, match=r"problems\.jsonl"):
        done.run.export_to(done.problems)
    with pytest.raises(ExportError, match="does not say which type of file to write"):
        done.run.export_to(done.folder / "out.txt")
    with pytest.raises(ExportError, match="zero character"):
        done.run.export_to(done.folder / "a\0.jsonl")
    with pytest.raises(ExportError, match=r"cannot be written: File name too long"):
        done.run.export_to(done.folder / f"{'a' * 300}.jsonl")
    with pytest.raises(TypeError, match="topk"):
        done.run.export("jsonl", topk=1)  # type: ignore[call-arg]
    with pytest.raises(RunNotFound, match="did you mean 'done'"):
        done.client.run("dnoe")
    with pytest.raises(TypeError, match="is a text, not None"):
        done.client.run(None)  # type: ignore[arg-type]


@pytest.mark.parametrize("seconds", [-1, float("nan"), "1"])
def test_a_wait_takes_a_number_of_seconds(done: DonePlace, seconds: Any) -> None:
    with pytest.raises(OptionError, match="give a number of seconds from 0"):
        done.run.wait(seconds)


def test_a_client_and_its_readers_refuse_to_work_after_a_fork(done: DonePlace) -> None:
    reader = done.run.candidates()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            for call in (done.run.status, reader.read_all):
                try:
                    call()
                except StoreError as error:
                    os.write(writing, f"{error}\n".encode())
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading) as pipe:
        assert [line.count("forked from") for line in pipe] == [1, 1]
    assert reader.read_all().num_rows


def test_many_readers_are_open_at_once(done: DonePlace) -> None:
    readers = [done.run.candidates() for _ in range(12)]
    tables = [reader.read_all() for reader in readers]
    assert all(table.equals(tables[0]) for table in tables)


def open_transactions(place: DonePlace) -> int:
    engine = create_engine(place.cordctl.environment["CORD_DATABASE_URL"])
    with engine.connect() as connection:
        found = connection.execute(
            sa.text(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
                "AND state = 'idle in transaction' AND pid <> pg_backend_pid()"
            )
        ).scalar_one()
    engine.dispose()
    return int(found)


@pytest.mark.usefixtures("one_by_one")
def test_batches_come_as_they_are_read_and_a_dropped_reader_leaves_nothing(done: DonePlace) -> None:
    reader = done.run.trajectories()
    assert reader.read_next_batch().num_rows == 1
    assert open_transactions(done) == 1
    del reader
    assert open_transactions(done) == 0
    unread = done.run.trajectories()
    assert open_transactions(done) == 1
    del unread
    assert open_transactions(done) == 0
    whole = done.run.trajectories()
    assert sum(batch.num_rows for batch in whole) == 5
    assert open_transactions(done) == 0


@pytest.mark.usefixtures("one_by_one")
def test_a_cut_connection_is_an_error_at_every_further_read(done: DonePlace) -> None:
    reader = done.run.trajectories()
    reader.read_next_batch()
    engine = create_engine(done.cordctl.environment["CORD_DATABASE_URL"])
    with engine.connect() as connection:
        ended = connection.execute(
            sa.text(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() "
                "AND state = 'idle in transaction' AND pid <> pg_backend_pid()"
            )
        ).scalar_one()
    engine.dispose()
    assert ended == 1
    for _ in range(3):
        with pytest.raises(StoreError):
            reader.read_next_batch()
    assert done.run.trajectories().read_all().num_rows == 5
