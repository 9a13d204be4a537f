"""`cordctl recheck`: results of an older checker are replaced once, and other results stay."""

from __future__ import annotations

import json
from typing import Any

import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from cord_worker.cli import cli
from cord_worker.config import RunConfig
from cord_worker.dataset import ProblemRecord
from cord_worker.operations import recheck
from cord_worker.operations.recheck import RecheckResult, recheck_run
from cord_worker.store.audit.invariants import INVARIANTS, check
from cord_worker.store.database import Database
from cord_worker.store.runs.enqueue import enqueue
from cord_worker.store.runs.recheck import NewResult, read_stored_answers, write_new_results
from cord_worker.store.schema.digests import ANSWER, CORRECTNESS, DIGESTS
from cord_worker.verify import CheckResult

CONFIG = RunConfig.model_validate(
    {
        "models": {"m": {"path": "m", "engine": "instant"}, "judge": {"path": "judge", "engine": "instant"}},
        "teachers": [{"name": "first", "model": "m"}],
        "prover": {"model": "m"},
        "verify": {"undecided": "judge", "judge": {"model": "judge"}},
    }
)

OLD = '{"method": "unequal", "extracted": null, "detail": null}'
JUDGE = '{"method": "judge", "extracted": null, "detail": "said so", "rounds": 1, "compared": {"method": "undecided"}}'

_ANSWERED = (
    """
    INSERT INTO candidates (problem_id, parent_rank, step, depth, round, teacher_id, sample, lineage, seed, max_tokens,
                            whole, state, text, finish_reason, completion_tokens, score, log_prob_sum, answer_tokens,
                            kept, winning, rank)
    SELECT p.id, 0, 1, 1, 0, t.id, 0, 'l' || p.id, 0, 8, false, 'scored', 'a step', 'think_end', 3, 1, 0, 1, true, true,
           0
    FROM problems p JOIN teachers t ON t.run_id = p.run_id
    """,
    """
    INSERT INTO beams (problem_id, step, rank, candidate_id, finish)
    SELECT problem_id, 1, 0, id, 'think_end' FROM candidates
    """,
    """
    INSERT INTO trajectories (problem_id, candidate_id, steps, score, finish, winner, answer_state, answer_text,
                              correct, verification)
    SELECT c.problem_id, c.id, 1, 1, 'think_end', true, CASE WHEN p.attributes ? 'judged' THEN 'judged' ELSE 'written'
           END, p.attributes ->> 'text', (p.attributes ->> 'correct')::boolean, (p.attributes -> 'verification')
    FROM candidates c JOIN problems p ON p.id = c.problem_id
    """,
    """
    UPDATE problems SET step = 1, admitted_at = now(),
                        state = CASE WHEN attributes ? 'unfinished' THEN 'verifying' ELSE 'done' END,
                        finished_at = CASE WHEN attributes ? 'unfinished' THEN NULL ELSE now() END
    """,
)


def stored(database: Database, **answers: dict[str, Any]) -> None:
    """A run of problems whose reference is 1250, with these answers and check results."""
    records = [
        ProblemRecord(key, "How much?", "1250", None, {"verification": json.loads(OLD), **answer}, f"d:{number}")
        for number, (key, answer) in enumerate(answers.items(), start=1)
    ]

    def write(connection: sa.Connection) -> None:
        enqueue(connection, "run", CONFIG, records)
        for statement in _ANSWERED:
            connection.execute(sa.text(statement))
        connection.execute(sa.text("UPDATE trajectories SET verification = NULL WHERE verification = 'null'::jsonb"))
        written = f"answer_digest = {ANSWER.sql()}, correctness_digest = {CORRECTNESS.sql()}"
        connection.execute(sa.text(f"UPDATE trajectories j SET {written}"))

    database.run(write)


def stored_results(database: Database) -> dict[str, tuple[Any, ...]]:
    statement = """
        SELECT p.key, j.correct, j.verification, j.answer_state
        FROM trajectories j JOIN problems p ON p.id = j.problem_id
    """
    return {row.key: tuple(row[1:]) for row in database.run(lambda c: c.execute(sa.text(statement)).all())}


def run_id(database: Database) -> int:
    return int(database.run(lambda c: c.execute(sa.text("SELECT id FROM runs")).scalar_one()))


def recheck_again(database: Database, **options: Any) -> RecheckResult:
    return recheck_run(database, "run", timeout_seconds=60, processes=1, **options)


def broken(database: Database) -> list[str]:
    return [one.name for one in INVARIANTS if database.run(lambda c, i=one: check(c, i, None)).violations]


RIGHT = {"text": r"So it is \boxed{\$1,250}.", "correct": False}
STILL_WRONG = {"text": "The final answer is 1251.", "correct": False}
WRONG_NOW = {"text": "The final answer is 12.", "correct": True, "verification": {"method": "math", "extracted": "12"}}
SILENT = {"text": "", "correct": False}


def test_changed_results_are_stored_and_reported_and_a_second_recheck_changes_nothing(database: Database) -> None:
    stored(database, right=RIGHT, same=STILL_WRONG, wrong=WRONG_NOW, silent=SILENT)
    found = recheck_again(database)
    assert (found.checked, found.became(True), found.became(False), found.became(None)) == (4, 1, 1, 1)
    assert {change.key: (change.before, change.result.correct) for change in found.changes} == {
        "right": (False, True),
        "wrong": (True, False),
        "silent": (False, None),
    }
    after = stored_results(database)
    assert {key: row[0] for key, row in after.items()} == {"right": True, "same": False, "wrong": False, "silent": None}
    assert (after["right"][1]["type"], after["silent"][1]["method"]) == ("number", "undecided")
    assert after["wrong"][1]["rechecked"]["correct"] is True
    assert after["wrong"][1]["rechecked"]["method"] == "math"
    assert broken(database) == []

    second = recheck_again(database)
    assert (second.checked, second.changes, second.rewritten) == (4, [], 0)
    assert stored_results(database) == after


def test_a_dry_run_reports_the_changes_and_writes_nothing(database: Database) -> None:
    stored(database, right=RIGHT, same=STILL_WRONG)
    before = stored_results(database)
    assert [change.key for change in recheck_again(database, dry_run=True).changes] == ["right"]
    assert stored_results(database) == before


def test_progress_is_reported_while_answers_are_left(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    stored(database, **{f"p{number}": RIGHT for number in range(5)})
    monkeypatch.setattr(recheck, "_BATCH", 2)
    monkeypatch.setattr(recheck, "_REPORT_SECONDS", -1.0)
    told: list[tuple[int, int]] = []
    recheck_again(database, on_progress=lambda done, total: told.append((done, total)))
    assert told == [(2, 5), (4, 5)]


def test_a_recheck_killed_in_the_middle_continues_where_it_stopped(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored(database, **{f"p{number}": RIGHT for number in range(6)})
    monkeypatch.setattr(recheck, "_BATCH", 2)
    write = write_new_results
    calls = []

    def dies(connection: sa.Connection, new: Any) -> set[int]:
        calls.append(new)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return write(connection, new)

    monkeypatch.setattr(recheck, "write_new_results", dies)
    with pytest.raises(KeyboardInterrupt):
        recheck_again(database)
    assert sorted(row[0] for row in stored_results(database).values()) == [False] * 4 + [True] * 2
    found = recheck_again(database)
    assert (found.checked, found.became(True)) == (6, 4)
    assert {row[0] for row in stored_results(database).values()} == {True}


def test_running_problems_and_rows_without_a_comparison_are_left_unchanged(database: Database) -> None:
    stored(
        database,
        working={**RIGHT, "unfinished": True},
        unchecked={**RIGHT, "verify": "none", "correct": None, "verification": None},
        asked={**RIGHT, "verify": "judge", "judged": True, "verification": {"method": "judge"}},
    )
    before = stored_results(database)
    found = recheck_again(database, judged=True)
    assert (found.checked, found.unfinished, found.unchecked, found.judged) == (0, 1, 1, 1)
    assert stored_results(database) == before


def test_a_judges_verdict_stays_unless_its_recheck_is_asked_for(database: Database) -> None:
    judged = {"judged": True, "verification": json.loads(JUDGE)}
    stored(database, decided={**RIGHT, **judged}, undecided={**SILENT, **judged})
    before = stored_results(database)
    assert (recheck_again(database).judged, stored_results(database)) == (2, before)

    found = recheck_again(database, judged=True)
    assert ([change.key for change in found.changes], found.judged) == (["decided"], 1)
    after = stored_results(database)
    assert after["undecided"] == before["undecided"]
    assert after["decided"][0] is True
    assert after["decided"][1]["judged"]["detail"] == "said so"
    assert broken(database) == []
    assert recheck_again(database, judged=True).rewritten == 0


def test_a_check_without_a_result_keeps_the_stored_result(database: Database) -> None:
    stored(database, wrong=WRONG_NOW, right=RIGHT)
    before = stored_results(database)
    answers = database.run(lambda c: read_stored_answers(c, run_id(database), 0, 10))
    found = RecheckResult("run", dry_run=False)
    without = [CheckResult(None, "timeout"), CheckResult(None, "crashed")]
    recheck._write_changes(database, found, answers, without)
    assert (found.checked, found.kept, found.changes) == (2, 2, [])
    assert stored_results(database) == before


def test_a_result_that_was_written_meanwhile_is_not_overwritten(database: Database) -> None:
    stored(database, right=RIGHT)
    (answer,) = database.run(lambda c: read_stored_answers(c, run_id(database), 0, 10))
    late = NewResult(answer.trajectory_id, False, '{"method": "late"}', json.dumps(answer.verification))
    recheck_again(database)
    assert database.run(lambda c: write_new_results(c, [late])) == set()
    assert stored_results(database)["right"][0] is True


def test_the_command_lists_the_changes_for_people_and_for_scripts(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored(database, right=RIGHT, silent=SILENT)
    monkeypatch.setenv("CORD_DATABASE_URL", database_url)
    shown = CliRunner().invoke(cli, ["recheck", "run", "--dry-run", "--timeout", "60"])
    assert shown.exit_code == 0, shown.output
    assert "right: wrong -> right" in shown.output
    assert "silent: wrong -> undecided (undecided)" in shown.output
    assert "2 answers checked; became right 1, wrong 0, undecided 1" in shown.output
    assert "Nothing was written" in shown.output
    found = json.loads(CliRunner().invoke(cli, ["recheck", "run", "--json", "--timeout", "60"]).stdout)
    assert (found["became_right"], found["became_undecided"], found["dry_run"]) == (1, 1, False)
    assert {change["id"] for change in found["changes"]} == {"right", "silent"}
    missing = CliRunner().invoke(cli, ["recheck", "other"])
    assert missing.exit_code == 1
    assert "no run is called 'other'" in missing.output


def edit(database: Database, statement: str) -> None:
    """Edits one row by hand."""
    assert database.run(lambda c: c.execute(sa.text(statement)).rowcount) == 1


_PROBLEM = "UPDATE problems p SET {} WHERE key = 'changed'"
_TRAJECTORY = "UPDATE trajectories j SET {} FROM problems p WHERE p.id = j.problem_id AND p.key = 'changed'"
_BROKEN = {
    "answer": (_PROBLEM.format("answer = '12'"), "its row: question, answer or passage: not what was enqueued"),
    "question": (_PROBLEM.format("question = 'How many?'"), "its row: question, answer or passage: not what was"),
    "method": (
        _PROBLEM.format('attributes = attributes || \'{"verify": "exact"}\''),
        "its row: attributes: not what was written, says digest",
    ),
    "text": (_TRAJECTORY.format("answer_text = '1250'"), ": answer_text: not what was written, says answer_digest"),
    "text and digest": (
        _TRAJECTORY.format("answer_text = '1250', answer_digest = NULL"),
        ": answer_digest: missing, though its run has digests",
    ),
}


@pytest.mark.parametrize("changed", _BROKEN)
@pytest.mark.long
def test_an_edited_row_gets_no_new_result_and_is_named(
    changed: str, database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    statement, said = _BROKEN[changed]
    stored(database, changed=STILL_WRONG, right=RIGHT)
    edit(database, statement)
    before = stored_results(database)
    monkeypatch.setenv("CORD_DATABASE_URL", database_url)
    shown = CliRunner().invoke(cli, ["recheck", "run", "--timeout", "60"])
    assert shown.exit_code == 4, shown.output
    (line,) = [line for line in shown.output.splitlines() if line.startswith("not changed: ")]
    assert line.startswith("not changed: problem changed: ")
    assert said in line
    assert "1 answer checked; became right 1" in shown.output
    after = stored_results(database)
    assert after["changed"] == before["changed"]
    assert after["right"][0] is True
    again_as_json = CliRunner().invoke(cli, ["recheck", "run", "--json", "--timeout", "60"])
    assert again_as_json.exit_code == 4
    found = json.loads(again_as_json.stdout)
    assert (found["left_broken"], found["rewritten"]) == (1, 0)
    assert [(one["problem"], said in one["detail"]) for one in found["broken"]] == [("changed", True)]


def test_two_edited_problems_are_both_left_unchanged_and_named(database: Database) -> None:
    stored(database, one=RIGHT, two=RIGHT, three=RIGHT)
    edit(database, "UPDATE problems SET question = 'How many?' WHERE key = 'one'")
    edit(database, "UPDATE problems SET question = 'How few?' WHERE key = 'two'")
    found = recheck_again(database)
    assert (found.left_broken, sorted(str(one.problem) for one in found.broken)) == (2, ["one", "two"])
    assert {key: row[0] for key, row in stored_results(database).items()} == {"one": False, "two": False, "three": True}


def test_an_edited_verdict_of_the_judge_gets_no_new_result(database: Database) -> None:
    stored(database, changed={**RIGHT, "judged": True, "verification": json.loads(JUDGE)})
    edit(database, _TRAJECTORY.format('verification = verification || \'{"detail": "said other"}\''))
    before = stored_results(database)
    found = recheck_again(database, judged=True)
    assert (found.left_broken, found.rewritten, stored_results(database)) == (1, 0, before)
    assert ": verification: not what was written, says correctness_digest" in str(next(iter(found.broken)))


def test_an_edited_configuration_is_not_used_for_a_recheck(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored(database, right=RIGHT)
    edit(database, "UPDATE runs SET config = jsonb_set(config, '{verify,method}', '\"exact\"')")
    before = stored_results(database)
    monkeypatch.setenv("CORD_DATABASE_URL", database_url)
    shown = CliRunner().invoke(cli, ["recheck", "run", "--timeout", "60"])
    assert shown.exit_code == 4
    assert "not changed: run run: its row: config or config_fingerprint: stored" in shown.output
    assert "0 answers checked" in shown.output
    assert stored_results(database) == before


def test_answers_of_older_versions_without_digests_are_checked_again(database: Database) -> None:
    stored(database, right=RIGHT)
    for digest in DIGESTS:
        database.run(lambda c, one=digest: c.execute(sa.text(f"UPDATE {one.table} SET {one.column} = NULL")))
    assert (recheck_again(database).became(True), recheck_again(database).left_broken) == (1, 0)
