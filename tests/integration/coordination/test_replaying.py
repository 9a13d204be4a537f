"""Replay and the invariants, on runs of every pipeline: unedited runs have no findings, and every edit is found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from cord_worker.cli import cli
from cord_worker.config import RunConfig
from cord_worker.coordination.run_context import RunContexts
from cord_worker.dataset import ProblemRecord
from cord_worker.engines.instant import MALFORMED
from cord_worker.operations.replaying import replay_problem, replay_run
from cord_worker.operations.table_verification import verify_tables
from cord_worker.store.audit.invariants import INVARIANTS, check
from cord_worker.store.audit.stored_decisions import started_problems
from cord_worker.store.database import Database
from cord_worker.store.runs.enqueue import enqueue
from tests.support.cluster import Cluster
from tests.support.configurations import INSTANT, SEARCHES, config_of
from tests.support.tables import count

PROBLEMS = 3
HOPELESS = "hopeless"


@pytest.fixture(scope="module")
def worked(
    tmp_path_factory: pytest.TempPathFactory,
    migrated_database: Callable[[], AbstractContextManager[str]],
    broker_url: str,
) -> Iterator[Database]:
    """A finished run of every search, and one whose problems fail."""
    folder = tmp_path_factory.mktemp("replay")
    with migrated_database() as url, Cluster(folder, url, broker_url, config_of("integration")) as cluster:
        database = Database(url)
        cluster.start()
        searches = {search: (config_of(search), "") for search in SEARCHES}
        searches |= {"cord": (INSTANT, ""), HOPELESS: (config_of("integration"), f" {MALFORMED}")}
        for search, (text, addition) in searches.items():
            (folder / "other.toml").write_text(text, encoding="utf-8")
            _enqueue(database, search, RunConfig.load(folder / "other.toml"), addition)
        cluster.wait_until(lambda: count(database, "finished_at IS NULL") == 0, 240)
        yield database
        database.close()


def _enqueue(database: Database, run: str, config: RunConfig, addition: str) -> None:
    records = [
        ProblemRecord(f"problem-{n}", f"What is {n} + {n}?{addition}", str(2 * n), None, {}, f"x:{n}")
        for n in range(PROBLEMS)
    ]
    database.run(lambda connection: enqueue(connection, run, config, records))


@pytest.mark.parametrize("run", [*sorted(SEARCHES), "cord", HOPELESS])
def test_replaying_every_decision_of_a_run_finds_no_difference(run: str, worked: Database) -> None:
    (*_, replayed) = replay_run(worked, run)
    assert [str(difference) for difference in replayed.differences] == []
    assert replayed.problems == PROBLEMS
    # The plan of the first step and the end of the search, at least.
    assert replayed.decisions >= 2 * PROBLEMS


@pytest.mark.long
def test_no_invariant_is_broken(worked: Database) -> None:
    assert count(worked, "state = 'failed'") == PROBLEMS
    found = verify_tables(worked, None, examples=3, compare=True)
    assert [report for report in found.reports if report.violations] == []
    assert found.recomputed == count(worked, "true", "candidates")
    assert found.compared is not None
    assert found.compared.compared == count(worked, "answer_state = 'written'", "trajectories")
    assert set(found.digests) == {*SEARCHES, "cord", HOPELESS}


LAST = "(SELECT max(id) FROM candidates WHERE problem_id = :problem AND kept)"
LOSER = "(SELECT min(id) FROM candidates WHERE problem_id = :problem AND NOT kept AND state = 'scored' AND step > 1)"
EDITS = {
    "seed": (f"UPDATE candidates SET seed = seed + 1 WHERE id = {LOSER}", ": seed: stored", None),
    "sample": (f"UPDATE candidates SET sample = sample + 7 WHERE id = {LOSER}", ": ", None),
    "cap": (f"UPDATE candidates SET max_tokens = 1 WHERE id = {LOSER}", ": max_tokens: stored", None),
    "score": (
        "UPDATE candidates SET score = score / 2 WHERE problem_id = :problem AND rank = 0 AND step = 1",
        ": score: not what was written",
        "scores",
    ),
    "rank": (f"UPDATE candidates SET rank = rank + 90 WHERE id = {LOSER}", ": rank: stored", "ranks"),
    "kept": (f"UPDATE candidates SET kept = true WHERE id = {LOSER}", "kept", "kept"),
    "invalid": (
        f"UPDATE candidates SET state = 'invalid', invalid_reason = 'empty' WHERE id = {LAST}",
        ": invalid_reason: not what was written",
        "kept",
    ),
    "parent": (
        f"UPDATE candidates SET parent_id = (SELECT min(id) FROM candidates WHERE problem_id <> :problem) "
        f"WHERE id = {LOSER}",
        ": lineage: stored",
        "parents",
    ),
    "slot": ("DELETE FROM beams WHERE problem_id = :problem AND step = 1 AND rank = 0", "the beam", "beams"),
    "slot swapped": (
        "UPDATE beams SET rank = -rank - 1 WHERE problem_id = :problem AND step = 1",
        "the beam",
        "beams",
    ),
    "winner": ("UPDATE trajectories SET winner = false WHERE problem_id = :problem", "the winner", "winners"),
    "winning path": (
        "UPDATE candidates SET winning = false WHERE problem_id = :problem AND step = 1",
        ": winning: stored",
        "winning path",
    ),
    "answer's seed": (
        "UPDATE trajectories SET answer_seed = answer_seed + 1 WHERE problem_id = :problem AND winner",
        ": answer_seed: not what was written",
        None,
    ),
    "dropped": (
        "UPDATE trajectories SET dropped_at_step = 1 WHERE problem_id = :problem AND winner",
        "trajectory of step",
        "trajectories",
    ),
    "trajectory's score": (
        "UPDATE trajectories SET score = 0.5, steps = steps + 1 WHERE problem_id = :problem AND winner",
        "trajectory of step",
        "trajectories",
    ),
    "lost trajectory": (
        "DELETE FROM trajectories WHERE problem_id = :problem",
        "trajectory of step",
        "trajectories",
    ),
    "step": ("UPDATE problems SET step = step + 1 WHERE id = :problem", "where the problem stands", "steps"),
    "round": ("UPDATE problems SET round = 1 WHERE id = :problem", "where the problem stands", "steps"),
    "state": (
        f"UPDATE candidates SET state = 'scoring', score_worker_id = gen_random_uuid() WHERE id = {LOSER}",
        None,
        "leases",
    ),
    "barrier": ("UPDATE problems SET outstanding = 2 WHERE id = :problem", None, "barrier"),
    "texts": ("UPDATE problems SET unproposed = 2 WHERE id = :problem", None, "barrier"),
    "decided": (
        "UPDATE candidates SET state = 'proposed' WHERE problem_id = :problem AND step = 2 AND NOT kept",
        None,
        "decided",
    ),
    "text": (f"UPDATE candidates SET finish_reason = NULL WHERE id = {LOSER}", None, "texts"),
    "answer": (
        "UPDATE trajectories SET answer_state = 'pending' WHERE problem_id = :problem AND winner",
        None,
        "answers",
    ),
    "verdict": (
        "UPDATE trajectories SET correct = true, verification = NULL WHERE problem_id = :problem AND winner",
        None,
        "verdicts",
    ),
    "never checked": (
        """WITH asked AS (UPDATE problems SET attributes = attributes || '{"verify": "exact"}' WHERE id = :problem)
           UPDATE trajectories SET verification = NULL, correct = NULL, answer_state = 'written'
           WHERE problem_id = :problem AND winner""",
        None,
        "checked",
    ),
    "end": ("UPDATE problems SET finished_at = NULL WHERE id = :problem", None, "ends"),
    "cancelled": (
        "WITH run AS (UPDATE runs SET state = 'cancelled' WHERE name = 'cord') "
        "UPDATE problems SET state = 'verifying', finished_at = NULL WHERE id = :problem",
        None,
        "cancelled runs",
    ),
    "teacher": (
        f"UPDATE candidates SET teacher_id = (SELECT min(t.id) FROM teachers t JOIN runs r ON r.id = t.run_id "
        f"WHERE r.name <> 'cord') WHERE id = {LOSER}",
        None,
        "teachers",
    ),
    "sample twice": (
        f"UPDATE candidates c SET sample = c.sample + 3 WHERE id = {LOSER}",
        ": ",
        None,
    ),
    "equal texts": (
        "UPDATE candidates SET text_key = '00000000-0000-0000-0000-000000000001' "
        "WHERE problem_id = :problem AND step = 1",
        None,
        "duplicates",
    ),
    "sample's gap": (
        "UPDATE candidates SET teacher_id = (SELECT min(teacher_id) FROM candidates WHERE problem_id = :problem), "
        "sample = sample + 5 WHERE problem_id = :problem AND step = 1",
        ": ",
        "samples",
    ),
}
"""SQL that edits a finished problem → the report of replay, and the invariant that it breaks."""


@pytest.mark.parametrize("edit", sorted(EDITS))
def test_an_edited_row_is_found(edit: str, worked: Database) -> None:
    statement, difference, invariant = EDITS[edit]
    contexts = RunContexts(worked)
    with worked.transaction() as connection:
        run_id = connection.execute(sa.text("SELECT id FROM runs WHERE name = 'cord'")).scalar_one()
        problem = started_problems(connection, run_id)[1]
        context = contexts.of_run(run_id)
        connection.execute(sa.text("SAVEPOINT before"))
        assert connection.execute(sa.text(statement), {"problem": problem}).rowcount > 0
        found = replay_problem(connection, context, problem).difference
        broken = {one.name: check(connection, one, run_id) for one in INVARIANTS}
        connection.execute(sa.text("ROLLBACK TO before"))
    if difference is not None:
        assert found is not None
        assert difference in str(found)
        assert found.problem == "problem-1"
    if invariant is not None:
        assert broken[invariant].violations > 0
        assert broken[invariant].examples[0].problem == "problem-1"


def test_every_invariant_is_broken_by_some_edit() -> None:
    of_other_tests = {"trimmed runs"}  # test_trimming_edits.py
    assert {invariant for _, _, invariant in EDITS.values()} >= {one.name for one in INVARIANTS} - of_other_tests


@pytest.mark.long
def test_the_commands_report_the_differences_and_exit_with_1(worked: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    url = worked.run(lambda connection: connection.engine.url.render_as_string(hide_password=False))
    monkeypatch.setenv("CORD_DATABASE_URL", url)
    runner = CliRunner()
    assert runner.invoke(cli, ["replay", "cord"], standalone_mode=False).exit_code == 0
    assert runner.invoke(cli, ["verify-db"], standalone_mode=False).exit_code == 0
    edit = (
        "UPDATE problems SET failure_reason = 'tired' "
        "WHERE key = 'problem-0' AND run_id = (SELECT id FROM runs WHERE name = :run)"
    )
    worked.run(lambda connection: connection.execute(sa.text(edit), {"run": HOPELESS}))
    replayed = runner.invoke(cli, ["replay", HOPELESS, "--all"], standalone_mode=False)
    assert "problem problem-0: step 2, round" in replayed.output
    assert "the failure: stored tired, recomputed what the integrator wrote is invalid" in replayed.output
    assert "problems recomputed, 1 difference\n" in replayed.output
    assert replayed.return_value == 4 or replayed.exit_code == 4
