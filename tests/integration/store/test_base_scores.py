"""Base scores: until a problem's base score is known, one lease of each step carries it, in any order of arrival."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from cord_worker.search import cord
from cord_worker.search.decision import Expand
from cord_worker.search.types import SeedScope
from cord_worker.store.audit.digest_invariants import DIGEST_INVARIANTS
from cord_worker.store.audit.history_invariants import HISTORY_INVARIANTS
from cord_worker.store.audit.invariants import INVARIANTS, check
from cord_worker.store.database import Database
from cord_worker.store.reports.base_scores import BaseScores, read_base_scores
from cord_worker.store.reports.costs import read_costs
from cord_worker.store.runs.retry import restart_failed, retry_failed
from cord_worker.store.search import decisions
from cord_worker.store.work import score
from cord_worker.store.work.returning import return_all
from cord_worker.store.work.score import LeasedScore, ScoreResult
from cord_worker.store.work.values import Outcome
from tests.support.leases import claim, claim_scores, finish, proposed, rows_of, teachers, write_text
from tests.support.rows import SMALL_SEARCH, registered

FIGURES = "base_score, base_log_prob_sum, base_mean_probability, base_answer_tokens, base_prompt_tokens"


def carriers(leases: Sequence[LeasedScore]) -> list[bool]:
    return [lease.carries_base for lease in leases]


def write(
    database: Database, worker_id: uuid.UUID, leases: Sequence[LeasedScore], base: float | None = 0.25
) -> Outcome:
    """Writes scores of 0.5, and the base score where it is carried."""
    results = [
        ScoreResult(lease.candidate_id, lease.attempt, None, 0.5, -0.6931471805599453, 1, 4, 20, 0, 0.1, 0.5)
        for lease in leases
    ]
    if base is not None:
        carried: dict[str, Any] = {
            "base_score": base,
            "base_log_prob_sum": -1.3862943611198906,
            "base_mean_probability": base,
            "base_answer_tokens": 1,
            "base_prompt_tokens": 9,
            "base_cached_tokens": 8,
            "base_seconds": 0.1,
        }
        results = [
            replace(result, **carried) if lease.carries_base else result
            for lease, result in zip(leases, results, strict=True)
        ]
    return database.run(lambda c: score.finish(c, results, worker_id=worker_id, scoring_mode="instant"), single=True)


def base_scores(database: Database) -> list[object]:
    return [value for (value,) in rows_of(database, "base_score", "problems")]


def violations(database: Database) -> list[str]:
    every = (*INVARIANTS, *HISTORY_INVARIANTS, *DIGEST_INVARIANTS)
    reports = database.run(lambda connection: [check(connection, one, None) for one in every])
    return [str(one) for report in reports for one in report.examples if "worker" not in one.detail]


def next_step(database: Database, problem: int) -> None:
    """Plans step 2, for a beam of the candidates that were scored."""

    def plan(connection: sa.Connection) -> None:
        snapshot = decisions.lock_problem(connection, problem)
        assert snapshot is not None
        found = decisions.read_candidates(connection, problem, 1, 0)
        scope = SeedScope(0, "p")
        decision = cord.decide(
            SMALL_SEARCH, scope, ["first", "second"], step=1, round=0, beam=(), candidates=found, spent=0
        )
        assert isinstance(decision, Expand)
        decisions.write_expand(connection, snapshot, decision, teachers(connection, snapshot.run_id))

    database.run(plan)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_first_candidate_carries_the_base_score_in_any_order_of_arrival(
    database: Database, problem: int, order: tuple[int, int]
) -> None:
    holder = registered(database)
    for teacher in order:
        write_text(database, holder, problem, teacher, f" It is {teacher}.")
    leases = claim_scores(database, holder, problem)
    assert carriers(leases) == [True, False]
    write(database, holder, leases)
    assert rows_of(database, FIGURES, "problems") == [(0.25, -1.3862943611198906, 0.25, 1, 9)]
    assert rows_of(database, "base_scored_by, base_scored_at IS NOT NULL", "problems") == [(holder, True)]
    assert rows_of(database, "score, mean_probability") == [(0.5, 0.5)] * 2
    assert violations(database) == []
    (costs,) = database.run(lambda connection: [row for row in read_costs(connection, "run") if row.kind == "score"])
    assert (costs.requests, costs.prompt_tokens, costs.cached_tokens) == (3, 49, 8)


def test_only_the_first_of_equal_texts_carries_the_base_score(database: Database, problem: int) -> None:
    holder = registered(database)
    for teacher in (1, 0):
        write_text(database, holder, problem, teacher, " It is 2.")
    (lease,) = claim_scores(database, holder, problem)
    assert (lease.carries_base, lease.candidate_id) == (True, rows_of(database, "id")[0][0])


def test_a_later_sibling_carries_the_base_score_if_the_texts_before_it_are_invalid(
    database: Database, problem: int
) -> None:
    holder = registered(database)
    finish(database, holder, proposed(claim(database, holder, problem, 0), "", "empty"))
    write_text(database, holder, problem, 1, " It is 2.")
    assert carriers(claim_scores(database, holder, problem)) == [True]


def test_a_second_claim_does_not_carry_a_base_score_that_a_lease_carries(database: Database, problem: int) -> None:
    holder = registered(database)
    write_text(database, holder, problem, 0, " It is 2.")
    assert carriers(claim_scores(database, holder, problem)) == [True]
    write_text(database, holder, problem, 1, " It is 3.")
    assert carriers(claim_scores(database, holder, problem)) == [False]


def test_no_other_sibling_carries_the_base_score_after_the_prover_refused_the_first_one(
    database: Database, problem: int
) -> None:
    """Otherwise it would depend on the order of arrival which sibling carries it."""
    holder = registered(database)
    write_text(database, holder, problem, 0, " It is 2.")
    (lease,) = claim_scores(database, holder, problem)
    refused = ScoreResult(lease.candidate_id, lease.attempt, "too_long", *[None] * 7)
    database.run(lambda c: score.finish(c, [refused], worker_id=holder, scoring_mode="instant"), single=True)
    write_text(database, holder, problem, 1, " It is 3.")
    assert carriers(claim_scores(database, holder, problem)) == [False]
    assert base_scores(database) == [None]


def test_a_returned_lease_carries_the_base_score_again(database: Database, problem: int) -> None:
    lost, holder = registered(database), registered(database)
    write_text(database, lost, problem, 0, " It is 2.")
    late = claim_scores(database, lost, problem)
    database.run(lambda connection: return_all(connection, [lost], forgiven=True))
    again = claim_scores(database, holder, problem)
    assert (carriers(late), carriers(again)) == ([True], [True])
    assert write(database, lost, late, base=0.125).dropped == 1
    assert base_scores(database) == [None]
    write(database, holder, again)
    assert base_scores(database) == [0.25]


def test_the_next_step_carries_the_base_score_if_the_prover_gave_none(database: Database, problem: int) -> None:
    holder = registered(database)
    for teacher in (0, 1):
        write_text(database, holder, problem, teacher, f" It is {teacher}.")
    write(database, holder, claim_scores(database, holder, problem), base=None)
    assert base_scores(database) == [None]
    next_step(database, problem)
    for teacher in (1, 0):
        for number, lease in enumerate(claim(database, holder, problem, teacher)):
            finish(database, holder, proposed([lease], f" It is {teacher}, {number}."))
    leases = claim_scores(database, holder, problem)
    first, *others = rows_of(database, "id", "candidates WHERE step = 2")  # planned by parent, then by teacher
    assert {lease.candidate_id: lease.carries_base for lease in leases} == {
        first[0]: True,
        **{other: False for (other,) in others},
    }
    assert len(others) == 3
    write(database, holder, leases)
    assert base_scores(database) == [0.25]
    assert violations(database) == []


def test_no_step_computes_a_known_base_score_again(database: Database, problem: int) -> None:
    holder = registered(database)
    for teacher in (0, 1):
        write_text(database, holder, problem, teacher, f" It is {teacher}.")
    write(database, holder, claim_scores(database, holder, problem))
    next_step(database, problem)
    for teacher in (0, 1):
        finish(database, holder, proposed(claim(database, holder, problem, teacher)))
    leases = claim_scores(database, holder, problem)
    assert leases
    assert not any(carriers(leases))
    # A worker that claimed before the base score was known does not replace it.
    write(database, holder, [replace(lease, carries_base=True) for lease in leases], base=0.5)
    assert base_scores(database) == [0.25]


@pytest.mark.parametrize("again", [retry_failed, restart_failed])
def test_a_retry_keeps_a_base_score(database: Database, problem: int, again: object) -> None:
    assert callable(again)
    holder = registered(database)
    for teacher in (0, 1):
        write_text(database, holder, problem, teacher, f" It is {teacher}.")
    write(database, holder, claim_scores(database, holder, problem))
    database.run(
        lambda c: c.execute(
            sa.text("UPDATE problems SET state = 'failed', failure_reason = 'tired', finished_at = now()")
        )
    )
    database.run(lambda connection: again(connection, "run"))
    assert base_scores(database) == [0.25]
    assert violations(database) == []


def test_base_scores_are_reported_for_done_problems_with_a_winner(database: Database, problem: int) -> None:
    holder = registered(database)
    for teacher in (0, 1):
        write_text(database, holder, problem, teacher, f" It is {teacher}.")
    write(database, holder, claim_scores(database, holder, problem))
    (run_id,) = rows_of(database, "run_id", "problems")[0]
    assert isinstance(run_id, int)
    assert database.run(lambda c: read_base_scores(c, run_id)) == BaseScores(0, 0, 0, 0, None, None)
    done = sa.text(
        "WITH done AS (UPDATE problems SET state = 'done' RETURNING id) "
        "INSERT INTO trajectories (problem_id, candidate_id, steps, score, finish, winner) "
        "SELECT c.problem_id, c.id, 1, 0.5, 'eos', true FROM candidates c JOIN done ON done.id = c.problem_id "
        "ORDER BY c.id LIMIT 1"
    )
    database.run(lambda connection: connection.execute(done))
    assert database.run(lambda c: read_base_scores(c, run_id)) == BaseScores(1, 1, 0, 0, 0.25, 0.25)
    moved = sa.text("UPDATE problems SET base_score = 0.95")
    database.run(lambda connection: connection.execute(moved))
    found = database.run(lambda c: read_base_scores(c, run_id))
    assert (found.by_heart, found.unmoved) == (1, 1)
