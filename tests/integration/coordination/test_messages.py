"""Messages: to which replica and in which order they are sent, and what a lost broker does."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from kombu import Producer

from cord_worker.config import Settings
from cord_worker.coordination.celery.app import create_app
from cord_worker.coordination.messaging.messenger import Messenger
from cord_worker.coordination.messaging.routing import Shards, model_queue, preferred_shard
from cord_worker.store.database import Database
from cord_worker.store.runs.enqueue import ensure_model
from cord_worker.store.schema.kinds import ANSWER, PROPOSE, SCORE
from cord_worker.store.schema.tables import WorkerRole
from cord_worker.store.work import workers
from cord_worker.store.work.values import Due

MODEL = "0123456789abcdef"


class Broker:
    """A messenger, and its messages as a worker gets them."""

    def __init__(self, database: Database, broker_url: str, key_prefix: str) -> None:
        settings = Settings(key_prefix=key_prefix)
        self.app = create_app(broker_url, settings)
        self.messenger = Messenger(self.app, Shards(database))

    def received(self, queue: str) -> list[tuple[str, int]]:
        """(task, problem) of every message of `queue`, as a worker would get them."""
        found = []
        with self.app.connection_for_read() as connection, connection.channel() as channel:
            consumer = self.app.amqp.TaskConsumer(channel, queues=[self.app.amqp.queues[queue]], prefetch_count=1)
            consumer.callbacks = [lambda _, message: found.append(message), lambda _, message: message.ack()]
            with consumer:
                while self.messenger.lengths([queue])[queue]:
                    connection.drain_events(timeout=5)
        return [(message.headers["task"], json.loads(message.body)[1]["problem_id"]) for message in found]


@pytest.fixture
def broker(database: Database, broker_url: str, key_prefix: str) -> Iterator[Broker]:
    broker = Broker(database, broker_url, key_prefix)
    yield broker
    broker.app.close()


def start_replica(database: Database) -> int:
    """Registers a replica of MODEL that takes work; returns its shard."""

    def enter(connection: sa.Connection) -> int | None:
        model_id = ensure_model(connection, MODEL, "somewhere", {})
        worker_id = uuid.uuid4()
        shard = workers.register(connection, worker_id, WorkerRole.MODEL, hostname="here", pid=1, model_id=model_id)
        workers.mark_ready(connection, worker_id)
        return shard

    shard = database.run(enter)
    assert shard is not None
    return shard


def test_scores_come_before_answers_and_answers_before_proposals(broker: Broker) -> None:
    sent = [
        Due(PROPOSE.name, 1, 1, model=MODEL),
        Due(ANSWER.name, 2, 1, model=MODEL),
        Due(SCORE.name, 3, 1, model=MODEL),
        Due(PROPOSE.name, 4, 1, model=MODEL),
        Due(SCORE.name, 5, 1, model=MODEL),
    ]
    broker.messenger.send(sent)
    assert broker.received(model_queue(MODEL, 0)) == [
        ("cord.score", 3),
        ("cord.score", 5),
        ("cord.answer", 2),
        ("cord.propose", 1),
        ("cord.propose", 4),
    ]


def test_every_request_of_a_problem_goes_to_the_replica_it_prefers(broker: Broker, database: Database) -> None:
    shards = tuple(start_replica(database) for _ in range(3))
    assert shards == (0, 1, 2)
    problems = range(1, 31)
    broker.messenger.send(Due(SCORE.name, problem, 1, model=MODEL) for problem in problems)
    broker.messenger.send(Due(PROPOSE.name, problem, 2, model=MODEL) for problem in problems)
    for shard in shards:
        at_home = [problem for problem in problems if preferred_shard(problem, shards) == shard]
        assert at_home
        received = broker.received(model_queue(MODEL, shard))
        assert received == [(task, problem) for task in ("cord.score", "cord.propose") for problem in at_home]


def test_the_lengths_of_queues_count_messages_of_every_urgency(broker: Broker) -> None:
    queue = model_queue(MODEL, 0)
    assert broker.messenger.lengths([queue]) == {queue: 0}
    broker.messenger.send([Due(SCORE.name, 1, 1, model=MODEL), Due(PROPOSE.name, 1, 1, model=MODEL)])
    assert broker.messenger.lengths([queue]) == {queue: 2}
    broker.messenger.discard(queue)
    assert broker.messenger.lengths([queue]) == {queue: 0}


def test_operations_of_a_channel_share_a_client_until_its_connections_are_replaced(
    broker: Broker,
) -> None:
    with broker.app.connection_for_write() as connection, connection.channel() as channel:
        with channel.conn_or_acquire() as one, channel.conn_or_acquire() as other:
            assert one is other
            assert one.ping()
            assert one is not channel.client  # that one waits in BRPOP
        channel._disconnect_pools()
        with channel.conn_or_acquire() as later:
            assert later is not one
            assert later.connection_pool is channel.pool
            assert later.ping()


@pytest.mark.parametrize(
    "use",
    [
        lambda channel: channel._size("coordinator"),
        lambda channel: channel.queue_declare("coordinator"),
        lambda channel: channel.basic_get("coordinator"),
        lambda channel: channel.exchange_declare("events"),
        lambda channel: channel.get_table("events"),
        lambda channel: Producer(channel).publish({}, routing_key="coordinator"),
    ],
)
def test_a_channel_that_another_thread_has_closed_counts_as_a_lost_connection(
    broker: Broker, use: Callable[[Any], Any]
) -> None:
    with broker.app.connection_for_write() as connection:
        channel = connection.channel()
        use(channel)
        channel.close()
        with pytest.raises(connection.connection_errors):
            use(channel)
        channel.close()
