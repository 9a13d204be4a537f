"""Spending limits in the tables: when a run is paused, and what continues it."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
import sqlalchemy as sa

from cord_worker.config import Prices, RunConfig
from cord_worker.coordination.coordinator.spending_limits import SpendingLimits
from cord_worker.errors import ConfigError, RunConflict
from cord_worker.store.database import Database
from cord_worker.store.runs.enqueue import enqueue
from cord_worker.store.runs.lifecycle import pause_run, resume_run
from cord_worker.store.runs.runs import RunRow, resolve_run
from cord_worker.store.runs.spending import NewLimits, limited_runs, pause_if_limit_reached, read_spending
from tests.support.leases import CONFIG, write_text
from tests.support.rows import registered

PRICES = Prices.model_validate(
    {
        "currency": "EUR",
        "models": {"m": {"input": 1e5, "output": 1e6}, "n": {"input": 0, "output": 0, "gpu_hour": 36.0, "gpus": 2}},
    }
)


@pytest.fixture
def worker(database: Database) -> uuid.UUID:
    return registered(database)


def run_of(database: Database) -> RunRow:
    return database.run(lambda connection: resolve_run(connection, "run"))


def limit(database: Database, **values: Any) -> None:
    database.run(lambda connection: NewLimits(**values).set(connection, resolve_run(connection, "run")))


def pause(database: Database) -> RunRow | None:
    return database.run(lambda connection: pause_if_limit_reached(connection, run_of(database).id))


def again(database: Database, **options: Any) -> RunRow:
    """Enqueues an empty dataset into the run, with these options of [run]."""
    document = CONFIG.model_dump(mode="json")
    config = RunConfig.model_validate(document | {"run": document["run"] | options})
    database.run(lambda connection: enqueue(connection, "run", config, []))
    return run_of(database)


def test_a_run_is_paused_once_its_tokens_reach_the_limit(database: Database, problem: int, worker: uuid.UUID) -> None:
    assert database.run(limited_runs) == []
    limit(database, max_tokens=10)
    assert database.run(limited_runs) == [run_of(database).id]
    write_text(database, worker, problem, 0, " 1 + 1 = 2.")
    assert pause(database) is None
    write_text(database, worker, problem, 1, " It is 2.")
    paused = pause(database)
    assert paused == run_of(database)
    assert (paused.state, paused.pause_reason) == (
        "paused",
        "10 generated tokens, of at most 10 (run.max_tokens)",
    )
    assert database.run(limited_runs) == []
    assert pause(database) is None


def test_the_cost_of_a_run_is_that_of_its_tokens_and_gpu_hours(
    database: Database, problem: int, worker: uuid.UUID
) -> None:
    limit(database, max_cost=8.1, prices=PRICES)
    for teacher in (0, 1):
        write_text(database, worker, problem, teacher, " 1 + 1 = 2.")
    spending = database.run(lambda connection: read_spending(connection, run_of(database)))
    # Model m read 10 tokens and generated 5; model n had a request of 0.1 s on 2 GPUs.
    assert spending.cost == pytest.approx(1.0 + 5.0 + 0.1 / 3600 * 2 * 36.0)
    assert pause(database) is None
    limit(database, max_cost=6.0)
    paused = pause(database)
    assert paused is not None
    assert paused.pause_reason == "6.00 EUR spent, of at most 6.00 EUR (run.max_cost)"


def test_a_paused_run_continues_with_a_higher_limit_only(database: Database, problem: int, worker: uuid.UUID) -> None:
    limit(database, max_tokens=1)
    write_text(database, worker, problem, 0, " 1 + 1 = 2.")
    assert pause(database) is not None
    for limits in (NewLimits(), NewLimits(max_tokens=5)):
        with pytest.raises(RunConflict, match=r"Continue it with a higher limit: cordctl resume run --max-tokens N"):
            database.run(lambda connection, limits=limits: resume_run(connection, "run", limits))
    with pytest.raises(ConfigError, match="give --prices FILE"):
        database.run(lambda connection: resume_run(connection, "run", NewLimits(max_tokens="none", max_cost=1.0)))
    wrong = PRICES.model_copy(update={"models": {"m": PRICES.models["m"]}})
    with pytest.raises(ConfigError, match="run run: no price for n"):
        database.run(lambda connection: resume_run(connection, "run", NewLimits(max_tokens="none", prices=wrong)))
    assert (run_of(database).state, run_of(database).max_tokens) == ("paused", 1)
    assert database.run(lambda connection: resume_run(connection, "run", NewLimits(max_tokens=6)))
    assert (run_of(database).state, run_of(database).pause_reason, run_of(database).max_tokens) == ("active", None, 6)
    assert pause(database) is None


def test_another_limit_in_the_file_continues_a_run_that_its_limit_paused(
    database: Database, problem: int, worker: uuid.UUID
) -> None:
    assert again(database, max_tokens=1).max_tokens == 1
    write_text(database, worker, problem, 0, " 1 + 1 = 2.")
    assert pause(database) is not None
    assert again(database, max_tokens=1).state == "paused"
    continued = again(database, max_tokens=6)
    assert (continued.state, continued.pause_reason, continued.max_tokens) == ("active", None, 6)
    database.run(lambda connection: resume_run(connection, "run", NewLimits(max_tokens=7)))
    assert again(database, max_tokens=6).max_tokens == 7
    database.run(lambda connection: pause_run(connection, "run"))
    assert again(database, max_tokens=8).state == "paused"


@pytest.mark.usefixtures("problem")
def test_a_limit_that_cannot_be_checked_pauses_the_run(database: Database) -> None:
    limit(database, max_cost=1.0, prices=PRICES)
    database.run(lambda c: c.execute(sa.text("UPDATE runs SET prices = jsonb_set(prices, '{models,n,output}', '-1')")))
    paused = pause(database)
    assert paused is not None
    assert "its spending limit cannot be checked: the stored prices: models.n.output" in str(paused.pause_reason)
    with pytest.raises(ConfigError):
        database.run(lambda connection: resume_run(connection, "run"))
    database.run(lambda connection: resume_run(connection, "run", NewLimits(prices=PRICES)))
    assert run_of(database).state == "active"


def test_limits_are_checked_again_only_after_twenty_times_the_length_of_a_check(
    database: Database, problem: int, worker: uuid.UUID
) -> None:
    limit(database, max_tokens=1)
    # For each check: whether it is due, its beginning, its end. The first one takes 1 s.
    ticks = iter([0.0, 0.0, 1.0, 20.9, 21.0, 21.0, 21.0])
    limits = SpendingLimits(lambda: next(ticks))
    limits.check(database)
    write_text(database, worker, problem, 0, " 1 + 1 = 2.")
    limits.check(database)
    assert run_of(database).state == "active"
    limits.check(database)
    assert run_of(database).state == "paused"
