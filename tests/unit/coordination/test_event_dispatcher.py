"""Celery's events, sent by many threads at once, all arrive."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from celery.events.event import get_exchange
from kombu import Queue

from cord_worker.config import Settings
from cord_worker.coordination.celery.app import create_app

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
