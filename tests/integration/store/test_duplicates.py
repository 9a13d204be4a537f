"""Duplicates: of the equal texts of one step only one is scored, in any order of arrival."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from cord_worker.search import cord
from cord_worker.search.decision import Expand
from cord_worker.search.types import SeedScope
from cord_worker.search.validity import duplicates
from cord_worker.store.audit.invariants import INVARIANTS, check
from cord_worker.store.database import Database
from cord_worker.store.schema.kinds import PROPOSE
from cord_worker.store.search import decisions
from cord_worker.store.work import score, sweep
from cord_worker.store.work.score import ScoreResult
from tests.support.leases import (
    MODELS,
    PASSED_ON,
    claim,
    claim_scores,
    finish,
    passed_on,
    proposed,
    rows_of,
    teachers,
    to_advance,
    write_scores,
    write_text,
)
from tests.support.rows import SMALL_SEARCH, registered


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_of_equal_texts_only_the_first_teachers_is_scored_in_any_order_of_arrival(
    database: Database, problem: int, order: tuple[int, int]
) -> None:
    holder = registered(database)
    for teacher in order:
        write_text(database, holder, problem, teacher, " It is 2." if teacher else " It  is\n2. ")
    found = claim_scores(database, holder, problem)
    (stands, _), _ = rows_of(database, "id, lineage")
    assert [lease.candidate_id for lease in found] == [stands]
    columns = "state, invalid_reason, duplicate_of, score_attempts"
    assert rows_of(database, columns) == [("scoring", None, None, 1), ("invalid", "duplicate", stands, 0)]
    assert rows_of(database, "outstanding, unproposed", "problems") == [(1, 0)]
    assert to_advance(write_scores(database, holder, found)) == frozenset({problem})
    verdicts = database.run(lambda connection: [check(connection, one, None) for one in INVARIANTS])
    assert [report for report in verdicts if report.violations] == []


def test_a_text_is_not_scored_before_an_earlier_one_that_it_may_repeat_is_written(
    database: Database, problem: int
) -> None:
    holder = registered(database)
    write_text(database, holder, problem, 1, " It is 2.")
    database.run(lambda c: c.execute(sa.text("UPDATE candidates SET touched_at = now() - interval '2 seconds'")))
    kinds = {due.kind for due in database.run(lambda c: sweep.due_model_work(c, MODELS, 1.0))}
    assert (claim_scores(database, holder, problem), kinds) == ([], {PROPOSE.name})
    assert database.run(sweep.waiting_messages) == {MODELS[0]: 1}  # the proposal of the first teacher


def test_a_late_text_that_repeats_a_scored_one_completes_the_step_without_the_prover(
    database: Database, problem: int
) -> None:
    holder = registered(database)
    write_text(database, holder, problem, 0, " It is 2.")
    early = claim_scores(database, holder, problem)
    assert to_advance(write_scores(database, holder, early)) == frozenset()
    assert passed_on(write_text(database, holder, problem, 1, " It is 2.")) == PASSED_ON
    late = database.run(
        lambda c: score.claim(c, [problem], worker_id=holder, model=MODELS[0], scoring_mode="instant"), single=True
    )
    assert (late.leases, late.held_back, to_advance(late)) == ([], frozenset(), frozenset({problem}))
    assert rows_of(database, "state, outstanding", "problems") == [("searching", 0)]


def test_a_duplicate_of_a_text_that_cannot_be_scored_is_not_scored_either(database: Database, problem: int) -> None:
    holder = registered(database)
    write_text(database, holder, problem, 0, " It is 2.")
    (lease,) = claim_scores(database, holder, problem)
    failed = ScoreResult(lease.candidate_id, lease.attempt, "unscorable", None, None, None, None, None, None, None)
    database.run(lambda c: score.finish(c, [failed], worker_id=holder, scoring_mode="instant"), single=True)
    write_text(database, holder, problem, 1, " It is 2.")
    assert claim_scores(database, holder, problem) == []
    assert rows_of(database, "invalid_reason") == [("unscorable",), ("duplicate",)]
    found = database.run(lambda c: decisions.read_candidates(c, problem, 1, 0))
    assert duplicates(found) == {found[1].id: found[0].id}


def test_equal_texts_stored_without_keys_are_scored_and_linked_when_the_step_is_decided(
    database: Database, problem: int
) -> None:
    holder = registered(database)
    for teacher in (0, 1):
        finish(database, holder, proposed(claim(database, holder, problem, teacher), f" It{' ' * (1 + teacher)}is 2."))
    write_scores(database, holder, claim_scores(database, holder, problem))

    def decide(connection: sa.Connection) -> None:
        snapshot = decisions.lock_problem(connection, problem)
        assert snapshot is not None
        found = decisions.read_candidates(connection, problem, 1, 0)
        scope = SeedScope(0, "p")
        decision = cord.decide(
            SMALL_SEARCH, scope, ["first", "second"], step=1, round=0, beam=(), candidates=found, spent=0
        )
        assert isinstance(decision, Expand)
        decisions.write_expand(connection, snapshot, decision, teachers(connection, snapshot.run_id))

    database.run(decide)
    (stands, _, _), repeats = rows_of(database, "id, state, duplicate_of", "candidates WHERE step = 1")[:2]
    assert repeats[1:] == ("invalid", stands)


def test_provers_that_claim_concurrently_find_the_same_duplicates(database: Database, problem: int) -> None:
    holders = [registered(database) for _ in range(6)]
    for teacher in (0, 1):
        write_text(database, holders[0], problem, teacher, " It is 2.")
    with ThreadPoolExecutor(len(holders)) as pool:
        found = [lease for one in pool.map(lambda it: claim_scores(database, it, problem), holders) for lease in one]
    assert len(found) == 1
    assert rows_of(database, "state") == [("scoring",), ("invalid",)]
    assert rows_of(database, "outstanding", "problems") == [(1,)]
