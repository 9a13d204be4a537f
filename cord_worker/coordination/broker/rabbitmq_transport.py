"""Kombu's RabbitMQ transport, made to bear a queue that others declared and messages that others compressed.

Written against kombu 5.6.2, used with 5.7.0 too. It can go when kombu takes a queue as it is, and can be told to unpack
nothing (`tests/integration/coordination/test_rabbitmq.py`).
"""

from __future__ import annotations

import logging
from typing import Any

from amqp import PreconditionFailed
from kombu.transport import TRANSPORT_ALIASES, _transport_cache, pyamqp

from cord_worker.coordination.log_once import Said

logger = logging.getLogger(__name__)

_said = Said(logger)


class Channel(pyamqp.Channel):  # type: ignore[misc]
    """A channel that uses an existing queue as it is, even if that was declared with other arguments."""

    def queue_declare(self, queue: str = "", passive: bool = False, **options: Any) -> Any:
        """Declares a queue. RabbitMQ closes a channel that declares an existing queue with other arguments, so the
        declaration is tried on another channel."""
        if passive or options.get("exclusive"):
            return super().queue_declare(queue, passive=passive, **options)
        with self.connection.channel() as trial:
            try:
                return super(Channel, trial).queue_declare(queue, **options)
            except PreconditionFailed as error:
                _said.say(
                    f"declared {queue}",
                    f"the queue {queue!r} has other arguments than ours and is used as it is ({error.reply_text}). To "
                    "have a quorum queue: rabbitmqctl delete_queue",
                )
        return super().queue_declare(queue, passive=True)

    def message_to_python(self, raw_message: Any) -> Any:
        """Kombu's message, never decompressed: this application compresses nothing."""
        raw_message.properties.get("application_headers", {}).pop("compression", None)
        return super().message_to_python(raw_message)


class Connection(pyamqp.Connection):  # type: ignore[misc]
    """A connection whose channels are `Channel`."""

    Channel = Channel


class Transport(pyamqp.Transport):  # type: ignore[misc]
    """RabbitMQ over `Connection`."""

    Connection = Connection


class EncryptedTransport(pyamqp.SSLTransport):  # type: ignore[misc]
    """`Transport` with TLS."""

    Connection = Connection


def register() -> None:
    """Makes every RabbitMQ URL of this process use this transport."""
    for scheme, transport in (("amqp", Transport), ("amqps", EncryptedTransport)):
        TRANSPORT_ALIASES[scheme] = f"{__name__}:{transport.__name__}"
        _transport_cache.pop(scheme, None)
