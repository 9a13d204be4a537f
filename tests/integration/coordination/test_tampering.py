"""Every way of editing the tables of a finished run by hand is found, and the finding names the row and the column."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal

import pytest
import sqlalchemy as sa
from alembic.script import ScriptDirectory

from cord_worker.coordination.run_context import RunContexts
from cord_worker.operations.recheck import recheck_run
from cord_worker.operations.replaying import replay_problem
from cord_worker.operations.table_verification import verify_runs, verify_tables
from cord_worker.store.audit.digest_invariants import Undigested, run_digest
from cord_worker.store.audit.invariants import INVARIANTS, check
from cord_worker.store.audit.rollup_invariants import ROLLUP_INVARIANTS
from cord_worker.store.audit.stored_decisions import started_problems
from cord_worker.store.database import Database
from cord_worker.store.reports.base_scores import read_base_scores
from cord_worker.store.reports.costs import problem_results, read_costs, read_wall_times
from cord_worker.store.reports.multiplied_runs import add_blocks, begin_copy, run_size, views_of_runs
from cord_worker.store.reports.status import prefix_cache, read_totals, results_by_run
from cord_worker.store.runs.runs import list_runs, resolve_run
from cord_worker.store.schema.digests import CORRECTNESS, DIGESTS
from cord_worker.store.schema.migration import alembic_config
from cord_worker.store.schema.rollups import fill_rollups
from cord_worker.store.schema.tables import Base
from tests.support.tables import count
from tests.support.tampering import CONFIGS, PROBLEMS, Found, differences_of, look
from tests.support.tampering_columns import changes_of
from tests.support.tampering_edits import (
    DERIVED,
    EACH_FINDS,
    EDITS,
    IN_BOTH,
    KEPT,
    LAST_STEP,
    RUN,
    WHOLE,
    Edit,
    candidate,
    rollup,
    trajectory,
)


@pytest.mark.parametrize("name", EDITS)
@pytest.mark.long
def test_an_edit_by_hand_is_found_with_its_row_and_column(name: str, finished: Database) -> None:
    edit = EDITS[name]
    found = look(finished, edit)
    named = [line for line in found.replay + found.verify if edit.row in line and edit.column in line]
    assert named, found


@pytest.mark.parametrize("name", IN_BOTH)
def test_both_commands_report_an_edit_in_the_same_words(name: str, finished: Database) -> None:
    edit = EDITS[name]
    found = look(finished, edit)
    named = {line for line in found.replay if edit.row in line and edit.column in line}
    assert named & set(found.verify), found


@pytest.mark.parametrize("name", EACH_FINDS)
def test_each_command_finds_an_edit_that_does_not_concern_the_whole_run(name: str, finished: Database) -> None:
    found = look(finished, EDITS[name])
    assert found.replay
    assert found.verify


@pytest.mark.parametrize("name", DERIVED)
def test_verify_db_derives_the_values_that_only_decisions_wrote(name: str, finished: Database) -> None:
    edit = EDITS[name]
    assert [line for line in look(finished, edit).verify if edit.row in line and edit.column in line]


def test_a_missing_candidate_is_named_by_its_teacher_and_sample(finished: Database) -> None:
    with finished.transaction() as connection:
        gone = connection.execute(
            sa.text(
                "DELETE FROM candidates c USING teachers t, problems p, runs r WHERE c.id = (SELECT max(o.id) FROM "
                "candidates o JOIN problems q ON q.id = o.problem_id JOIN runs s ON s.id = q.run_id WHERE s.name = "
                "'cord' AND q.key = 'problem-1' AND NOT o.kept AND o.state = 'scored' AND o.step > 1) AND t.id = "
                "c.teacher_id AND p.id = c.problem_id AND r.id = p.run_id "
                "RETURNING c.problem_id, c.step, t.name, c.sample, c.parent_id"
            )
        ).one()
        run = resolve_run(connection, "cord")
        contexts = RunContexts(finished)
        said = replay_problem(connection, contexts.of_run(run.id, connection), gone.problem_id).difference
        verified = verify_runs(connection, contexts, [run], everything=False)
        connection.rollback()
    line = (
        f"problem problem-1: step {gone.step}, teacher {gone.name}, sample {gone.sample}, after candidate "
        f"{gone.parent_id}: its row: missing, though it was planned"
    )
    assert str(said) == line
    assert line in [str(one) for report in verified.broken for one in report.examples]


def test_a_slot_that_came_from_another_problem_is_found_in_both(finished: Database) -> None:
    slot = "UPDATE beams SET problem_id = :other, step = 40 WHERE problem_id = :problem AND rank = 0 AND step = "
    with finished.transaction() as connection:
        run = resolve_run(connection, "cord")
        first, second, _ = started_problems(connection, run.id)
        connection.execute(sa.text(slot + LAST_STEP), {"problem": second, "other": first})
        context = RunContexts(finished).of_run(run.id, connection)
        (gone,), (added,) = (differences_of(connection, context, one) for one in (second, first))
        connection.rollback()
    assert gone.startswith("problem problem-1: step ")
    assert ": the beam (candidate, finish): stored" in gone
    assert added.startswith("problem problem-0: trajectory of step ")
    assert added.endswith(", 40)")


def test_contents_copied_with_their_digest_from_another_row_are_named(finished: Database) -> None:
    found = look(finished, EDITS["two proposals change places with their digests"])
    assert [line for line in found.verify if "lineage (or text, finish_reason" in line]


def test_a_deleted_digest_is_not_taken_for_a_row_of_an_older_version(finished: Database) -> None:
    with finished.transaction() as connection:
        connection.execute(sa.text("UPDATE candidates SET proposal_digest = NULL"))
        connection.execute(sa.text("UPDATE problems SET digest = NULL"))
        found = verify_runs(connection, RunContexts(finished), list_runs(connection), everything=True)
        connection.rollback()
    assert {"inputs", "results"} <= {report.invariant.name for report in found.broken}
    assert found.undigested == Undigested(0, 0, 0)


def test_many_consequences_in_one_problem_do_not_hide_the_finding_in_another(finished: Database) -> None:
    with finished.transaction() as connection:
        run = resolve_run(connection, "cord")
        first, second, third = started_problems(connection, run.id)
        for statement, problem in (
            ("UPDATE problems SET key = 'other' WHERE id = :problem", first),
            (candidate("text = text || ' indeed'", KEPT), first),
            (candidate("text = text || ' indeed'"), second),
            (candidate("seed = seed + 1"), third),
        ):
            assert connection.execute(sa.text(statement), {"problem": problem}).rowcount == 1
        broken = verify_runs(connection, RunContexts(finished), [run], everything=False).broken
        connection.rollback()
    by_name = {report.invariant.name: report for report in broken}
    results, derived = by_name["results"], by_name["derived"]
    assert results.violations > 10
    assert derived.violations > 10
    assert {one.problem for one in results.examples} == {"other", "problem-1"}
    assert [one.problem for one in results.examples[:2]] == ["other", "problem-1"]
    assert {"other", "problem-2"} <= {one.problem for one in derived.examples}
    # Within the flood, the finding with another column is among the first.
    assert [one for one in results.examples if one.problem == "other" and ", text: not" in one.detail], results


def test_an_unedited_run_has_no_findings(finished: Database) -> None:
    assert count(finished, "state <> 'done'") == 0
    found = verify_tables(finished, None, examples=3)
    assert [str(violation) for report in found.broken for violation in report.examples] == []
    assert found.undigested == Undigested(0, 0, 0)
    assert sorted(found.digests) == sorted(CONFIGS)


def test_a_configuration_without_a_table_of_default_values_means_the_same(finished: Database) -> None:
    config = f"UPDATE runs SET config = config - 'verify' WHERE id = {RUN}"
    assert look(finished, Edit(config, "its row", "config")) == Found([], [])
    assert look(finished, Edit(config, "its row", "config", "unchecked")).replay  # there it says method = "none"


def test_a_multiplied_run_has_the_rows_of_the_original(finished: Database) -> None:
    """For `cordctl bench tables`."""
    with finished.transaction() as connection:
        source = resolve_run(connection, "alike").id
        copy = begin_copy(connection, source, "copies")
        for block in (0, 1):
            add_blocks(connection, source, copy, first=block, last=block)
        assert run_size(connection, copy) == tuple(2 * number for number in run_size(connection, source))
        assert fill_rollups(connection, after=0, most=100)
        usage = sa.text(
            "SELECT sum(winning) AS winning, sum(duplicates) AS duplicates, sum(tokens) AS tokens FROM teacher_summary "
            "WHERE run = :run"
        )
        one, two = (connection.execute(usage, {"run": run}).one() for run in ("alike", "copies"))
        assert tuple(two) == tuple(2 * number for number in one)
        assert one.duplicates > 0
        broken = [check(connection, invariant, copy).examples for invariant in (*INVARIANTS, *ROLLUP_INVARIANTS)]
        connection.rollback()
    assert [examples for examples in broken if examples] == []


ROLLUP_COLUMNS = [
    column
    for table in ("problem_rollups", "teacher_rollups", "request_rollups")
    for column in Base.metadata.tables[table].columns
]


def test_every_change_of_every_column_of_a_rollup_is_found(finished: Database) -> None:
    tried, missed = set(), []
    (invariant,) = ROLLUP_INVARIANTS
    with finished.transaction() as connection:
        run = resolve_run(connection, "cord")
        problem = started_problems(connection, run.id)[1]
        for column in ROLLUP_COLUMNS:
            changes = [change.sql for change in changes_of(column)][:2]
            if isinstance(column.type, sa.Double):  # an engine that answers at once takes 0 seconds
                changes = [rollup(column.table.name, f"{column.name} = {column.name} + 1e-6")]
            for change in changes:
                edit = connection.begin_nested()
                try:
                    changed = connection.execute(sa.text(change), {"problem": problem}).rowcount
                    if changed and not check(connection, invariant, None, problem_id=problem).violations:
                        missed.append(f"{column}: {change}")
                except sa.exc.IntegrityError:
                    changed = 1
                edit.rollback()
                tried |= {column} if changed else set()
        connection.rollback()
    assert missed == []
    # No candidate of this problem is invalid for another reason than being a duplicate, and every worker is known.
    assert set(map(str, set(ROLLUP_COLUMNS) - tried)) <= {"teacher_rollups.invalid_reasons"}


def figures(connection: sa.Connection, name: str) -> dict[str, object]:
    """What commands and views say of the run."""
    run = resolve_run(connection, name)
    views = {
        view: connection.execute(sa.text(f"SELECT * FROM {view} WHERE run = :run"), {"run": name}).all()
        for view in views_of_runs(connection)
    }
    return {
        "totals": read_totals(connection, run.id, window_seconds=1e9),
        "caches": prefix_cache(connection, name),
        "costs": read_costs(connection, name),
        "walls": read_wall_times(connection, run.id),
        "results": problem_results(connection, run.id),
        "base scores": read_base_scores(connection, run.id),
        "overview": results_by_run(connection)[run.id],
        **{view: sorted(rows, key=str) for view, rows in views.items()},
    }


def rounded(value: object) -> object:
    """The value with its floats to 9 digits: sums depend on the order of their parts."""
    if isinstance(value, float):
        return float(f"{value:.9g}")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {name: rounded(one) for name, one in dataclasses.asdict(value).items() if name != "recent_seconds"}
    if isinstance(value, Mapping):
        return {name: rounded(one) for name, one in value.items()}
    return [rounded(one) for one in value] if isinstance(value, (list, tuple, sa.Row)) else value


@pytest.mark.parametrize("name", CONFIGS)
def test_figures_are_the_same_with_rollups_and_without(name: str, finished: Database) -> None:
    with finished.transaction() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM problem_rollups")).scalar_one() == count(
            finished, "true"
        )
        stored = figures(connection, name)
        for table in ("request_rollups", "teacher_rollups", "problem_rollups"):
            connection.execute(sa.text(f"DELETE FROM {table}"))
        computed = figures(connection, name)
        connection.rollback()
    assert rounded(stored) == rounded(computed)


def test_views_say_what_the_views_of_the_previous_revision_said_of_the_rows(finished: Database) -> None:
    before = ScriptDirectory.from_config(alembic_config(None)).get_revision("0021").module
    asked = {
        "teacher_selection": "SELECT * FROM {} o",
        "prefix_cache": "SELECT run, model, kind, worker_id, requests, at_home, prompt_tokens, cached_tokens FROM {} o",
        "run_costs": "SELECT run, model, kind, requests, prompt_tokens, cached_tokens, completion_tokens, "
        "request_seconds, engine_seconds FROM {} o",
    }
    now = {
        "teacher_selection": "SELECT run, teacher, tenth, proposed, kept, on_winning_path, hit_rate, mean_score, "
        "tokens FROM teacher_selection",
        "prefix_cache": "SELECT run, model, kind, worker_id, requests, at_home, prompt_tokens, cached_tokens "
        "FROM model_usage WHERE kind <> 'verdict'",
        "run_costs": "SELECT run, model, kind, sum(requests), sum(prompt_tokens), coalesce(sum(cached_tokens), 0), "
        "sum(completion_tokens), sum(request_seconds), sum(engine_seconds) FROM model_usage GROUP BY run, model, kind",
    }

    def rows(connection: sa.Connection, query: str) -> list[list[object]]:
        found = [
            [float(x) if isinstance(x, (int, Decimal)) else x for x in row]
            for row in connection.execute(sa.text(query))
        ]
        return sorted((rounded(row) for row in found), key=str)

    with finished.transaction() as connection:
        # The engine that answers at once takes 0 seconds.
        for statement in (
            "UPDATE candidates SET propose_seconds = id % 7 / 50.0 WHERE propose_seconds IS NOT NULL",
            "UPDATE candidates SET score_seconds = id % 5 / 9.0 WHERE score_seconds IS NOT NULL",
            "UPDATE trajectories SET answer_seconds = 0.25 WHERE answer_seconds IS NOT NULL",
            "DELETE FROM request_rollups",
            "DELETE FROM teacher_rollups",
            "DELETE FROM problem_rollups",
        ):
            connection.execute(sa.text(statement))
        assert fill_rollups(connection, after=0, most=100)
        assert connection.execute(sa.text("SELECT sum(engine_seconds) FROM model_usage")).scalar_one() > 1
        for view, query in asked.items():
            definition = getattr(before, view.upper()).partition(" AS\n")[2].replace(":", "\\:")
            assert rows(connection, now[view]) == rows(connection, query.format(f"({definition})")), view
        connection.rollback()


INSTANTS = [
    column
    for table in ("runs", "models", "workers", "problems", "candidates", "trajectories", "rescorings", "rescores")
    for column in Base.metadata.tables[table].columns
    if isinstance(column.type, sa.DateTime)
]
IN_MIDST = "(SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY scored_at) FROM candidates)"


def set_clock(connection: sa.Connection, change: str, *, since: datetime | None) -> None:
    """Moves all instants (those after `since`) as if PostgreSQL's clock had been changed by `change` (SQL)."""
    for column in INSTANTS:
        after = f"{column.name} > CAST(:since AS timestamptz)" if since else "true"
        moved = f"UPDATE {column.table.name} SET {column.name} = {column.name} {change} WHERE {after}"
        connection.execute(sa.text(moved), {"since": since} if since else {})


def out_of_order(connection: sa.Connection, database: Database) -> list[str]:
    found = verify_runs(connection, RunContexts(database), list_runs(connection), everything=True, examples=99)
    lines = [str(violation) for report in found.broken for violation in report.examples]
    return [line for line in lines if ": out of order" in line or "created_at: " in line]


def test_a_clock_that_was_set_back_by_hours_during_runs_is_not_taken_for_an_edit(finished: Database) -> None:
    found = {}
    for change in ("- interval '2 hours'", "- interval '2 days'"):
        with finished.transaction() as connection:
            midst = connection.execute(sa.text(f"SELECT {IN_MIDST}")).scalar_one()
            set_clock(connection, change, since=midst)
            found[change] = out_of_order(connection, finished)
            connection.rollback()
    assert found["- interval '2 hours'"] == []
    assert len(found["- interval '2 days'"]) > PROBLEMS


def test_a_clock_that_was_hours_ahead_is_not_taken_for_an_edit(finished: Database) -> None:
    with finished.transaction() as connection:
        set_clock(connection, "+ interval '2 hours'", since=None)
        ahead = out_of_order(connection, finished)
        set_clock(connection, "+ interval '2 days'", since=None)
        far_ahead = out_of_order(connection, finished)
        connection.rollback()
    assert ahead == []
    assert len(far_ahead) > PROBLEMS * len(CONFIGS)


def test_a_run_that_was_enqueued_after_the_clock_was_set_back_may_be_older_than_its_models(
    finished: Database,
) -> None:
    """Nothing was under way then."""
    with finished.transaction() as connection:
        for table, run in (("runs", "id"), ("problems", "run_id")):
            earlier = f"UPDATE {table} SET created_at = created_at - interval '2 hours' WHERE {run} = "
            connection.execute(sa.text(earlier + "(SELECT max(id) FROM runs)"))
        assert out_of_order(connection, finished) == []
        connection.rollback()


def test_an_answer_digest_of_an_older_version_without_a_seed_is_accepted(finished: Database) -> None:
    cut = sa.text(
        "UPDATE trajectories j SET answer_digest = substr(j.answer_digest, 1, :bytes) FROM problems p "
        "WHERE p.id = j.problem_id AND j.winner AND p.run_id = (SELECT id FROM runs WHERE name = 'cord')"
    )
    with finished.transaction() as connection:
        run = resolve_run(connection, "cord")
        whole = run_digest(connection, run.id)
        found = {}
        for size in (16, 12):
            assert connection.execute(cut, {"bytes": size}).rowcount == PROBLEMS
            verified = verify_runs(connection, RunContexts(finished), [run], everything=False, examples=PROBLEMS)
            found[size] = [str(violation) for report in verified.broken for violation in report.examples]
            if size == 16:
                assert run_digest(connection, run.id) == whole
                connection.execute(sa.text(trajectory("answer_text = 'another'")), _second(connection, run.id))
                (line,) = differences_of(
                    connection, RunContexts(finished).of_run(run.id), started_problems(connection, run.id)[1]
                )
                assert ": answer_text: not what was written, says answer_digest" in line
        connection.rollback()
    assert found[16] == []
    assert len(found[12]) >= PROBLEMS


def test_a_score_of_an_older_version_without_a_mean_probability_is_accepted(finished: Database) -> None:
    older = sa.text(
        "UPDATE candidates c SET score_digest = substr(c.score_digest, 1, :bytes), mean_probability = NULL "
        "FROM problems p WHERE p.id = c.problem_id AND c.scored_at IS NOT NULL AND p.run_id = "
        "(SELECT id FROM runs WHERE name = 'cord')"
    )
    without = sa.text(
        "UPDATE problems SET base_score = NULL, base_log_prob_sum = NULL, base_mean_probability = NULL, "
        "base_answer_tokens = NULL, base_prompt_tokens = NULL, base_cached_tokens = NULL, base_score_seconds = NULL, "
        "base_scored_by = NULL, base_scored_at = NULL, base_score_digest = NULL"
    )
    with finished.transaction() as connection:
        run = resolve_run(connection, "cord")
        whole = run_digest(connection, run.id)
        found = {}
        for size in (32, 28):
            assert connection.execute(older, {"bytes": size}).rowcount > PROBLEMS
            connection.execute(without)
            for table in ("problem_rollups", "teacher_rollups", "request_rollups"):
                connection.execute(sa.text(f"DELETE FROM {table}"))  # those of an older version had no base scores
            verified = verify_runs(connection, RunContexts(finished), [run], everything=False, examples=PROBLEMS)
            found[size] = [str(violation) for report in verified.broken for violation in report.examples]
            if size == 32:
                assert run_digest(connection, run.id) == whole
        connection.rollback()
    assert found[32] == []
    assert len(found[28]) >= PROBLEMS


def test_the_digest_of_an_answer_covers_its_seed(finished: Database) -> None:
    found = look(finished, Edit(trajectory("answer_seed = answer_seed + 1"), WHOLE, "answer_seed"))
    assert [line for line in found.verify if "answer_seed: not what was written, says answer_digest" in line]


def _second(connection: sa.Connection, run_id: int) -> dict[str, int]:
    return {"problem": started_problems(connection, run_id)[1]}


def test_rows_of_older_versions_are_counted_and_accepted(finished: Database) -> None:
    with finished.transaction() as connection:
        for digest in DIGESTS:
            connection.execute(sa.text(f"UPDATE {digest.table} SET {digest.column} = NULL"))
        runs = list_runs(connection)
        found = verify_runs(connection, RunContexts(finished), runs, everything=True)
        connection.rollback()
    assert [str(violation) for report in found.broken for violation in report.examples] == []
    assert found.undigested.problems == PROBLEMS * len(CONFIGS)
    assert found.undigested.candidates == count(finished, "true", "candidates")
    assert found.undigested.answers == count(finished, "answered_at IS NOT NULL", "trajectories")


def test_the_digest_of_a_run_changes_with_any_result_and_with_nothing_else(finished: Database) -> None:
    with finished.transaction() as connection:
        run = resolve_run(connection, "cord")
        before = run_digest(connection, run.id)
        connection.execute(sa.text("UPDATE problems SET touched_at = now()"))
        touched = run_digest(connection, run.id)
        connection.execute(sa.text("UPDATE trajectories SET correctness_digest = answer_digest WHERE winner"))
        changed = run_digest(connection, run.id)
        connection.rollback()
    assert before == touched != changed


def test_a_result_with_a_forged_digest_is_found_by_a_new_comparison_and_corrected_by_recheck(
    finished: Database,
) -> None:
    digest = CORRECTNESS.sql({"correct": "NOT j.correct"})
    flip = sa.text(
        f"UPDATE trajectories j SET correct = NOT j.correct, correctness_digest = {digest} "
        "FROM problems p WHERE p.id = j.problem_id AND j.winner AND p.key = 'problem-1' "
        "AND p.run_id = (SELECT id FROM runs WHERE name = 'cord')"
    )
    assert finished.run(lambda connection: connection.execute(flip).rowcount) == 1
    found = verify_tables(finished, "cord", examples=3, compare=True)
    (compared,) = [report for report in found.broken if report.invariant.name == "comparisons"]
    assert [(one.problem, ": correct: stored" in one.detail) for one in compared.examples] == [("problem-1", True)]
    assert recheck_run(finished, "cord").rewritten == 1
    assert verify_tables(finished, "cord", examples=3, compare=True).broken == []
