"""Leases: one holder at a time, results written once, late ones dropped and counted."""

from __future__ import annotations

import sqlalchemy as sa

from cord_worker.store.database import Database
from cord_worker.store.schema.kinds import PROPOSE
from cord_worker.store.work import propose, score, sweep, workers
from cord_worker.store.work.propose import LeasedProposal
from cord_worker.store.work.returning import reclaim, return_all, return_leases
from tests.support.leases import MODELS, claim, claim_scores, finish, proposed, states
from tests.support.rows import registered


def test_a_second_claim_of_the_same_work_gets_nothing(database: Database, problem: int) -> None:
    first, second = registered(database), registered(database)
    assert len(claim(database, first, problem)) == 1
    assert claim(database, second, problem) == []
    assert claim(database, first, problem) == []
    assert states(database) == ["proposing", "pending"]


def test_a_result_is_written_once_and_a_second_one_is_dropped_and_counted(database: Database, problem: int) -> None:
    holder = registered(database)
    claimed = claim(database, holder, problem)
    assert finish(database, holder, proposed(claimed)).dropped == 0
    assert finish(database, holder, proposed(claimed, " another text")).dropped == 1

    def read(connection: sa.Connection) -> tuple[str, int]:
        text = connection.execute(sa.text("SELECT text FROM candidates ORDER BY id LIMIT 1")).scalar_one()
        count = connection.execute(
            sa.text("SELECT dropped_results FROM workers WHERE id = :id"), {"id": holder}
        ).scalar_one()
        return text, count

    assert database.run(read) == (" 1 + 1 = 2.", 1)


def test_a_lost_workers_result_is_dropped_after_another_took_its_lease(database: Database, problem: int) -> None:
    stale, fresh = registered(database), registered(database)
    old = claim(database, stale, problem)
    heard = database.run(workers.read_heartbeats)
    database.run(lambda connection: workers.write_heartbeat(connection, fresh))
    assert database.run(lambda connection: workers.expire(connection, heard)) == [stale]
    assert database.run(reclaim) == 1
    assert finish(database, stale, proposed(old, " too late")).dropped == 1
    new = claim(database, fresh, problem)
    assert [lease.attempt for lease in new] == [2]
    assert finish(database, stale, proposed(old, " too late")).dropped == 1
    assert finish(database, fresh, proposed(new)).dropped == 0


def test_a_lease_that_a_lost_worker_claims_is_reclaimed(database: Database, problem: int) -> None:
    ghost = registered(database)
    database.run(lambda connection: workers.mark_stopped(connection, ghost, "lost"))
    assert len(claim(database, ghost, problem)) == 1
    assert database.run(reclaim) == 1
    assert states(database) == ["pending", "pending"]


def test_a_message_in_the_queue_of_another_model_claims_nothing(database: Database, problem: int) -> None:
    holder = registered(database)
    for teacher in range(2):
        finish(database, holder, proposed(claim(database, holder, problem, teacher), f" text {teacher}"))
    assert claim_scores(database, holder, problem, model=MODELS[1]) == []
    assert database.run(lambda c: c.execute(sa.text("SELECT scoring_mode FROM runs")).scalar_one()) is None
    assert len(claim_scores(database, holder, problem, model=MODELS[0])) == 2


def test_the_leases_of_a_worker_whose_row_was_lost_are_reclaimed(database: Database, problem: int) -> None:
    """A failover to a standby that lags, or a restored dump, can lose the row."""
    ghost = registered(database)
    assert len(claim(database, ghost, problem)) == 1
    database.run(lambda connection: connection.execute(sa.text("DELETE FROM workers")))
    assert database.run(reclaim) == 1
    assert states(database) == ["pending", "pending"]


def test_a_lost_worker_with_a_new_heartbeat_is_no_longer_lost(database: Database, problem: int) -> None:
    late = registered(database)
    database.run(lambda connection: workers.mark_stopped(connection, late, "lost"))
    database.run(lambda connection: workers.write_heartbeat(connection, late))
    claim(database, late, problem)
    assert database.run(reclaim) == 0


def test_a_living_worker_keeps_its_lease_however_long_it_takes(database: Database, problem: int) -> None:
    slow = registered(database)
    claim(database, slow, problem)
    database.run(
        lambda connection: connection.execute(sa.text("UPDATE candidates SET touched_at = now() - interval '1 hour'"))
    )
    heard = database.run(workers.read_heartbeats)
    database.run(lambda connection: workers.write_heartbeat(connection, slow))
    assert database.run(lambda connection: workers.expire(connection, heard)) == []
    assert states(database)[0] == "proposing"


def test_a_run_keeps_to_the_scoring_mode_of_its_first_score(database: Database, problem: int) -> None:
    holder = registered(database)
    finish(database, holder, proposed(claim(database, holder, problem)))
    assert len(claim_scores(database, holder, problem, "one")) == 1
    finish(database, holder, proposed(claim(database, holder, problem, 1)))
    assert claim_scores(database, holder, problem, "other") == []
    assert len(claim_scores(database, holder, problem, "one")) == 1


def test_work_that_keeps_losing_its_worker_parks_its_problem_with_a_reason(database: Database, problem: int) -> None:
    for attempt in range(3):
        assert database.run(sweep.exhausted) == []
        victim = registered(database)
        elsewhere = database.run(
            lambda c, w=victim, exclusive=attempt < 2: propose.claim(
                c, [problem], worker_id=w, model=MODELS[0], exclusive=exclusive
            ),
            single=True,
        )
        assert (elsewhere.leases, elsewhere.held_back) == ([], frozenset({problem}))
        assert claim(database, victim, problem, exclusive=attempt == 2)
        assert database.run(lambda c, w=victim: return_all(c, [w], forgiven=False)) == 1
    parked = database.run(sweep.exhausted)
    assert [item.problem_id for item in parked] == [problem]
    assert "teacher first" in parked[0].reason
    assert "3 attempts" in parked[0].reason


def test_returned_work_does_not_use_up_attempts(database: Database, problem: int) -> None:
    for _ in range(5):
        leaving = registered(database)
        assert [lease.attempt for lease in claim(database, leaving, problem)] == [1]
        database.run(lambda c, w=leaving: return_all(c, [w], forgiven=True))
    assert database.run(sweep.exhausted) == []


def test_nothing_is_claimed_from_a_paused_run(database: Database, problem: int) -> None:
    holder = registered(database)
    database.run(lambda c: c.execute(sa.text("UPDATE runs SET state = 'paused'")))
    assert claim(database, holder, problem) == []
    database.run(lambda c: c.execute(sa.text("UPDATE runs SET state = 'active'")))
    assert len(claim(database, holder, problem)) == 1


def test_a_claim_does_not_wait_for_the_disk_and_a_result_does(database: Database, problem: int) -> None:
    flushing = sa.text("SHOW synchronous_commit")
    holder = registered(database)

    def claims(connection: sa.Connection) -> tuple[list[LeasedProposal], str]:
        claimed = propose.claim(connection, [problem], worker_id=holder, model=MODELS[0])
        return list(claimed.leases), connection.execute(flushing).scalar_one()

    claimed, claiming = database.run(claims)

    def finishes(connection: sa.Connection) -> str:
        propose.finish(connection, proposed(claimed), worker_id=holder)
        return str(connection.execute(flushing).scalar_one())

    assert (len(claimed), claiming, database.run(finishes)) == (1, "off", "on")

    def scores(connection: sa.Connection) -> tuple[int, str]:
        found = score.claim(connection, [problem], worker_id=holder, model=MODELS[0], scoring_mode="one")
        return len(found.leases), connection.execute(flushing).scalar_one()

    assert database.run(scores) == (1, "off")


def test_a_returned_lease_costs_no_attempt_and_only_its_holder_can_return_it(database: Database, problem: int) -> None:
    holder, other = registered(database), registered(database)
    leases = [(lease.candidate_id, lease.attempt) for lease in claim(database, holder, problem)]
    assert {attempt for _, attempt in leases} == {1}
    keys = [key for key, _ in leases]
    stale = [(key, attempt + 1) for key, attempt in leases]
    for giver, given in ((other, leases), (holder, stale)):
        assert database.run(lambda c, w=giver, g=given: return_leases(c, w, PROPOSE, g)) == []
    assert sorted(database.run(lambda c: return_leases(c, holder, PROPOSE, leases))) == sorted(keys)
    assert database.run(lambda c: return_leases(c, holder, PROPOSE, leases)) == []
    again = claim(database, other, problem)
    assert [(lease.candidate_id, lease.attempt) for lease in again] == leases
