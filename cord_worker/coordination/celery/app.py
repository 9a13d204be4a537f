"""The Celery application: settings that make it safe to lose, double or delay a message.

The broker (Redis or RabbitMQ) carries hints only. Results are ignored, acknowledgements are late, everything is JSON,
and recovery comes from the sweeper, never from the broker's redelivery.
"""

from __future__ import annotations

from typing import Any

from celery import Celery

from cord_worker.config import Settings
from cord_worker.coordination.broker import rabbitmq_transport, redis_transport, sentinel_transport
from cord_worker.coordination.celery import consumer, tasks
from cord_worker.coordination.celery.event_dispatcher import set_event_dispatcher
from cord_worker.coordination.celery.wakeup import wake_on_acknowledge
from cord_worker.service_url_checks import is_amqp
from cord_worker.store.schema import kinds


def create_app(broker_url: str, settings: Settings) -> Celery:
    """A configured application with all tasks registered."""
    redis_transport.register()
    sentinel_transport.register()
    rabbitmq_transport.register()
    app = Celery("cord", broker=broker_url)
    app.conf.update(
        task_serializer="json",
        result_serializer="json",
        event_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_send_task_events=False,  # Flower switches them on, for as long as workers and broker stay connected
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_consumer=f"{consumer.__name__}:{consumer.Consumer.__name__}",
        broker_transport_options=_transport_options(broker_url, settings),
        task_publish_retry_policy={
            "max_retries": 5,
            "interval_start": 0.2,
            "interval_step": 0.5,
            "interval_max": 2.0,
        },
    )
    if is_amqp(broker_url):
        app.conf.update(
            task_default_queue_type="quorum",
            task_create_missing_queue_type="quorum",
            # Newer RabbitMQ requires that a queue is durable or exclusive.
            control_queue_exclusive=True,
            event_queue_exclusive=True,
            cord_queue_prefix=settings.key_prefix,
        )
    wake_on_acknowledge(app, in_loop=is_amqp(broker_url))
    set_event_dispatcher(app)
    tasks.register(app)
    return app


def _transport_options(broker_url: str, settings: Settings) -> dict[str, Any]:
    if is_amqp(broker_url):
        return {"confirm_publish": True, "write_timeout": 10}
    options: dict[str, Any] = {
        "ack_emulation": False,  # the tables know the unfinished work
        "global_keyprefix": settings.key_prefix,
        "priority_steps": sorted({0, *(kind.urgency for kind in kinds.KINDS)}),
        "socket_timeout": 30,
        "socket_connect_timeout": 5,
        "health_check_interval": 10,
    }
    if not broker_url.startswith("redis+socket"):
        options["socket_keepalive"] = True
    return options
