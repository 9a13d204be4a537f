"""Checks whether the broker of CORD_BROKER_URL can be used, and explains why not. No message repeats a password."""

from __future__ import annotations

import re
import socket
import ssl
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

import amqp
import redis
from kombu import Connection
from kombu.exceptions import OperationalError
from redis.exceptions import ClusterDownError, MasterDownError, MovedError, NoPermissionError

from cord_worker.coordination.broker import redis_transport, sentinel_transport
from cord_worker.coordination.broker.redis_transport import SET_ASIDE, expected_type
from cord_worker.errors import BrokerError, BrokerRefused
from cord_worker.local import limits
from cord_worker.service_url_checks import ESCAPES, is_amqp, sentinel_path

_TIMEOUT_SECONDS = 5.0
_PROBE = "cord.probe"
_GREETING_SECONDS = 0.3
_FULL_SHARE = 0.9
_MIN_FREE_CLIENTS = 50
_MAX_KEYS = 10_000
_AMQP_PREFIX = re.compile(r"^(?:[^:]*: )?\(\d+\) (?:[A-Z]+_[A-Z_]+ - )?")
_REDIS_TIMEOUTS = ("socket_timeout", "socket_connect_timeout")
_DEFAULT_PORTS = {"redis": 6379, "rediss": 6379, "amqp": 5672, "amqps": 5671}
_NO_SUCH_HOST = (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))
_NOT_REDIS = ("Protocol Error", "Invalid input", "AMQP", "HTTP/")
_TLS_ADVICE = "Write rediss:// or amqps:// only where the broker listens with TLS, with ssl_ca_certs=PATH for its CA"


@dataclass(frozen=True, slots=True)
class _RefusalState:
    """A state in which Redis refuses commands that a queue needs. It shows in an error that contains `sign` or has the
    type `kind`. If it `is_permanent`, another attempt cannot help."""

    sign: str
    kind: type[Exception] | None
    brief: str
    advice: str
    is_permanent: bool = False


_REFUSAL_STATES = (
    _RefusalState(
        "READONLY",
        redis.ReadOnlyError,
        "it is a replica, which takes no messages",
        "Name its primary in CORD_BROKER_URL, or promote it (REPLICAOF NO ONE)",
    ),
    _RefusalState(
        "MASTERDOWN",
        MasterDownError,
        "it is a replica that has lost its primary",
        "Name the primary in CORD_BROKER_URL, or promote it (REPLICAOF NO ONE)",
    ),
    _RefusalState(
        "MISCONF",
        None,
        "it is read-only, because it cannot save to its disk",
        "Make room on its disk, or save nothing (CONFIG SET save ''): messages need not survive a restart",
    ),
    _RefusalState(
        "NOREPLICAS",
        None,
        "it is read-only, because too few replicas follow it",
        "Start them, or CONFIG SET min-replicas-to-write 0",
    ),
    _RefusalState(
        "OOM",
        redis.OutOfMemoryError,
        "it is out of memory and takes no messages",
        "Raise its maxmemory, or remove other data from it",
    ),
    _RefusalState(
        "max number of clients",
        None,
        "it has no room for another client",
        "Raise its maxclients, or end other clients",
    ),
    _RefusalState("LOADING", redis.BusyLoadingError, "it still loads its data", "Wait until it is ready"),
    _RefusalState("BUSY", None, "it is busy with a script", "SCRIPT KILL ends the script"),
    _RefusalState("CLUSTERDOWN", ClusterDownError, "its cluster is down", "Repair the cluster"),
    _RefusalState(
        "MOVED",
        MovedError,
        "it is a node of a Redis Cluster, whose keys lie on several servers",
        "Name a Redis without cluster mode in CORD_BROKER_URL",
        is_permanent=True,
    ),
    _RefusalState(
        "NOPERM",
        NoPermissionError,
        "it forbids its user what a queue needs",
        "Allow it (ACL SETUSER USER ~* &* +@all -@dangerous +info), or name another user",
        is_permanent=True,
    ),
    _RefusalState(
        "unknown command",
        None,
        "it does not know a command that a queue needs (rename-command)",
        "Undo the renaming",
        is_permanent=True,
    ),
    _RefusalState(
        "WRONGTYPE",
        None,
        "one of our keys holds another type",
        "cordctl doctor names it; DEL it",
    ),
)
_BRPOP_SECONDS = "0.01"
_CONNECTION_CUT = ("Broken pipe", "reset by peer", "closed by server")


def _state_of(error: BaseException, url: str | None = None) -> _RefusalState | None:
    """The state that `error` shows, or None. If the connection was cut, what the Redis at `url` sends is read too."""
    text = str(error)
    if url is not None and any(sign in text for sign in _CONNECTION_CUT):
        text = _greeting(url)
    for state in _REFUSAL_STATES:
        matches = state.sign in text if " " in state.sign else re.search(rf"(^|: ){state.sign}\b", text) is not None
        if matches or (state.kind is not None and isinstance(error, state.kind)):
            return state
    return None


def _greeting(url: str) -> str:
    """What a Redis sends before the first command. A Redis without room for a client sends a reason and closes the
    connection; a client that writes in that moment never reads the reason."""
    if urlsplit(url).scheme not in ("redis", "redis+socket"):
        return ""
    try:
        with _plain_socket(url) as plain:
            plain.settimeout(_GREETING_SECONDS)
            return plain.recv(200).decode("utf-8", "replace")
    except OSError:
        return ""


def _plain_socket(url: str) -> socket.socket:
    parts = urlsplit(url)
    if parts.scheme == "redis":
        return socket.create_connection((parts.hostname or "localhost", parts.port or 6379), _GREETING_SECONDS)
    plain = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    plain.connect(parts.path)
    return plain


def short_reason(error: BaseException, url: str | None = None) -> str:
    """The reason why the broker of `url` failed, as a short clause; `error` is what its client raised."""
    if isinstance(error, OperationalError) and error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, amqp.ConsumerCancelled):
        return "its queue was deleted"
    if isinstance(error, redis.AuthenticationError | amqp.AccessRefused):
        return f"it refuses its user ({_brief(error)})"
    state = _state_of(error, url)
    return _brief(error) if state is None else f"{state.brief} ({_brief(error)})"


def probe_reading(connection: Connection) -> None:
    """Raises the error of a Redis that accepts connections but hands out no messages."""
    with connection.channel() as channel:
        if hasattr(channel, "conn_or_acquire"):
            _execute(channel, ("BRPOP", _PROBE, _BRPOP_SECONDS))


def _probe_writing(channel: Any) -> None:
    """Raises the error of a Redis that refuses a command which sending or receiving needs."""
    key = f"{_PROBE}.{uuid.uuid4().hex}"
    _execute(
        channel,
        ("BRPOP", key, _BRPOP_SECONDS),
        ("LPUSH", key, "x"),
        ("LLEN", key),
        ("BRPOP", key, "1"),
        ("SET", key, "x", "PX", "1000"),
        ("DEL", key),
    )


class _Blocked(Exception):
    """RabbitMQ accepts no messages: it is out of memory or disk."""


def _probe_publishing(connection: Any) -> None:
    """Sends a message to no queue. Raises _Blocked if RabbitMQ says that it accepts none.

    RabbitMQ says so only to clients that have sent something, and before it answers anything else.
    """

    def blocked(_: str) -> None:
        connection.collect()  # RabbitMQ would not answer a close either
        raise _Blocked

    connection.on_blocked = blocked
    with suppress(amqp.ChannelError):  # the user may lack the right to send there, and does not need it
        channel = connection.channel()
        channel.basic_publish(amqp.Message(""), routing_key=f"{_PROBE}.{uuid.uuid4().hex}")
        channel.basic_qos(0, 1, False)


def _execute(channel: Any, *commands: tuple[str, ...]) -> None:
    with channel.conn_or_acquire() as client:
        for command in commands:
            client.execute_command(*command)


def check_broker(url: str, prefix: str = "") -> str:
    """Connects once and tries all that a queue needs; returns product and version (`redis`, `RabbitMQ 4.0.5`).

    Raises BrokerRefused if another attempt cannot help, else BrokerError.
    """
    place = broker_address(url)
    try:
        with _connected(url, prefix) as (transport, connected):
            properties = getattr(connected, "server_properties", {})
            if is_amqp(url):
                _probe_publishing(connected)
            else:
                _probe_writing(transport.create_channel(connected))
            return f"{properties.get('product', 'redis')} {properties.get('version', '')}".strip()
    except (redis.AuthenticationError, amqp.AccessRefused) as error:
        raise BrokerRefused(
            f"the broker at {place} refuses the user or password of CORD_BROKER_URL ({_brief(error)}). Correct it "
            f"(in a password, {ESCAPES})"
        ) from None
    except _Blocked:
        raise BrokerError(
            f"RabbitMQ at {place} takes no messages: an alarm of its memory or disk blocks all senders. `rabbitmqctl "
            "status` names the alarm; make room, raise vm_memory_high_watermark, or lower disk_free_limit"
        ) from None
    except amqp.NotAllowed:
        vhost = unquote(urlsplit(url).path.removeprefix("/")) or "/"
        raise BrokerRefused(
            f"RabbitMQ at {place} has no virtual host {vhost!r}, or its user may not enter it. Make it (rabbitmqctl "
            f"add_vhost {vhost}; rabbitmqctl set_permissions -p {vhost} USER '.*' '.*' '.*'), or correct the URL"
        ) from None
    except (TypeError, ValueError) as error:
        raise BrokerRefused(f"CORD_BROKER_URL is not understood: {_brief(error)}. Correct it") from None
    except (redis.RedisError, amqp.AMQPError, OSError) as error:
        state = _state_of(error, url)
        if state is not None:
            kind = BrokerRefused if state.is_permanent else BrokerError
            raise kind(f"the broker at {place} cannot be used: {short_reason(error, url)}. {state.advice}") from None
        if isinstance(error, redis.ResponseError):
            raise BrokerRefused(
                f"the broker at {place} refuses what CORD_BROKER_URL asks for: {_brief(error)}. Correct it"
            ) from None
        raise _unreachable(error, place, encrypted=url.startswith(("rediss", "amqps"))) from None


@dataclass(frozen=True, slots=True)
class BrokerWarning:
    """A problem that a usable broker will have later, and what to do about it."""

    found: str
    advice: str


def broker_warnings(url: str, prefix: str) -> list[BrokerWarning]:
    """Settings and figures of a Redis that do not suit this service; none for RabbitMQ, and none if Redis does not
    report them. Raises kombu's errors if it cannot be reached."""
    if is_amqp(url):
        return []
    with (
        _connected(url) as (transport, connected),
        suppress(redis.ResponseError),
        transport.create_channel(connected).conn_or_acquire() as client,
    ):
        return [*_figure_warnings(client.info()), *_type_warnings(client, prefix)]
    return []


def _figure_warnings(info: Mapping[str, Any]) -> Iterator[BrokerWarning]:
    most, used = int(info.get("maxmemory", 0)), int(info.get("used_memory", 0))
    policy = str(info.get("maxmemory_policy", "noeviction"))
    if most and policy.startswith("allkeys"):
        yield BrokerWarning(
            f"it deletes messages when its memory is full (maxmemory-policy {policy})",
            "CONFIG SET maxmemory-policy noeviction; deleted messages are sent again, late",
        )
    if most and used > _FULL_SHARE * most:
        yield BrokerWarning(f"its memory is nearly full: {used} of {most} bytes", "raise its maxmemory")
    clients, most_clients = int(info.get("connected_clients", 0)), int(info.get("maxclients", 0))
    if most_clients and most_clients - clients < _MIN_FREE_CLIENTS:
        yield BrokerWarning(
            f"it has room for {max(0, most_clients - clients)} more clients, and a worker takes up to "
            f"{limits.WORKER.broker_connections}",
            "raise its maxclients",
        )
    if info.get("rdb_last_bgsave_status", "ok") != "ok":
        yield BrokerWarning("it could not save to its disk lately", "make room on its disk")


def _type_warnings(client: Any, prefix: str) -> Iterator[BrokerWarning]:
    for number, key in enumerate(client.scan_iter(match=f"{prefix}*", count=1000)):
        if number >= _MAX_KEYS:
            return
        name = key.decode("utf-8", "replace").removeprefix(prefix)
        wanted, kind = expected_type(name), client.type(key)
        if wanted is not None and kind not in (wanted, b"none"):
            yield BrokerWarning(
                f"its key {prefix}{name} is a {kind.decode()} and not a {wanted.decode()}",
                f"the next process that needs it renames it to {prefix}{SET_ASIDE}{name}; or DEL it",
            )


@contextmanager
def _connected(url: str, prefix: str = "") -> Iterator[tuple[Any, Any]]:
    """Kombu's transport and its connection, for the length of a `with`."""
    redis_transport.register()
    sentinel_transport.register()
    options: dict[str, Any] = {"read_timeout": _TIMEOUT_SECONDS}
    if not is_amqp(url):
        options = {**dict.fromkeys(_REDIS_TIMEOUTS, _TIMEOUT_SECONDS), "global_keyprefix": prefix}
    transport = Connection(url, connect_timeout=_TIMEOUT_SECONDS, transport_options=options).transport
    connected = transport.establish_connection()
    try:
        yield transport, connected
    finally:
        with suppress(redis.RedisError, amqp.AMQPError, OSError):
            transport.close_connection(connected)


def _unreachable(error: Exception, place: str, *, encrypted: bool) -> BrokerError:
    causes = [error, *(cause for cause in (error.__cause__, error.__context__) if cause is not None)]
    if any(isinstance(cause, socket.gaierror) and cause.errno in _NO_SUCH_HOST for cause in causes):
        return BrokerError(
            f"the broker cannot be reached: no host is called {place.rpartition(':')[0]!r}. Correct CORD_BROKER_URL "
            f"(in a password, {ESCAPES})"
        )
    if any(isinstance(cause, ConnectionRefusedError) for cause in causes):
        return BrokerError(
            f"the broker cannot be reached: nothing listens at {place}. Start it, or correct CORD_BROKER_URL"
        )
    if any(isinstance(cause, FileNotFoundError) for cause in causes):
        return BrokerError(
            f"the broker cannot be reached: there is no socket {place}. Start it, or correct CORD_BROKER_URL"
        )
    if any(isinstance(cause, ssl.SSLError) for cause in causes):
        return BrokerRefused(f"no encrypted connection to the broker at {place}: {_brief(error)}. {_TLS_ADVICE}")
    if any(sign in str(error) for sign in _NOT_REDIS):
        return BrokerRefused(f"what listens at {place} is the wrong server: {_brief(error)}. Correct CORD_BROKER_URL")
    advice = f"Does it listen with TLS? {_TLS_ADVICE}" if encrypted else "Is CORD_BROKER_URL right?"
    return BrokerError(f"the broker at {place} cannot be reached: {_brief(error)}. {advice}")


def broker_address(url: str) -> str:
    """Where the broker is: host and port, or the path of its socket; no password.

    With Sentinel: the name of the primary, and where the sentinels are.
    """
    parts = urlsplit(url)
    if parts.scheme == "sentinel":
        path = sentinel_path(parts.path.removeprefix("/"))
        more = "".join(f", {host}:{port}" for host, port in path.more_sentinels)
        return f"{path.primary} (sentinels {parts.hostname}:{parts.port}{more})"
    if parts.scheme == "redis+socket":
        return parts.path
    return f"{parts.hostname or 'localhost'}:{parts.port or _DEFAULT_PORTS[parts.scheme]}"


def _brief(error: BaseException) -> str:
    # py-amqp puts the method and the code before what the server says.
    text = _AMQP_PREFIX.sub("", " ".join(str(error).split()))
    return text[:200].rstrip(". ") or type(error).__name__
