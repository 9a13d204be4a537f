"""The figures of a run's page: the same as those of `cordctl` and the views under the same names."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from cord_worker.operations.run_cost import read_cost
from cord_worker.store.database import Database
from cord_worker.store.reports.search_figures import gains_by_teacher
from cord_worker.store.reports.status import read_teacher_totals
from cord_worker.store.runs.runs import resolve_run
from cord_worker.web.problems import problem_document
from cord_worker.web.runs import run_document, run_list, run_summary
from tests.integration.web.conftest import RUN
from tests.support.web_runs import HOSTILE, enqueue_hostile


@pytest.fixture
def connection(hostile: Database) -> Iterator[sa.Connection]:
    """A transaction on the hostile runs whose changes do not last."""
    with hostile.transaction() as connection:
        yield connection
        connection.rollback()


@pytest.mark.parametrize("own", [False, True], ids=["two teachers", "one teacher twice"])
def test_a_step_that_two_proposals_have_in_common_counts_half_for_each(connection: sa.Connection, own: bool) -> None:
    run = resolve_run(connection, RUN)
    first = sa.text("SELECT id FROM problems WHERE run_id = :run_id AND position = 0")
    problem = connection.execute(first, {"run_id": run.id}).scalar_one()
    # Otherwise each step would have the same gain, and no weight would matter.
    raised = "UPDATE candidates SET score = score + 0.07 WHERE problem_id = :id AND winning AND step = 2"
    single = "UPDATE candidates SET duplicate_of = NULL, invalid_reason = 'loop' WHERE problem_id = :id AND step = 3 "
    connection.execute(sa.text(raised), {"id": problem})
    connection.execute(sa.text(single + "AND duplicate_of IS NOT NULL"), {"id": problem})
    if own:
        connection.execute(
            sa.text(
                """
                UPDATE candidates d SET teacher_id = c.teacher_id, sample = 9 FROM candidates c
                WHERE d.duplicate_of = c.id AND d.problem_id = :id
                """
            ),
            {"id": problem},
        )
    expected = {one.teacher: one.mean_winning_gain for one in gains_by_teacher(connection, run.id)}
    found = {one.name: one.gain.mean for one in run_document(connection, run).teachers}
    assert found == {name: None if gain is None else pytest.approx(gain, rel=1e-5) for name, gain in expected.items()}
    assert own or len({gain for gain in found.values() if gain is not None}) > 1


def test_the_credit_of_all_tenths_adds_up_to_the_winning_steps(connection: sa.Connection) -> None:
    run = resolve_run(connection, RUN)
    document = run_document(connection, run)
    assert sum(cell.credit for cell in document.selection) == pytest.approx(3 * len(HOSTILE))
    for teacher in document.teachers:
        credit = sum(cell.credit for cell in document.selection if cell.teacher == teacher.name)
        assert credit / (3 * len(HOSTILE)) == pytest.approx(teacher.share, abs=1e-4)


def test_duplicates_are_listed_but_do_not_count_as_invalid(connection: sa.Connection) -> None:
    run = resolve_run(connection, RUN)
    document = run_document(connection, run)
    reasons = {one.reason: one.count for one in document.invalid}
    assert reasons == {"duplicate": 3 * len(HOSTILE), "empty": 3 * len(HOSTILE)}
    assert sum(one.invalid for one in read_teacher_totals(connection, run.id)) == reasons["empty"]


def test_the_share_of_right_answers_has_an_interval_unless_answers_depend_on_each_other(
    connection: sa.Connection,
) -> None:
    one = run_summary(connection, resolve_run(connection, RUN))
    assert one.accuracy_low is not None
    assert one.accuracy_high is not None
    assert one.accuracy is not None
    assert 0 < one.accuracy_low < one.accuracy < one.accuracy_high < 1
    connection.execute(
        sa.text("UPDATE runs SET config = jsonb_set(config, '{search,pipeline}', '\"sample\"') WHERE name = :run"),
        {"run": RUN},
    )
    samples = run_summary(connection, resolve_run(connection, RUN))
    assert (samples.accuracy, samples.accuracy_low, samples.accuracy_high) == (one.accuracy, None, None)


def test_a_paused_run_says_why_and_an_active_one_does_not(connection: sa.Connection) -> None:
    change = sa.text("UPDATE runs SET state = :state, pause_reason = 'too dear' WHERE name = :run")
    for state, reason in (("paused", "too dear"), ("active", None)):
        connection.execute(change, {"state": state, "run": RUN})
        reasons = {run.name: run.pause_reason for run in run_list(connection).runs}
        assert reasons.pop(RUN) == reason
        assert set(reasons.values()) == {None}
        assert run_document(connection, resolve_run(connection, RUN)).run.pause_reason == reason


def test_models_cost_what_the_command_says_if_the_run_has_prices(connection: sa.Connection) -> None:
    run = resolve_run(connection, RUN)
    without = run_document(connection, run).cost
    assert without.currency is None
    assert {(one.gpu_hours, one.money) for one in without.models} == {(None, None)}
    names = [one.model for one in without.models]
    prices = {"currency": "USD", "models": {name: {"gpu_hour": 3600.0 + place} for place, name in enumerate(names)}}
    store = sa.text("UPDATE runs SET prices = CAST(:prices AS jsonb) WHERE name = :run")
    connection.execute(store, {"prices": json.dumps(prices), "run": RUN})
    cost = run_document(connection, resolve_run(connection, RUN)).cost
    money = read_cost(connection, RUN).money
    assert money is not None
    assert cost.currency == "USD"
    assert {one.model: one.money for one in cost.models} == {
        one.model: pytest.approx(one.total, rel=1e-5) for one in money.models
    }
    for one in cost.models:
        assert one.gpu_hours == pytest.approx(one.worker_seconds / 3600, abs=1e-6)
        assert (
            0 < one.worker_seconds <= sum(line.engine_seconds for line in cost.lines if line.model == one.model) + 0.01
        )
        assert one.requests == sum(line.requests for line in cost.lines if line.model == one.model)


def test_lengths_have_their_mean_and_their_longest(connection: sa.Connection) -> None:
    document = run_document(connection, resolve_run(connection, RUN))
    assert (document.steps.mean, document.steps.low, document.steps.high) == (3, 3, 3)
    assert (document.tokens.mean, document.tokens.low, document.tokens.high) == (22, 22, 22)


def test_a_loser_with_a_higher_score_names_the_tie_that_it_lost(connection: sa.Connection) -> None:
    run = resolve_run(connection, RUN)
    before = problem_document(connection, run, 0)
    assert before is not None
    loser, last = before.columns[0].lost[0], before.columns[0].beam[-1].candidate
    assert set(before.candidates.tie) == {""}
    first = "SELECT id FROM problems WHERE run_id = :run_id AND position = 0"
    raised = f"UPDATE candidates SET score = 0.41 WHERE problem_id = ({first}) AND step = 1 AND rank = 2"
    connection.execute(sa.text(raised), {"run_id": run.id})
    finer = (
        "UPDATE runs SET config = jsonb_set(config, '{search,score_resolution}', CAST(:at AS jsonb)) WHERE id = :run_id"
    )
    found = {}
    for resolution in ("1.0", "0.1"):
        connection.execute(sa.text(finer), {"at": resolution, "run_id": run.id})
        document = problem_document(connection, resolve_run(connection, RUN), 0)
        assert document is not None
        found[resolution] = document.candidates.tie[loser]
        facts = {fact.label: fact.value for fact in run_document(connection, resolve_run(connection, RUN)).facts}
        assert facts["score resolution"].startswith(f"{float(resolution):g}: ")
    score = before.candidates.score[last]
    assert found == {
        "1.0": f"0.410 and the {score:.3f} of slot 1 are a tie at resolution 1: sample 0 comes before sample 1",
        "0.1": "",
    }


def test_before_a_problem_has_ended_the_run_time_is_not_known(connection: sa.Connection) -> None:
    enqueue_hostile(connection, "third", done=0)
    cost = run_document(connection, resolve_run(connection, "third")).cost
    assert (cost.run_seconds, cost.problem_seconds) == (None, None)
