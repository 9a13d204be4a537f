"""Redis or Valkey with Sentinel as the broker: every connection asks the sentinels which server is the primary.

Kombu has a transport of this name, which keeps a pool of its own kind; it would lack all that `redis_transport` mends.
Here only the way to the server differs. A primary that was demoted refuses to write (READONLY), which counts as a lost
connection there, so the next one goes to the new primary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import redis
from kombu.transport import TRANSPORT_ALIASES, _transport_cache

from cord_worker.coordination.broker.redis_transport import RedisChannel, RedisTransport
from cord_worker.service_url_checks import SentinelPath, sentinel_path

_SECONDS = 2.0
"""A sentinel that does not answer within this time is passed over."""


def find_primary(sentinels: Sequence[tuple[str, int]], name: str) -> tuple[str, int]:
    """Host and port of the primary called `name`, as the first sentinel that answers knows it.

    Raises redis.ConnectionError if none answers, or if they know no such primary.
    """
    reasons = []
    for host, port in sentinels:
        try:
            with redis.Redis(
                host=host, port=port, socket_timeout=_SECONDS, socket_connect_timeout=_SECONDS
            ) as sentinel:
                found = sentinel.execute_command("SENTINEL GET-MASTER-ADDR-BY-NAME", name)
        except (redis.RedisError, OSError) as error:
            reasons.append(f"{host}:{port}: {error}")
            continue
        if found is not None:
            return found[0].decode(), int(found[1])
        reasons.append(f"{host}:{port} knows no primary called {name!r}")
    raise redis.ConnectionError(f"no sentinel names the primary {name!r} ({'; '.join(reasons)})")


class PrimaryConnection(redis.Connection):
    """A connection that goes to the present primary, whichever server that is."""

    def __init__(
        self, *, sentinels: Sequence[tuple[str, int]], primary: str, health_check_interval: float = 0, **options: Any
    ) -> None:
        super().__init__(health_check_interval=health_check_interval, **options)  # type: ignore[no-untyped-call]
        self._sentinels = sentinels
        self._primary = primary

    def _connect(self) -> Any:
        self.host, self.port = find_primary(self._sentinels, self._primary)
        return super()._connect()  # type: ignore[no-untyped-call]


class SentinelChannel(RedisChannel):
    """`RedisChannel` over `PrimaryConnection`."""

    connection_class = PrimaryConnection

    @property
    def _path(self) -> SentinelPath:
        return sentinel_path(str(self.connection.client.virtual_host))

    def _prepare_virtual_host(self, vhost: Any) -> int:
        return sentinel_path(str(vhost)).database

    def _connparams(self, *arguments: Any, **options: Any) -> dict[str, Any]:
        parameters = super()._connparams(*arguments, **options)
        path = self._path
        first = (parameters["host"], int(parameters["port"]))
        return {**parameters, "sentinels": (first, *path.more_sentinels), "primary": path.primary}


class SentinelTransport(RedisTransport):
    """Redis with Sentinel, over `SentinelChannel`."""

    Channel = SentinelChannel
    default_port = 26379


def register() -> None:
    """Makes every sentinel URL of this process use this transport."""
    TRANSPORT_ALIASES["sentinel"] = f"{__name__}:{SentinelTransport.__name__}"
    _transport_cache.pop("sentinel", None)
