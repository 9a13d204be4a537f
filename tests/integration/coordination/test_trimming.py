"""Trimmed runs: what is copied, answered and checked, what interrupts them, and what `replay` and `verify-db` find."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from cord_worker.coordination.fault_points import VARIABLE
from cord_worker.errors import ConfigError, RunConflict
from cord_worker.export.exporting import export_run
from cord_worker.export.report import SourceCounts
from cord_worker.operations.comparison import compare_results
from cord_worker.operations.replaying import replay_run
from cord_worker.operations.run_watch import missing_workers
from cord_worker.operations.table_verification import verify_tables
from cord_worker.operations.trimming import Trim, Trimmed, trim_run, trimmed_run_of
from cord_worker.search.trimming import kept_steps
from cord_worker.store.database import Database
from cord_worker.store.reports.costs import read_costs
from cord_worker.store.reports.results import Result, stream_results
from cord_worker.store.reports.status import read_counts, read_totals
from cord_worker.store.runs.admission import admit
from cord_worker.store.runs.lifecycle import cancel_run, pause_run, resume_run
from cord_worker.store.runs.removal import remove_run
from cord_worker.store.runs.retry import restart_failed, retry_failed
from cord_worker.store.runs.runs import resolve_run
from cord_worker.store.schema.kinds import ANSWER
from cord_worker.store.search.decisions import fail_problem
from tests.support.cluster import Cluster
from tests.support.tables import content, count, differences, findings, run_id
from tests.support.tampering import look
from tests.support.tampering_edits import Edit
from tests.support.trimmed_runs import ABOVE, OTHERS, PROBLEMS, SOURCES, enqueue_into, wait_for_all
from tests.support.web_documents import faults_of_run

pytestmark = pytest.mark.long


def _results(database: Database, run: str) -> dict[str, Result]:
    with database.transaction() as connection:
        return {one.key: one for one in stream_results(connection, resolve_run(connection, run).id)}


def _texts(result: Result, most: int | None = None) -> list[tuple[str, str, float | None]]:
    return [(step.teacher, step.text, step.score) for step in result.steps[:most]]


@pytest.mark.parametrize("name", SOURCES)
def test_winners_end_at_the_cut_with_a_new_answer_and_unchanged_ones_keep_theirs(
    name: str, trimmed: tuple[Cluster, Database]
) -> None:
    _, database = trimmed
    sources, copies = _results(database, name), _results(database, f"{name}-trim-0.5")
    assert list(copies) == list(sources)
    assert [one.position for one in copies.values()] == [one.position for one in sources.values()]
    shortened = other = 0
    for key, copy in copies.items():
        source = sources[key]
        kept = kept_steps([step.score or 0.0 for step in source.steps], ABOVE)
        assert _texts(copy) == _texts(source, kept)
        assert copy.answer_text
        assert copy.verification is not None
        if kept < len(source.steps):
            shortened += 1
            assert copy.finish == "trimmed"
            other += copy.answer_text != source.answer_text
        else:
            assert (copy.finish, copy.answer_text) == (source.finish, source.answer_text)
            assert (copy.correct, copy.verification) == (source.correct, source.verification)
    assert 0 < shortened < PROBLEMS
    assert other > shortened / 2  # by chance an answer may be the same
    again = trim_run(database, Trim(name, ABOVE))
    assert (again.added, again.shortened, again.unchanged) == (0, shortened, PROBLEMS - shortened)


@pytest.mark.parametrize("name", SOURCES)
def test_nothing_is_found_in_an_unedited_trimmed_run_or_its_source(
    name: str, trimmed: tuple[Cluster, Database]
) -> None:
    _, database = trimmed
    assert findings(database, name) == []
    assert findings(database, f"{name}-trim-0.5") == []
    verified = verify_tables(database, f"{name}-trim-0.5", examples=3, compare=True)
    assert verified.broken == []
    assert verified.without_source == []
    (*_, replayed) = replay_run(database, f"{name}-trim-0.5")
    assert (replayed.problems, replayed.decisions) == (PROBLEMS, PROBLEMS)


@pytest.mark.parametrize("name", [*SOURCES, *OTHERS, *(f"{name}-trim-0.5" for name in SOURCES)])
def test_the_web_view_shows_runs_of_every_kind(name: str, trimmed: tuple[Cluster, Database]) -> None:
    _, database = trimmed
    assert faults_of_run(database, name) == []


def test_copies_cost_nothing_and_the_tokens_of_a_result_are_fewer(trimmed: tuple[Cluster, Database]) -> None:
    _, database = trimmed
    run = run_id(database, "cord-trim-0.5")
    costs = database.run(lambda connection: read_costs(connection, "cord-trim-0.5"))
    assert {row.kind for row in costs} == {"answer"}
    totals = database.run(lambda connection: read_totals(connection, run))
    assert totals.tokens == sum(row.completion_tokens for row in costs) > 0
    assert database.run(lambda connection: read_counts(connection, run)).idle_seconds < 300
    compared = database.run(lambda connection: compare_results(connection, ["cord", "cord-trim-0.5"]))
    source, shorter = compared.runs
    assert source.result_tokens is not None
    assert shorter.result_tokens is not None
    assert shorter.result_tokens.mean < source.result_tokens.mean
    results = _results(database, "cord-trim-0.5")
    answers = "SELECT sum(answer_completion_tokens) FROM trajectories j JOIN problems p ON p.id = j.problem_id"
    written = database.run(lambda c: c.execute(sa.text(f"{answers} WHERE p.run_id = :run"), {"run": run}).scalar_one())
    thought = "SELECT sum(c.thinking_tokens) FROM candidates c JOIN trajectories j ON j.candidate_id = c.id "
    read = database.run(
        lambda c: c.execute(
            sa.text(f"{thought} JOIN problems p ON p.id = j.problem_id WHERE p.run_id = :run"), {"run": run}
        ).scalar_one()
    )
    assert shorter.result_tokens.mean == pytest.approx((written + read) / len(results))


def test_a_problem_begins_with_its_answer_when_it_is_admitted_and_needs_no_prover(
    trimmed: tuple[Cluster, Database],
) -> None:
    cluster, database = trimmed
    cluster.stop("coordinator")
    cluster.stop("judge")
    try:
        made = trim_run(database, Trim("cord", ABOVE, "begun"))
        queued = f"run_id = {made.run_id} AND state = 'queued'"
        assert count(database, queued) == made.shortened
        assert findings(database, "begun") == []
        with database.transaction() as connection:
            due = admit(connection)
            connection.rollback()
        assert {one.kind for one in due} == {ANSWER.name}
        assert len(due) == made.shortened
        missing = database.run(lambda connection: missing_workers(connection, "begun", 60.0))
        assert missing == ["coordinator"]
        cluster.start("coordinator")
        wait_for_all(cluster, database)
    finally:
        cluster.start(*(name for name in ("coordinator", "judge") if cluster.processes[name].poll() is not None))
    assert differences(content(database, "cord-trim-0.5"), content(database, "begun")) == []


def test_problems_that_are_done_later_are_added(trimmed: tuple[Cluster, Database], tmp_path: Path) -> None:
    cluster, database = trimmed
    enqueue_into(database, "cord-later", range(3))
    wait_for_all(cluster, database)
    first = trim_run(database, Trim("cord-later", ABOVE))
    assert first.added == 3
    enqueue_into(database, "cord-later", range(5))
    wait_for_all(cluster, database)
    with pytest.raises(RunConflict, match="lacks 2 winners"):
        database.run(lambda connection: trimmed_run_of(connection, "cord-later", ABOVE))
    report = export_run(database, "cord-later-trim-0.5", str(tmp_path / "short.jsonl"))
    assert report.source == SourceCounts("cord-later", failed=0, unfinished=0, missing=2)
    assert "run cord-later has 2 more problems: 2 not trimmed yet" in report.sentence()
    second = trim_run(database, Trim("cord-later", ABOVE))
    assert (second.added, second.shortened + second.unchanged) == (2, 5)
    wait_for_all(cluster, database)
    assert database.run(lambda connection: trimmed_run_of(connection, "cord-later", ABOVE)) == "cord-later-trim-0.5"
    complete = export_run(database, "cord-later-trim-0.5", str(tmp_path / "short.jsonl"))
    assert (complete.exported, complete.source) == (5, SourceCounts("cord-later", 0, 0, 0))
    assert "more problem" not in complete.sentence()
    assert list(_results(database, "cord-later-trim-0.5")) == [f"problem-{n}" for n in range(5)]
    assert findings(database, "cord-later-trim-0.5") == []


KILLED = """
import os, signal, sys
from cord_worker.operations import trimming
from cord_worker.store.database import Database

copied = 0
copy_winners = trimming.copy_winners

def dies(*given):
    global copied
    copy_winners(*given)
    copied += 1
    if copied == 3:
        os.kill(os.getpid(), signal.SIGKILL)  # before the third commit

trimming.copy_winners = dies
trimming.trim_run(Database(sys.argv[1]), trimming.Trim("cord", 0.5, "killed"), batch=2)
"""


def test_a_command_killed_in_the_middle_continues_where_it_stopped(trimmed: tuple[Cluster, Database]) -> None:
    cluster, database = trimmed
    url = cluster.environment["CORD_DATABASE_URL"]
    killed = subprocess.run([sys.executable, "-c", KILLED, url], check=False, env=os.environ)
    assert killed.returncode == -signal.SIGKILL
    assert count(database, f"run_id = {run_id(database, 'killed')}") == 4
    assert trim_run(database, Trim("cord", ABOVE, "killed"), batch=5).added == PROBLEMS - 4
    wait_for_all(cluster, database)
    assert differences(content(database, "cord-trim-0.5"), content(database, "killed")) == []
    assert findings(database, "killed") == []


@pytest.mark.parametrize("source", ["cord", "judged"])
def test_workers_killed_in_the_middle_change_no_result(source: str, trimmed: tuple[Cluster, Database]) -> None:
    cluster, database = trimmed
    faults = {
        "alpha": "finish answer:before:1",
        "beta": "finish answer:after:1",
        "referee": "finish judge_answer:before:2",
        "coordinator": "end verified:before:2",
    }
    if source == "cord":
        del faults["referee"]
        faults["coordinator"] = "finish check_answer:before:2"
    for name, fault in faults.items():
        cluster.kill(name)
        cluster.environment[VARIABLE] = fault
        cluster.start(name)
    del cluster.environment[VARIABLE]
    name = f"disturbed-{source}"
    trim_run(database, Trim(source, 0.4, name))
    fallen: set[str] = set()

    def restarted() -> bool:
        for victim in faults:
            if victim not in fallen and cluster.processes[victim].poll() is not None:
                fallen.add(victim)
                cluster.start(victim)
        return count(database, "finished_at IS NULL") == 0

    cluster.wait_until(restarted, 200)
    assert "coordinator" in fallen
    assert fallen & {"alpha", "beta"}
    trim_run(database, Trim(source, 0.4))
    wait_for_all(cluster, database)
    assert differences(content(database, f"{source}-trim-0.4"), content(database, name)) == []
    assert findings(database, name) == []
    for victim in set(faults) - fallen:
        cluster.kill(victim)
        cluster.start(victim)


def test_a_trimmed_run_is_paused_continued_cancelled_and_removed_like_others(trimmed: tuple[Cluster, Database]) -> None:
    cluster, database = trimmed
    cluster.stop("coordinator")
    made = trim_run(database, Trim("cord", 0.3, "controlled"))
    database.run(lambda connection: pause_run(connection, "controlled"))
    with database.transaction() as connection:
        assert admit(connection) == []
    database.run(lambda connection: resume_run(connection, "controlled"))
    database.run(lambda connection: cancel_run(connection, "controlled"))
    cluster.start("coordinator")
    assert count(database, f"run_id = {made.run_id} AND state = 'cancelled'") == made.shortened
    assert findings(database, "controlled") == []
    with pytest.raises(RunConflict, match="was cancelled"):
        trim_run(database, Trim("cord", 0.3, "controlled"))
    assert remove_run(database, "controlled").problems == PROBLEMS
    assert findings(database, "cord") == []


def test_failed_problems_are_retried_but_not_from_scratch(trimmed: tuple[Cluster, Database]) -> None:
    cluster, database = trimmed
    cluster.stop("coordinator")
    made = trim_run(database, Trim("cord", ABOVE, "failing"))
    ids = database.run(
        lambda c: (
            c.execute(sa.text("SELECT id FROM problems WHERE run_id = :run AND state = 'queued'"), {"run": made.run_id})
            .scalars()
            .all()
        )
    )
    database.run(lambda connection: admit(connection))
    database.run(lambda connection: fail_problem(connection, ids[0], "the final answer cannot be written: x"))
    with pytest.raises(RunConflict, match="copies"):
        database.run(lambda connection: restart_failed(connection, "failing"))
    retried = database.run(lambda connection: retry_failed(connection, "failing"))
    assert retried.problems == {"answering": 1}
    cluster.start("coordinator")
    wait_for_all(cluster, database)
    assert differences(content(database, "cord-trim-0.5"), content(database, "failing")) == []


def test_a_run_without_its_source_is_checked_as_far_as_that_is_possible(trimmed: tuple[Cluster, Database]) -> None:
    cluster, database = trimmed
    enqueue_into(database, "cord-gone", range(4))
    wait_for_all(cluster, database)
    trim_run(database, Trim("cord-gone", ABOVE))
    wait_for_all(cluster, database)
    before = content(database, "cord-gone-trim-0.5")
    remove_run(database, "cord-gone")
    assert differences(before, content(database, "cord-gone-trim-0.5")) == []
    assert findings(database, "cord-gone-trim-0.5") == []
    (*_, replayed) = replay_run(database, "cord-gone-trim-0.5")
    assert replayed.is_without_source
    assert verify_tables(database, None, examples=3).without_source == ["cord-gone-trim-0.5"]
    lower = f"UPDATE runs SET trim_above = 0.1 WHERE id = {run_id(database, 'cord-gone-trim-0.5')}"
    for edit in (
        Edit("UPDATE candidates SET text = text || '!' WHERE problem_id = :problem", ", teacher ", "text"),
        Edit(lower + " AND :problem > 0", "its row", "trim_above"),
    ):
        found = look(database, Edit(edit.sql, edit.row, edit.column, "cord-gone-trim-0.5"))
        assert [line for line in found.replay if edit.row in line and edit.column in line], found
        assert [line for line in found.verify if edit.row in line and edit.column in line], found
    enqueue_into(database, "cord-gone", range(4))  # a later run of that name is not the source
    assert findings(database, "cord-gone-trim-0.5") == []
    wait_for_all(cluster, database)


@pytest.mark.parametrize(
    ("trim", "error", "says"),
    [
        (Trim("sample", 0.5), RunConflict, "pipeline sample"),
        (Trim("curation", 0.5), RunConflict, "in one piece"),
        (Trim("cord-trim-0.5", 0.9), RunConflict, "Trim the run that it came from, 'cord'"),
        (Trim("cord", 0.9, "greedy"), RunConflict, "another run is called 'greedy'"),
        (Trim("cord", 0.9, "cord-trim-0.5"), RunConflict, "--name"),
        (Trim("cord", 0.9, "a b"), ConfigError, "choose one with --name"),
    ],
)
def test_what_cannot_be_trimmed_is_refused_with_a_reason(
    trim: Trim, error: type[Exception], says: str, trimmed: tuple[Cluster, Database]
) -> None:
    _, database = trimmed
    runs = count(database, "true", "runs")
    with pytest.raises(error, match=says):
        trim_run(database, trim)
    assert count(database, "true", "runs") == runs


def test_a_run_without_a_done_problem_and_a_dataset_for_a_trimmed_run_are_refused(
    trimmed: tuple[Cluster, Database],
) -> None:
    cluster, database = trimmed
    cluster.stop("coordinator")
    enqueue_into(database, "cord-new", range(1))
    with pytest.raises(RunConflict, match="no done problem"):
        trim_run(database, Trim("cord-new", ABOVE))
    with pytest.raises(RunConflict, match="takes no dataset"):
        enqueue_into(database, "cord-trim-0.5", range(1))
    with pytest.raises(RunConflict, match=r"has not been trimmed above 0\.25 yet.*cordctl trim cord --above 0\.25"):
        database.run(lambda connection: trimmed_run_of(connection, "cord", 0.25))
    cluster.start("coordinator")
    wait_for_all(cluster, database)


@pytest.mark.parametrize("above", [1.0, -0.1, float("nan"), float("inf")])
def test_a_threshold_that_cannot_be_is_refused(above: float) -> None:
    with pytest.raises(ConfigError, match="from 0 to below 1"):
        Trim("cord", above)


def test_the_sentence_says_what_is_left_out() -> None:
    sentence = Trimmed("x-trim-0.9", 1, "x", 0.9, 3, 2, 1, 4, 5).sentence()
    assert "2 end at an earlier step" in sentence
    assert sentence.endswith("left out: 4 failed and 5 unfinished of run x")
