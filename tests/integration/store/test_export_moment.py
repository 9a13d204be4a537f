"""An export shows one moment in its rows, failures and report, even if the run continues meanwhile."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pyarrow.parquet as pq
import sqlalchemy as sa

from cord_worker.export.exporting import Request, export_run, open_export
from cord_worker.export.formats import FORMATS
from cord_worker.export.report import ExportReport
from cord_worker.store.database import Database
from tests.integration.store.test_rescorings import run_with
from tests.support.waiting import wait_until

EVERY_CANDIDATE = Request(format=FORMATS["candidates"])
_OPEN = sa.text(
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction'"
)


def continue_run(database: Database) -> None:
    """Sets the unfinished problem to done, and another one to failed."""
    statement = """
        UPDATE problems SET state = CASE key WHEN 'p0' THEN 'failed' ELSE 'done' END,
                            failure_reason = CASE key WHEN 'p0' THEN 'x' END, finished_at = now()
        WHERE key IN ('p0', 'unfinished')
    """
    database.run(lambda connection: connection.execute(sa.text(statement)))


def test_no_file_of_an_export_has_what_happens_to_the_run_meanwhile(database: Database, tmp_path: Path) -> None:
    run_with(database, [(0.5,), (0.4,)])
    # The export waits here for a reader: it has counted the problems, and has not read the rows.
    pipe, failures = tmp_path / "rows.jsonl", tmp_path / "failures.parquet"
    os.mkfifo(pipe)
    reports: list[ExportReport] = []
    export = threading.Thread(
        target=lambda: reports.append(export_run(database, "run", str(pipe), EVERY_CANDIDATE, failures=str(failures)))
    )
    export.start()
    try:
        assert wait_until(lambda: database.run(lambda connection: connection.execute(_OPEN).scalar_one()) == 1)
        continue_run(database)
    finally:
        lines = pipe.read_text("utf-8").splitlines()
        export.join()
    assert {json.loads(line)["id"] for line in lines} == {"p0", "p1"}
    assert {json.loads(line)["problem_state"] for line in lines} == {"done"}
    assert pq.read_table(failures).num_rows == 0
    assert (reports[0].exported, reports[0].failed, reports[0].unfinished) == (len(lines), 0, 1)


def test_rows_that_are_read_lazily_are_those_of_the_report(database: Database) -> None:
    run_with(database, [(0.5,)])
    with open_export(database, "run", EVERY_CANDIDATE) as export:
        continue_run(database)
        ids = {row["id"] for row in export.rows}
        assert (ids, export.report().unfinished) == ({"p0"}, 1)


def test_candidates_of_failed_problems_are_said_to_be_among_the_rows(database: Database, tmp_path: Path) -> None:
    run_with(database, [(0.5,), (0.4,)])
    continue_run(database)
    report = export_run(database, "run", str(tmp_path / "out.jsonl"), EVERY_CANDIDATE)
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text("utf-8").splitlines()]
    assert {(row["id"], row["problem_state"]) for row in rows} == {
        ("p0", "failed"),
        ("p1", "done"),
        ("unfinished", "done"),
    }
    assert report.has_failed
    assert "1 failed problem included" in report.sentence()
    of_results = export_run(database, "run", str(tmp_path / "results.jsonl"))
    assert "1 failed problem not exported" in of_results.sentence()
