"""The sweep: the work that it sends again or waits for, and the coordinator that leads it."""

from __future__ import annotations

import time

import pytest
import sqlalchemy as sa

from cord_worker.errors import StoreError
from cord_worker.store.database import Database
from cord_worker.store.runs import lifecycle
from cord_worker.store.schema.kinds import PROPOSE
from cord_worker.store.work import sweep
from cord_worker.store.work.values import Due
from tests.support.leases import CONFIG, MODELS, claim
from tests.support.rows import registered


def test_owed_work_is_sent_even_if_the_clock_was_set_back(database: Database, problem: int) -> None:
    assert owed(database) == []
    database.run(
        lambda connection: connection.execute(sa.text("UPDATE candidates SET touched_at = now() + interval '1 hour'"))
    )
    assert [due.problem_id for due in owed(database)] == [problem, problem]


def owed(database: Database) -> list[Due]:
    model = "SELECT fingerprint FROM models"

    def due(connection: sa.Connection) -> list[Due]:
        models = list(connection.execute(sa.text(model)).scalars())
        return sweep.due_model_work(connection, models, 20.0)

    return database.run(due)


def test_unclaimed_work_is_owed_again_after_a_while_and_marked_as_sent(database: Database, problem: int) -> None:
    model = CONFIG.models["m"].fingerprint()
    assert database.run(lambda c: sweep.due_model_work(c, [model], 20.0)) == []
    database.run(lambda c: c.execute(sa.text("UPDATE candidates SET touched_at = now() - interval '30 seconds'")))
    owed = database.run(lambda c: sweep.due_model_work(c, [model], 20.0))
    assert [(due.kind, due.problem_id, due.model) for due in owed] == [(PROPOSE.name, problem, model)]
    assert database.run(lambda c: sweep.due_model_work(c, [model], 20.0)) == []


def test_work_of_a_paused_or_cancelled_run_is_not_waited_for(database: Database, problem: int) -> None:
    assert database.run(sweep.waiting_messages) == dict.fromkeys(MODELS, 1)
    database.run(lambda c: c.execute(sa.text("UPDATE runs SET state = 'paused'")))
    assert database.run(sweep.waiting_messages) == {}
    database.run(lambda c: lifecycle.resume_run(c, "run"))
    assert database.run(lambda c: lifecycle.cancel_run(c, "run")) == 1
    assert claim(database, registered(database), problem) == []
    assert database.run(sweep.waiting_messages) == {}


def test_the_lead_ends_with_its_transaction(database: Database) -> None:
    with database.transaction() as first, database.transaction() as second:
        assert sweep.try_lead(first, 60)
        assert sweep.try_lead(first, 60)
        assert not sweep.try_lead(second, 60)
    with database.transaction() as second:
        assert sweep.try_lead(second, 60)


@pytest.mark.parametrize("fault", ["dies", "hangs"])
def test_a_leader_that_dies_or_hangs_is_replaced_by_another(database: Database, fault: str) -> None:
    def lead_until_another_does(second: sa.Connection) -> None:
        with database.transaction() as first:
            assert sweep.try_lead(first, 0.2 if fault == "hangs" else 60)
            if fault == "dies":
                process = first.execute(sa.text("SELECT pg_backend_pid()")).scalar_one()
                second.execute(sa.text("SELECT pg_terminate_backend(:process)"), {"process": process})
            deadline = time.monotonic() + 60.0
            while not sweep.try_lead(second, 60):
                assert time.monotonic() < deadline, "a leader that has ended must be replaced"
                time.sleep(0.02)

    with database.transaction() as second:
        with pytest.raises(StoreError):
            lead_until_another_does(second)
        assert sweep.try_lead(second, 60)
