"""RabbitMQ as the doorbell: quorum queues, and nothing that this application does not use.

Celery declares some sixty exchanges and queues for messages that are to be delivered later as soon as it sees a quorum
queue; no message here is.
"""

from __future__ import annotations

from celery.worker import consumer


class Consumer(consumer.Consumer):  # type: ignore[misc]
    """Celery's consumer without delayed delivery."""

    class Blueprint(consumer.Consumer.Blueprint):  # type: ignore[misc]
        """Its steps."""

        default_steps = tuple(
            step for step in consumer.Consumer.Blueprint.default_steps if "delayed_delivery" not in str(step)
        )
