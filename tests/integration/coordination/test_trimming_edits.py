"""Edits by hand of a trimmed run, or of its source: `replay` and `verify-db` find them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
import sqlalchemy as sa

from cord_worker.store.audit.stored_decisions import started_problems
from cord_worker.store.database import Database
from cord_worker.store.runs.runs import resolve_run
from tests.support.tampering import look, look_everywhere
from tests.support.tampering_columns import changes_of, is_found
from tests.support.tampering_edits import Edit
from tests.support.tampering_values import COLUMNS, random_edit
from tests.support.trimmed_runs import trimmed_runs

pytestmark = pytest.mark.long

PROBLEMS = 4
"""Few, because every edit is followed by a check of the whole run."""


@pytest.fixture(scope="module")
def trimmed(
    tmp_path_factory: pytest.TempPathFactory,
    migrated_database: Callable[[], AbstractContextManager[str]],
    broker_url: str,
) -> Iterator[Database]:
    """`trimmed_runs` of few problems; tests undo their edits."""
    with (
        migrated_database() as url,
        trimmed_runs(tmp_path_factory.mktemp("edits"), url, broker_url, PROBLEMS) as (cluster, database),
    ):
        for name in cluster.names:
            cluster.stop(name)
        yield database


PATH = "(SELECT max(id) FROM candidates WHERE problem_id = :problem)"
CUT = "(SELECT id FROM trajectories WHERE problem_id = :problem)"
SOURCE = "(SELECT s.id FROM problems s JOIN problems p ON p.key = s.key JOIN runs r ON r.id = p.run_id "
SOURCE += "AND r.source_run_id = s.run_id WHERE p.id = :problem)"
EDITS = {
    "a copied text": Edit(f"UPDATE candidates SET text = text || '!' WHERE id = {PATH}", ", teacher ", "text"),
    "a copied score": Edit(
        "UPDATE candidates SET log_prob_sum = log_prob_sum - 0.1, score = exp((log_prob_sum - 0.1) / answer_tokens) "
        f"WHERE id = {PATH}",
        ", teacher ",
        "score",
    ),
    "a copy that costs": Edit(f"UPDATE candidates SET propose_seconds = 1 WHERE id = {PATH}", ", teacher ", "seconds"),
    "another answer": Edit(
        f"UPDATE trajectories SET answer_text = 'No.' WHERE id = {CUT}", "trajectory ", "answer_text"
    ),
    "a finish": Edit(
        f"WITH slot AS (UPDATE beams SET finish = 'eos' WHERE candidate_id = {PATH} RETURNING 1) "
        f"UPDATE trajectories SET finish = 'eos' WHERE id = {CUT} AND EXISTS (SELECT FROM slot)",
        "trajectory ",
        "finish",
    ),
    "the threshold": Edit(
        "UPDATE runs SET trim_above = 0.51 FROM problems p WHERE p.id = :problem AND runs.id = p.run_id",
        "its row",
        "trim_above",
    ),
    "the name of the source": Edit(
        "UPDATE runs SET trimmed_from = 'greedy' FROM problems p WHERE p.id = :problem AND runs.id = p.run_id",
        "its row",
        "trimmed_from",
    ),
    "the source": Edit(
        "UPDATE runs SET source_run_id = (SELECT id FROM runs WHERE name = 'greedy') FROM problems p "
        "WHERE p.id = :problem AND runs.id = p.run_id",
        "its row",
        "source_run_id",
    ),
    "the source is said to be gone": Edit(
        "UPDATE runs SET source_run_id = NULL FROM problems p WHERE p.id = :problem AND runs.id = p.run_id",
        "its row",
        "source_run_id",
    ),
    "the source's problem": Edit(
        f"UPDATE problems SET state = 'failed', failure_reason = 'x' WHERE id = {SOURCE}", "trajectory ", "its row"
    ),
    "a slot": Edit(f"UPDATE beams SET rank = 1 WHERE candidate_id = {PATH}", ", teacher ", "slots"),
    "a copy that lost": Edit(f"UPDATE candidates SET kept = false WHERE id = {PATH}", ", teacher ", "kept"),
    "a search": Edit(
        "UPDATE problems SET state = 'searching', finished_at = NULL WHERE id = :problem", "its row", "state"
    ),
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_of_a_trimmed_run_is_found_with_its_row_and_column(name: str, trimmed: Database) -> None:
    edit = EDITS[name]
    found = look(trimmed, Edit(edit.sql, edit.row, edit.column, "cord-trim-0.5"))
    assert [line for line in found.verify if edit.row in line and edit.column in line], found
    assert found.replay, found


MOVED_BACK = (
    "UPDATE trajectories SET candidate_id = c.parent_id, steps = steps - 1, score = parent.score FROM candidates c "
    "JOIN candidates parent ON parent.id = c.parent_id WHERE c.id = trajectories.candidate_id "
    "AND trajectories.problem_id = :problem",
    "UPDATE beams SET finish = 'trimmed' FROM trajectories j WHERE j.problem_id = :problem "
    "AND beams.candidate_id = j.candidate_id",
    "DELETE FROM candidates WHERE problem_id = :problem AND depth = (SELECT max(depth) FROM candidates WHERE "
    "problem_id = :problem)",
    "UPDATE problems SET (step, round) = (SELECT c.step, c.round FROM candidates c WHERE c.problem_id = :problem "
    "ORDER BY c.depth DESC LIMIT 1) WHERE id = :problem",
)
"""SQL: a trajectory ends one step earlier, in all the rows that say where it ends."""


def test_a_cut_that_was_moved_with_all_its_rows_is_found_with_and_without_the_source(
    trimmed: Database,
) -> None:
    moved = 0
    for with_source in (True, False):
        with trimmed.transaction() as connection:
            run = resolve_run(connection, "cord-trim-0.5")
            several = "SELECT problem_id FROM candidates WHERE problem_id = ANY(:ids) GROUP BY 1 HAVING count(*) > 1"
            ids = started_problems(connection, run.id)
            problems = list(connection.execute(sa.text(several), {"ids": ids}).scalars())
            for problem in problems:
                for statement in MOVED_BACK:
                    assert connection.execute(sa.text(statement), {"problem": problem}).rowcount == 1
            if not with_source:
                gone = "UPDATE runs SET source_run_id = NULL, trimmed_from = 'nobody' WHERE id = :run"
                connection.execute(sa.text(gone), {"run": run.id})
            found = look_everywhere(connection, trimmed, "cord-trim-0.5")
            connection.rollback()
        assert [line for line in found.verify if ": finish: trimmed, though at no step" in line], found.verify
        assert bool([line for line in found.verify if "from the scores of the source" in line]) == with_source
        assert len([line for line in found.replay if line.startswith("problem ")]) == len(problems)
        moved += len(problems)
    assert moved


UNCHECKED = {
    *("problems.touched_at", "candidates.touched_at", "trajectories.touched_at", "candidates.propose_attempts"),
    *("candidates.score_attempts", "candidates.judgment_attempts", "trajectories.answer_attempts"),
    *("trajectories.check_attempts", "trajectories.verdict_attempts", "models.created_at", "runs.state"),
    *("runs.priority", "runs.config", "runs.datasets"),
    *("runs.pause_reason", "runs.max_tokens", "runs.max_cost", "runs.prices"),
}
"""As in any run (docs/provenance.md), though some of them are compared with the source here."""
NEVER_SET: set[str] = set()


@pytest.mark.parametrize(
    "column", [one for one in COLUMNS if one.table.name not in ("rescorings", "rescores")], ids=str
)
def test_every_change_of_every_column_of_a_trimmed_run_is_found(column: sa.Column[Any], trimmed: Database) -> None:
    tried, missed = 0, []
    for change in changes_of(column):
        for run in ("cord-trim-0.5", "judged-trim-0.5"):
            found = is_found(trimmed, change.sql, run)
            if found is not None:
                tried += 1
                missed += [] if found else [f"{change.kind} ({change.value}) in run {run}"]
                break
    assert tried > 0 or str(column) in NEVER_SET
    assert not missed or str(column) in UNCHECKED, missed


READ_FOR_COPIES = {
    *("problems.key", "problems.state", "candidates.parent_id", "candidates.depth", "candidates.lineage"),
    *("candidates.score", "candidates.proposal_digest", "trajectories.candidate_id", "trajectories.finish"),
    *("trajectories.winner", "trajectories.answer_digest", "beams.step", "runs.name", "runs.config_fingerprint"),
    *("runs.trimmed_from", "runs.source_run_id", "runs.trim_above"),
}


@pytest.mark.parametrize("column", [one for one in COLUMNS if str(one) in READ_FOR_COPIES], ids=str)
def test_any_value_that_can_be_stored_ends_in_findings_or_in_nothing(column: sa.Column[Any], trimmed: Database) -> None:
    chance = random.Random(str(column))
    for _ in range(2):
        edit = random_edit(column, chance)
        with trimmed.transaction() as connection:
            ids = [resolve_run(connection, name).id for name in ("cord", "cord-trim-0.5")]
            run = resolve_run(connection, chance.choice(["cord-trim-0.5", "cord"]))
            problem = chance.choice(started_problems(connection, run.id))
            try:
                connection.execute(sa.text(edit.sql), {"problem": problem})
            except (sa.exc.IntegrityError, sa.exc.DataError):
                connection.rollback()
                continue
            # An edit of the source is seen from the trimmed run, too.
            names = connection.execute(sa.text("SELECT name FROM runs WHERE id = ANY(:ids)"), {"ids": ids})
            for name in list(names.scalars()):
                look_everywhere(connection, trimmed, name)
            connection.rollback()
