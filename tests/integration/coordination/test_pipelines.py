"""Every pipeline, done to the end by real processes, and killed in the middle."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from cord_worker.engines.instant import ALIKE, MALFORMED, SILENT
from cord_worker.export.exporting import export_run
from cord_worker.operations.comparison import compare_runs
from cord_worker.operations.replaying import replay_run
from cord_worker.operations.run_watch import list_overviews
from cord_worker.operations.table_verification import verify_tables
from cord_worker.store.database import Database
from cord_worker.store.reports.status import read_totals, teacher_selection
from cord_worker.store.reports.winning_steps import winning_steps
from cord_worker.store.runs.runs import resolve_run
from tests.support.cluster import Cluster
from tests.support.configurations import INSTANT, REWARD, config_of
from tests.support.tables import content, count, differences, empty_tables
from tests.support.web_documents import faults_of_run

pytestmark = pytest.mark.long

PROBLEMS = 6


JUDGED = {"binary_judgment": ("", "judge"), "reward_model": (REWARD, "prm")}
"""Selection → its addition to the configuration, and the model that judges."""


@pytest.mark.parametrize("selection", sorted(JUDGED))
def test_a_search_by_judgments_killed_while_it_judges_ends_like_an_undisturbed_one(
    selection: str, tmp_path: Path, database: Database, database_url: str, broker_url: str
) -> None:
    addition, judge = JUDGED[selection]
    config = INSTANT.replace("[search]\n", f'[search]\nselection = "{selection}"\n') + addition
    with Cluster(tmp_path, database_url, broker_url, config) as cluster:
        cluster.start()
        cluster.enqueue(database, PROBLEMS)
        undisturbed = cluster.undisturbed(database, PROBLEMS)

        cluster.start()
        with cluster.no_judgment_of(judge, database):
            cluster.enqueue(database, PROBLEMS)
            cluster.kill_judging(judge, database)
        cluster.kill("coordinator")
        cluster.start(judge, "coordinator")
        cluster.wait_until(lambda: count(database, "state = 'done'") == PROBLEMS, 120)
    assert differences(undisturbed, content(database)) == []
    assert count(database, "judgment_attempts > 1", "candidates") > 0
    assert count(database, "state = 'scored' AND (judgment IS NULL OR score IS NULL)", "candidates") == 0
    kept = """
        SELECT count(*) FROM candidates c JOIN candidates other USING (problem_id, step, round)
        WHERE c.rank < other.rank AND c.judgment < other.judgment
    """
    assert database.run(lambda connection: connection.execute(sa.text(kept)).scalar_one()) == 0
    assert count(database, "judgment > 0 AND judgment < 1", "candidates") > 0


def test_a_run_whose_llm_judge_is_killed_ends_like_an_undisturbed_one(
    tmp_path: Path, database: Database, database_url: str, broker_url: str
) -> None:
    judge = '[models.referee]\npath = "referee"\nengine = "instant"\n'
    config = INSTANT + judge + '[verify]\nmethod = "judge"\n[verify.judge]\nmodel = "referee"\n'
    with Cluster(tmp_path, database_url, broker_url, config) as cluster:
        cluster.start()
        cluster.enqueue(database, PROBLEMS)
        undisturbed = cluster.undisturbed(database, PROBLEMS)

        cluster.start()
        with cluster.no_verdict_of("referee", database):
            cluster.enqueue(database, PROBLEMS)
            cluster.kill_giving_a_verdict("referee", database)
        cluster.kill("coordinator")
        cluster.start("referee", "coordinator")
        cluster.wait_until(lambda: count(database, "state = 'done'") == PROBLEMS, 120)
    assert differences(undisturbed, content(database)) == []
    assert count(database, "verdict_attempts > 1", "trajectories") > 0
    assert count(database, "answer_state = 'judged' AND correct IS NOT NULL", "trajectories") == PROBLEMS
    assert {row[2] for row in undisturbed["problems"]} == {"done"}


RUNS = ("run", "decided")
"""A run whose answers are judged, and one whose answers are compared."""


def test_undecided_answers_go_to_the_judge_and_end_the_same_if_it_is_killed(
    tmp_path: Path, database: Database, database_url: str, broker_url: str
) -> None:
    judge = '[models.referee]\npath = "referee"\nengine = "instant"\n'
    config = INSTANT + judge + '[verify]\nundecided = "judge"\n[verify.judge]\nmodel = "referee"\n'
    with Cluster(tmp_path, database_url, broker_url, config) as cluster:
        cluster.start()
        cluster.enqueue(database, PROBLEMS, addition=f" {SILENT}")
        cluster.enqueue(database, PROBLEMS, "decided")
        cluster.wait_until(lambda: count(database, "state = 'done'") == 2 * PROBLEMS, 120)
        undisturbed = [content(database, run) for run in RUNS]
        judged = "answer_state = 'judged' AND verification -> 'compared' ->> 'method' = 'undecided'"
        assert count(database, judged, "trajectories") == PROBLEMS
        assert count(database, "answer_state = 'written' AND correct IS NOT NULL", "trajectories") == PROBLEMS
        lines = exported(database, tmp_path / "out.jsonl")
        for name in cluster.names:
            assert cluster.stop(name) == 0
        empty_tables(database)

        cluster.start()
        with cluster.no_verdict_of("referee", database):
            cluster.enqueue(database, PROBLEMS, addition=f" {SILENT}")
            cluster.enqueue(database, PROBLEMS, "decided")
            cluster.kill_giving_a_verdict("referee", database)
        cluster.kill("coordinator")
        cluster.start("referee", "coordinator")
        cluster.wait_until(lambda: count(database, "state = 'done'") == 2 * PROBLEMS, 120)
    for run, before in zip(RUNS, undisturbed, strict=True):
        assert differences(before, content(database, run)) == []
    assert count(database, "verdict_attempts > 1", "trajectories") > 0
    assert verify_tables(database, None, examples=1).broken == []
    assert {line["verification"]["compared"] for line in lines if SILENT in line["question"]} <= {"undecided"}


def test_without_a_judge_undecided_answers_stay_undecided_and_are_counted_separately(
    tmp_path: Path, database: Database, database_url: str, broker_url: str
) -> None:
    with Cluster(tmp_path, database_url, broker_url, INSTANT) as cluster:
        cluster.start()
        cluster.enqueue(database, PROBLEMS, addition=f" {SILENT}")
        cluster.wait_until(lambda: count(database, "state = 'done'") == PROBLEMS, 120)
    (line, *_) = exported(database, tmp_path / "out.jsonl")
    assert (line["correct"], line["verification"]["method"]) == (None, "undecided")
    totals = database.run(lambda c: read_totals(c, resolve_run(c, "run").id))
    assert (totals.checked, totals.undecided, totals.accuracy) == (0, PROBLEMS, None)
    assert database.run(lambda c: compare_runs(c, ["run"])).runs[0].undecided == PROBLEMS
    (overview,) = database.run(list_overviews)
    assert overview.to_json()["undecided"] == PROBLEMS


def test_equal_proposals_are_scored_once_and_their_teachers_share_the_credit_whatever_is_killed(
    tmp_path: Path, database: Database, database_url: str, broker_url: str
) -> None:
    problems = 3
    with Cluster(tmp_path, database_url, broker_url) as cluster:
        prover = cluster.config.required_prover.model
        cluster.start()
        cluster.enqueue(database, problems, addition=f" {ALIKE}")
        undisturbed = cluster.undisturbed(database, problems)

        cluster.start()
        with cluster.no_result_of(prover, database, "OLD.state = 'scoring'"):
            cluster.enqueue(database, problems, addition=f" {ALIKE}")
            scoring = "EXISTS (SELECT 1 FROM candidates c WHERE c.problem_id = problems.id AND c.state = 'scoring')"
            cluster.wait_until(lambda: count(database, scoring) > 0, 120)
            cluster.kill(prover)
        cluster.start(prover)
        cluster.wait_until(lambda: count(database, "state = 'done'") == problems, 120)
    assert differences(undisturbed, content(database)) == []
    assert count(database, "duplicate_of IS NULL AND state <> 'scored'", "candidates") == 0
    assert count(database, "duplicate_of IS NOT NULL AND score_attempts > 0", "candidates") == 0
    teachers = len(cluster.config.teachers)
    assert count(database, "duplicate_of IS NULL", "candidates") * teachers == count(database, "true", "candidates")

    run_id = database.run(lambda connection: resolve_run(connection, "run").id)
    totals = database.run(lambda connection: read_totals(connection, run_id))
    assert [teacher.share for teacher in totals.teachers] == pytest.approx([1 / teachers] * teachers)
    for name in ("proposed", "invalid", "shared", "kept", "winning", "mean_score"):
        figures = [getattr(teacher, name) for teacher in totals.teachers]
        assert figures == pytest.approx([figures[0]] * teachers), name
    tenths = database.run(lambda connection: teacher_selection(connection, "run"))
    assert [row.hit_rate for row in tenths if row.hit_rate is not None] == pytest.approx([1 / teachers] * len(tenths))
    steps = database.run(lambda connection: winning_steps(connection, run_id))
    assert sum(step.share for step in steps) == pytest.approx(count(database, "winning", "candidates"))
    *_, replayed = replay_run(database, "run")
    assert (replayed.differences, replayed.problems) == ([], problems)
    assert verify_tables(database, "run", examples=3).broken == []


def test_curation_stores_whole_trajectories_and_their_best_as_the_result(
    tmp_path: Path, database: Database, database_url: str, broker_url: str
) -> None:
    config = config_of("curation")
    with Cluster(tmp_path, database_url, broker_url, config) as cluster:
        cluster.start()
        cluster.enqueue(database, PROBLEMS)
        cluster.wait_until(lambda: count(database, "state = 'done'") == PROBLEMS, 120)
    assert count(database, "NOT whole OR step <> 1", "candidates") == 0
    assert count(database, "true", "candidates") >= PROBLEMS * 3 * 2
    assert count(database, "text LIKE E'%\\n### Step 2.%'", "candidates") > 0
    best = """
        SELECT count(*) FROM trajectories j
        WHERE j.winner AND j.score < (SELECT max(c.score) FROM candidates c WHERE c.problem_id = j.problem_id)
    """
    assert database.run(lambda connection: connection.execute(sa.text(best)).scalar_one()) == 0


def test_tree_search_returns_to_earlier_nodes_and_exports_paths_with_numbered_steps(
    tmp_path: Path, database: Database, database_url: str, broker_url: str
) -> None:
    config = config_of("mcts")
    with Cluster(tmp_path, database_url, broker_url, config) as cluster:
        cluster.start()
        cluster.enqueue(database, PROBLEMS)
        cluster.wait_until(lambda: count(database, "state = 'done'") == PROBLEMS, 120)
    assert count(database, "whole AND depth < step", "candidates") > 0
    assert count(database, "winning AND kept IS NOT TRUE", "candidates") == 0
    assert count(database, "dropped_at_step IS NOT NULL", "trajectories") == 0
    for line in exported(database, tmp_path / "out.jsonl"):
        assert [step["step"] for step in line["steps"]] == list(range(1, len(line["steps"]) + 1))
        assert_numbered(line["trajectory"])


@pytest.mark.parametrize("search", ["cord", "mcts"])
def test_a_budget_of_tokens_ends_a_search_with_the_step_that_spends_it(
    search: str, tmp_path: Path, database: Database, database_url: str, broker_url: str
) -> None:
    config = INSTANT.replace("[search]\n", f'[search]\npipeline = "{search}"\ntotal_tokens = 250\n')
    with Cluster(tmp_path, database_url, broker_url, config) as cluster:
        cluster.start()
        cluster.enqueue(database, PROBLEMS)
        cluster.wait_until(lambda: count(database, "state = 'done'") == PROBLEMS, 120)
    spent = """
        SELECT p.id, sum(c.completion_tokens) AS tokens,
               sum(c.completion_tokens) FILTER (WHERE c.step < p.step) AS before,
               bool_or(j.finish = 'total_tokens') AS ended
        FROM problems p JOIN candidates c ON c.problem_id = p.id LEFT JOIN trajectories j ON j.candidate_id = c.id
        GROUP BY p.id
    """
    rows = database.run(lambda connection: connection.execute(sa.text(spent)).all())
    assert len(rows) == PROBLEMS
    assert all((row.before or 0) < 250 for row in rows)
    assert all(row.tokens >= 250 for row in rows if row.ended)
    assert any(row.ended for row in rows)
    recorded = "SELECT config -> 'search' ->> 'total_tokens' FROM runs"
    assert database.run(lambda connection: connection.execute(sa.text(recorded)).scalar_one()) == "250"


def test_integration_merges_the_trajectories_and_its_answer_needs_no_model(
    tmp_path: Path, database: Database, database_url: str, broker_url: str
) -> None:
    with Cluster(tmp_path, database_url, broker_url, config_of("integration")) as cluster:
        cluster.start()
        cluster.enqueue(database, PROBLEMS)
        cluster.wait_until(lambda: count(database, "state = 'done'") == PROBLEMS, 120)
    merged = "sources IS NOT NULL AND reply IS NOT NULL AND answer_part IS NOT NULL AND winning AND whole AND step = 2"
    assert count(database, merged, "candidates") == PROBLEMS
    assert count(database, "winner AND answer_seconds IS NULL AND answer_state = 'written'", "trajectories") == PROBLEMS
    assert count(database, "NOT winner AND dropped_at_step = 2", "trajectories") == PROBLEMS * 3 * 2
    own = "SELECT count(*) FROM candidates c, unnest(c.sources) s JOIN candidates o ON o.id = s AND o.score IS NOT NULL"
    assert database.run(lambda connection: connection.execute(sa.text(own)).scalar_one()) == PROBLEMS * 3 * 2
    for line in exported(database, tmp_path / "out.jsonl"):
        assert [step["teacher"] for step in line["steps"]] == ["integrator"]
        assert line["final_answer"].startswith("The final answer is")
        assert_numbered(line["trajectory"])
    assert faults_of_run(database, "run") == []


def test_a_reply_that_cannot_be_read_fails_its_problem_after_the_last_round(
    tmp_path: Path, database: Database, database_url: str, broker_url: str
) -> None:
    with Cluster(tmp_path, database_url, broker_url, config_of("integration")) as cluster:
        cluster.start()
        cluster.enqueue(database, 2, addition=f" {MALFORMED}")
        cluster.wait_until(lambda: count(database, "state = 'failed'") == 2, 120)
    assert count(database, "failure_reason LIKE '%(malformed)%'") == 2
    assert count(database, "invalid_reason = 'malformed' AND reply IS NOT NULL", "candidates") == 2 * 3
    assert count(database, "true", "trajectories") == 2 * 3 * 2


def exported(database: Database, path: Path) -> list[dict[str, Any]]:
    assert export_run(database, "run", str(path)).exported == PROBLEMS
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def assert_numbered(trajectory: str) -> None:
    """Asserts that the markers of its steps are 1..T, each at the start of a line."""
    markers = [int(number) for number in re.findall(r"^### Step (\d+)\.", trajectory, re.MULTILINE)]
    assert markers == list(range(1, trajectory.count("### Step") + 1))
