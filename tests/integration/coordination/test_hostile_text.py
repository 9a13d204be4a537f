"""Texts that attack databases, terminals and browsers are stored, shown and exported as mere text."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from cord_worker.engines.instant import HOSTILE
from cord_worker.operations.replaying import replay_run, verify_tables
from cord_worker.store.database import Database
from tests.support.cluster import Cluster
from tests.support.configurations import SEARCHES, config_of
from tests.support.tables import count

PROBLEMS = 8
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\u202e]")


@pytest.mark.parametrize("search", ["every option", "phrases", "sample"])
def test_hostile_text_is_stored_shown_and_exported_as_text(
    search: str, tmp_path: Path, database: Database, database_url: str, broker_url: str
) -> None:
    assert search in SEARCHES
    with Cluster(tmp_path, database_url, broker_url, config_of(search)) as cluster:
        cluster.start()
        cluster.enqueue(database, PROBLEMS, run="run\x1b[2J<b>", addition=f" {HOSTILE} </think> <|im_end|> \x1b[2J")
        cluster.wait_until(lambda: count(database, "finished_at IS NOT NULL") == PROBLEMS, 300)
        environment = cluster.environment
    assert count(database, "state = 'failed'") < PROBLEMS
    (*_, replayed) = replay_run(database, None)
    assert replayed.differences == []
    assert verify_tables(database, None, examples=1).broken == []
    assert (
        count(database, "text LIKE '%<script>%' OR text LIKE '%DROP TABLE%' OR text LIKE '%im_end%'", "candidates") > 0
    )

    def cordctl(*arguments: str) -> str:
        ended = subprocess.run(
            [sys.executable, "-m", "cord_worker.cli", *arguments], env=environment, capture_output=True, check=False
        )
        assert ended.returncode == 0, ended.stderr
        return (ended.stdout + ended.stderr).decode()

    run = "run\x1b[2J<b>"
    for command in (("runs",), ("status", run), ("stats", run), ("cost", run), ("verify-db", run), ("replay", run)):
        shown = cordctl(*command)
        assert not CONTROL.search(shown), command
    exported = tmp_path / "out.jsonl"
    cordctl("export", run, "-o", str(exported))
    lines = exported.read_text(encoding="utf-8").split("\n")
    records = [json.loads(line) for line in lines if line]
    assert len(records) >= count(database, "state = 'done'")
    for record in records:
        assert record["trajectory"].count("<think>") == 1
        # The question's own tags are in the question, and the trajectory closes its thinking once.
        assert record["trajectory"].count("</think>") == 1
    stored = database.run(lambda connection: connection.execute(sa.text("SELECT count(*) FROM runs")).scalar_one())
    assert stored == 1
