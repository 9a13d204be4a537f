"""Kombu's RabbitMQ transport, changed so that it uses existing queues as they are and never decompresses a message.

Written against kombu 5.6.2, used with 5.7.0 too. Remove it when kombu accepts an existing queue as it is, and has an
option against decompression (`tests/integration/coordination/test_rabbitmq.py`).
"""

from __future__ import annotations

import logging
from typing import Any

from amqp import PreconditionFailed
from kombu.transport import TRANSPORT_ALIASES, _transport_cache, pyamqp

from cord_worker.coordination.log_once import LogOnce

logger = logging.getLogger(__name__)

_log_once = LogOnce(logger)


class RabbitMqChannel(pyamqp.Channel):  # type: ignore[misc]
    """A channel that uses an existing queue as it is, even if the queue was declared with other arguments."""

    def queue_declare(self, queue: str = "", passive: bool = False, **options: Any) -> Any:
        """Declares a queue. RabbitMQ closes a channel that declares an existing queue with other arguments, so this
        tries the declaration on another channel."""
        if passive or options.get("exclusive"):
            return super().queue_declare(queue, passive=passive, **options)
        with self.connection.channel() as trial:
            try:
                return super(RabbitMqChannel, trial).queue_declare(queue, **options)
            except PreconditionFailed as error:
                _log_once.log(
                    f"declared {queue}",
                    f"the queue {queue!r} has other arguments than ours and is used as it is ({error.reply_text}). To "
                    "have a quorum queue: rabbitmqctl delete_queue",
                )
        return super().queue_declare(queue, passive=True)

    def message_to_python(self, raw_message: Any) -> Any:
        """Kombu's message, never decompressed: this application compresses nothing."""
        raw_message.properties.get("application_headers", {}).pop("compression", None)
        return super().message_to_python(raw_message)


class RabbitMqConnection(pyamqp.Connection):  # type: ignore[misc]
    """A connection whose channels are `RabbitMqChannel`."""

    Channel = RabbitMqChannel


class RabbitMqTransport(pyamqp.Transport):  # type: ignore[misc]
    """RabbitMQ over `RabbitMqConnection`."""

    Connection = RabbitMqConnection


class RabbitMqTlsTransport(pyamqp.SSLTransport):  # type: ignore[misc]
    """`RabbitMqTransport` with TLS."""

    Connection = RabbitMqConnection


def register() -> None:
    """Makes every RabbitMQ URL of this process use this transport."""
    for scheme, transport in (("amqp", RabbitMqTransport), ("amqps", RabbitMqTlsTransport)):
        TRANSPORT_ALIASES[scheme] = f"{__name__}:{transport.__name__}"
        _transport_cache.pop(scheme, None)
