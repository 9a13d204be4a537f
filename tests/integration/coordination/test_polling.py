"""A Redis consumer continues to ask for messages after another connection of its channel was lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import kombu
import pytest
import redis
from kombu import Connection, Queue
from kombu.asynchronous.hub import Hub
from kombu.transport import redis as kombu_redis

from cord_worker.coordination.broker.redis_transport import RedisChannel, RedisTransport

QUEUE = "model.polling"


class Consumer:
    """One queue consumed by an event loop, as Celery does it; `received` holds the bodies."""

    def __init__(self, url: str, prefix: str, transport: type[kombu_redis.Transport]) -> None:
        self.received: list[object] = []
        self.options = {"global_keyprefix": prefix}
        self.connection = Connection(url, transport=transport, transport_options=self.options)
        self.hub = Hub()
        self.connection.transport.register_with_event_loop(self.connection.connection, self.hub)
        self.channel = self.connection.channel()
        consumer = self.connection.Consumer(Queue(QUEUE), channel=self.channel, callbacks=[self._receive])
        consumer.consume()
        self.loop = self.hub.create_loop()
        self.hub.call_repeatedly(0.05, lambda: None)

    def _receive(self, body: object, message: object) -> None:
        self.received.append(body)
        message.ack()  # type: ignore[attr-defined]

    def publish(self, url: str, body: str) -> None:
        with Connection(url, transport=RedisTransport, transport_options=self.options) as connection:
            connection.Producer().publish(body, routing_key=QUEUE, serializer="json")

    def turn(self, until: Callable[[], bool], most: int = 400) -> bool:
        """Turns the loop until the condition holds, at most `most` times; returns whether it holds."""
        for _ in range(most):
            if until():
                return True
            next(self.loop)
        return until()


@pytest.fixture
def consumer(broker_url: str, key_prefix: str) -> Iterator[Consumer]:
    made = Consumer(broker_url, key_prefix, RedisTransport)
    yield made
    made.connection.collect()


def lose_a_connection(consumer: Consumer) -> None:
    """Closes a connection of the pool whose connections wait for messages and broadcasts. The same happens if Redis
    restarts while one of them is being opened, and the second attempt succeeds."""
    pool = consumer.channel.async_pool
    lost = pool.get_connection()
    lost.disconnect()
    pool.release(lost)


def test_messages_arrive_after_another_connection_of_the_channel_was_lost(consumer: Consumer, broker_url: str) -> None:
    consumer.publish(broker_url, "first")
    assert consumer.turn(lambda: consumer.received == ["first"])
    lose_a_connection(consumer)
    for number in range(3):
        consumer.publish(broker_url, str(number))
        assert consumer.turn(lambda: consumer.received[-1:] == [str(number)])  # noqa: B023 - called at once


def test_kombus_own_transport_stops_asking_for_messages_before_5_7(broker_url: str, key_prefix: str) -> None:
    """Delete `RedisTransport.register_with_event_loop` when kombu 5.6 is no longer supported."""
    is_needed = kombu.VERSION[:2] < (5, 7)
    consumer = Consumer(broker_url, key_prefix, kombu_redis.Transport)
    consumer.publish(broker_url, "first")
    assert consumer.turn(lambda: consumer.received == ["first"])
    lose_a_connection(consumer)
    consumer.turn(lambda: False, most=3)
    consumer.publish(broker_url, "second")
    consumer.turn(lambda: False, most=3)
    consumer.publish(broker_url, "third")
    assert consumer.turn(lambda: "third" in consumer.received, most=20 if is_needed else 400) is not is_needed
    consumer.connection.collect()


def test_a_deaf_channel_counts_as_a_lost_connection(consumer: Consumer, broker_url: str) -> None:
    consumer.publish(broker_url, "first")
    assert consumer.turn(lambda: consumer.received == ["first"])
    transport = consumer.connection.transport
    deaf: dict[RedisChannel, int] = {}
    consumer.turn(lambda: bool(consumer.channel._in_poll))
    transport.ensure_polling(deaf)
    assert deaf == {}
    consumer.hub.on_tick.clear()  # nothing asks for messages after the poll that is under way
    consumer.publish(broker_url, "second")
    assert consumer.turn(lambda: len(consumer.received) == 2)
    transport.ensure_polling(deaf)
    with pytest.raises(redis.ConnectionError, match="no messages were asked for"):
        transport.ensure_polling(deaf)


def test_a_channel_whose_worker_is_busy_is_not_deaf(consumer: Consumer, broker_url: str) -> None:
    consumer.publish(broker_url, "first")
    assert consumer.turn(lambda: consumer.received == ["first"])
    assert not consumer.channel._in_poll
    assert consumer.channel.is_deaf
    consumer.channel.qos.prefetch_count = 1
    consumer.channel.qos._delivered["x"] = "unacknowledged"
    assert not consumer.channel.is_deaf


def test_a_busy_channel_is_not_lost_though_it_is_deaf_at_every_check(consumer: Consumer, broker_url: str) -> None:
    transport = consumer.connection.transport
    deaf: dict[RedisChannel, int] = {}
    # Every check comes between two messages, but there were polls since the last check.
    for number in range(3):
        consumer.publish(broker_url, str(number))
        assert consumer.turn(lambda: consumer.received[-1:] == [str(number)])  # noqa: B023 - called at once
        assert consumer.channel.is_deaf
        transport.ensure_polling(deaf)
