"""Celery's events: sent by many threads at once they all arrive, and none waits for its broker."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread

import redis
from celery.events.event import get_exchange
from kombu import Queue

from cord_worker.config import Settings
from cord_worker.coordination.celery.app import create_app
from tests.support.redis_server import private_redis

THREADS = 8
EACH = 500


def test_events_of_many_threads_are_neither_lost_nor_doubled() -> None:
    app = create_app("memory://", Settings())
    with app.connection_for_write() as connection, connection.channel() as channel:
        exchange = get_exchange(connection, name=app.conf.event_exchange)
        observed = Queue("observed", exchange=exchange, routing_key="#")(channel)
        observed.declare()
        with app.events.Dispatcher(connection, hostname="here", buffer_group={"task"}) as dispatcher:

            def send(thread: int) -> None:
                for number in range(EACH):
                    dispatcher.send("task-started", uuid=f"{thread}-{number}")

            with ThreadPoolExecutor(THREADS) as pool:
                sending = [pool.submit(send, thread) for thread in range(THREADS)]
                while not all(one.done() for one in sending):
                    dispatcher.flush()
            dispatcher.flush()
        arrived: Counter[str] = Counter()
        while (message := observed.get()) is not None:
            arrived.update(event["uuid"] for event in message.decode())
            message.ack()
    assert arrived == Counter(f"{thread}-{number}" for thread in range(THREADS) for number in range(EACH))


def test_an_event_does_not_wait_for_a_broker_that_has_ended() -> None:
    """As Celery's `Heart` sends it, in the consumer's thread; it is kept, and sent once the broker is back."""
    with TemporaryDirectory(prefix="cord-redis-") as folder, private_redis(Path(folder)) as server:
        app = create_app(server.url, Settings())
        with app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=0)
            dispatcher = app.events.Dispatcher(connection, hostname="here")
            server.stop()
            sender = Thread(target=lambda: dispatcher.send("worker-online", retry=True), daemon=True)
            sender.start()
            sender.join(60)
            assert not sender.is_alive()
            server.start()
            with redis.Redis(unix_socket_path=str(server.socket_path)).pubsub() as observer:
                observer.psubscribe("*")
                assert observer.get_message(timeout=60) is not None  # it is subscribed
                dispatcher.flush()
                message = observer.get_message(timeout=60)
            assert message is not None
            assert b"worker.online" in message["data"]
        app.close()
