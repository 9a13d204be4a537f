"""Kombu's Redis transport with one client object a channel.

Kombu 5.6 makes a new client for every acknowledgement, every message and every look at a queue, and redis-py fills
two tables of a few hundred entries each time: a fifth of what a message costs. Clients share their channel's pool of
connections anyway, and may be used from several threads.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kombu.transport import TRANSPORT_ALIASES
from kombu.transport import redis as kombu_redis


class Channel(kombu_redis.Channel):  # type: ignore[misc]
    """A channel whose operations share a client for as long as their pool of connections is the same."""

    _shared: tuple[Any, Any] = (None, None)

    @contextmanager
    def conn_or_acquire(self, client: Any = None) -> Iterator[Any]:
        """`client`, or the shared one."""
        if client:
            yield client
            return
        pool, shared = self._shared
        if pool is not self.pool:
            pool, shared = self._shared = (self.pool, self._create_client())
        yield shared


class Transport(kombu_redis.Transport):  # type: ignore[misc]
    """Redis with this channel."""

    Channel = Channel


def register() -> None:
    """Has every Redis URL of this process (also over TLS or a socket) open connections of this transport."""
    for scheme in ("redis", "rediss"):
        TRANSPORT_ALIASES[scheme] = f"{__name__}:{Transport.__name__}"
