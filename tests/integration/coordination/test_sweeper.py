"""The sweeper with a slow broker still declares silent workers lost."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Iterable, Mapping

import pytest
import sqlalchemy as sa

from cord_worker.config import Settings
from cord_worker.coordination.coordinator import sweeper as sweeping
from cord_worker.coordination.coordinator.sweeper import Sweeper
from cord_worker.coordination.messaging.messenger import Messenger
from cord_worker.coordination.messaging.routing import Shards
from cord_worker.errors import BrokerError
from cord_worker.store.database import Database
from cord_worker.store.schema.tables import WorkerRole
from cord_worker.store.work import workers
from cord_worker.store.work.values import Due
from tests.support.leases import planned_problem

_LEAD_SECONDS = 0.5
_SETTINGS = Settings(worker_timeout_seconds=3.0, sweep_seconds=0.1)


class SlowBroker(Messenger):
    """Each call lasts until `hold` returns."""

    def __init__(self, hold: Callable[[], None]) -> None:
        self.hold = hold
        self.rounds = 0

    def exchange_owner(self, owner: str) -> str | None:
        self.hold()
        return owner

    def lengths(self, queues: Iterable[str]) -> Mapping[str, int]:
        return dict.fromkeys(queues, 1)

    def discard(self, queue: str) -> None:
        pass

    def send(self, messages: Iterable[Due], *, queue: str | None = None) -> bool:  # noqa: ARG002 - as it is called
        self.rounds += 1
        return True


class Place:
    """A database with one silent worker."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.worker = uuid.uuid4()
        database.run(
            lambda connection: workers.register(
                connection, self.worker, WorkerRole.COORDINATOR, hostname="here", pid=1, model_id=None
            )
        )

    def ask(self, statement: str) -> object:
        return self.database.run(lambda connection: connection.execute(sa.text(statement)).scalar())

    def lead(self) -> object:
        """Process of PostgreSQL whose transaction leads."""
        return self.ask(
            "SELECT l.pid FROM pg_locks l JOIN pg_stat_activity a USING (pid) "
            "WHERE l.locktype = 'advisory' AND a.datname = current_database()"
        )

    def is_lost(self) -> bool:
        return self.ask("SELECT stop_reason FROM workers") == "lost"


@pytest.fixture
def place(database: Database, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr(sweeping, "_LEAD_SECONDS", _LEAD_SECONDS)
    return Place(database)


def wait_for(condition: Callable[[], object], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_silent_worker_is_declared_lost_even_if_every_sweep_outlasts_the_lead(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    """Each round waits for the broker until PostgreSQL has ended the leader's transaction."""
    broker = SlowBroker(lambda: wait_for(lambda: place.lead() is None))
    with caplog.at_level(logging.WARNING), Sweeper(place.database, broker, Shards(place.database), _SETTINGS):
        wait_for(place.is_lost)
    said = [record.getMessage() for record in caplog.records]
    assert broker.rounds > 1, "a round that lost its lead is finished"
    assert sum("lost its lead within a round" in text for text in said) == 1
    assert not [text for text in said if "interrupted" in text or "CORD_DATABASE_URL" in text]


def test_a_leader_whose_steps_are_slow_keeps_its_lead(place: Place) -> None:
    """A round takes longer than a lead may be silent, but each of its steps takes less."""
    leads: list[object] = []

    class ManySteps(SlowBroker):
        def lengths(self, queues: Iterable[str]) -> Mapping[str, int]:
            leads.append(place.lead())
            time.sleep(0.6 * seconds)
            return super().lengths(queues)

        def send(self, messages: Iterable[Due], *, queue: str | None = None) -> bool:  # noqa: ARG002 - as it is called
            leads.append(place.lead())
            return super().send(messages)

    seconds = max(_LEAD_SECONDS, 3 * _SETTINGS.sweep_seconds)
    broker = ManySteps(lambda: time.sleep(0.6 * seconds))
    with Sweeper(place.database, broker, Shards(place.database), _SETTINGS):
        wait_for(lambda: broker.rounds)
    first, second = leads[:2]
    assert first is not None
    assert first == second


def test_once_the_broker_is_back_what_is_owed_is_sent_at_once(place: Place) -> None:
    """Work whose message was sent a moment before the broker lost it does not wait for `resend_seconds`."""
    problem = planned_problem(place.database)
    sent: list[Due] = []

    class AwayOnce(SlowBroker):
        is_away, takes = True, False

        def lengths(self, queues: Iterable[str]) -> Mapping[str, int]:
            if self.is_away:
                self.is_away = False
                raise BrokerError("away")
            return dict.fromkeys(queues, 0)

        def send(self, messages: Iterable[Due], *, queue: str | None = None) -> bool:
            super().send(messages, queue=queue)
            taken, self.takes = self.takes, True
            if taken:
                sent.extend(messages)
            return taken

    broker = AwayOnce(lambda: None)
    never = _SETTINGS.model_copy(update={"resend_seconds": 1e6})
    with Sweeper(place.database, broker, Shards(place.database), never):
        wait_for(lambda: sent)
        rounds = broker.rounds
        wait_for(lambda: broker.rounds > rounds + 2)
    assert {due.problem_id for due in sent} == {problem}
    assert len(sent) == len(set(sent)), "once it was sent, it is not sent again before its time"


def test_a_broker_of_another_database_is_named_and_everything_owed_is_sent_at_once(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    problem = planned_problem(place.database)
    sent: list[Due] = []

    class Shared(SlowBroker):
        def exchange_owner(self, owner: str) -> str | None:
            return f"not {owner}"

        def lengths(self, queues: Iterable[str]) -> Mapping[str, int]:
            return dict.fromkeys(queues, 0)

        def send(self, messages: Iterable[Due], *, queue: str | None = None) -> bool:
            sent.extend(messages)
            return super().send(messages, queue=queue)

    never = _SETTINGS.model_copy(update={"resend_seconds": 1e6})
    broker = Shared(lambda: None)
    with caplog.at_level(logging.WARNING), Sweeper(place.database, broker, Shards(place.database), never):
        wait_for(lambda: sent)
        wait_for(lambda: broker.rounds > 2)
    assert {due.problem_id for due in sent} == {problem}
    assert sum("another CORD_KEY_PREFIX" in record.getMessage() for record in caplog.records) == 1


def test_one_of_two_sweepers_says_that_it_leads_and_the_other_takes_over(place: Place) -> None:
    broker = SlowBroker(lambda: None)
    shards = Shards(place.database)
    with Sweeper(place.database, broker, shards, _SETTINGS) as second:
        with Sweeper(place.database, broker, shards, _SETTINGS) as first:
            before = broker.rounds
            wait_for(lambda: broker.rounds > before + 3 and first.leads != second.leads)
        wait_for(lambda: second.leads)
