"""Checks the URLs of database and broker before anything connects to them.

Messages repeat only the scheme of a URL: the rest may hold a password.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from urllib.parse import unquote

BROKERS = ("redis", "rediss", "redis+socket", "sentinel", "amqp", "amqps")
"""Schemes of CORD_BROKER_URL; `_SAME_BROKER` has other names for them."""
_SAME_BROKER = {"pyamqp": "amqp", "pyamqps": "amqps", "unix": "redis+socket"}
_REFUSED_BROKERS = {
    "sqs": "Amazon SQS is not supported: use Redis (ElastiCache) or RabbitMQ (Amazon MQ)",
    "kafka": "Kafka is not supported, because it is a log and not a queue: use Redis or RabbitMQ",
    "confluentkafka": "Kafka is not supported, because it is a log and not a queue: use Redis or RabbitMQ",
    "memory": "a broker in memory cannot be shared by processes: leave CORD_BROKER_URL out for an embedded Redis",
    "filesystem": "a broker in files is not supported: leave CORD_BROKER_URL out for an embedded Redis",
    "valkey": "Valkey speaks Redis's protocol: write redis:// in place of valkey://",
    "valkeys": "Valkey speaks Redis's protocol: write rediss:// in place of valkeys://",
}
_DATABASES = ("postgresql", "postgres")
ESCAPES = "@ is written %40, / %2F, : %3A, # %23, ? %3F, % %25"
_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_BROKER_EXAMPLE = (
    "redis://:PASSWORD@HOST:6379/0, rediss:// (with TLS), redis+socket:///PATH, sentinel://HOST:26379/PRIMARY/0 or "
    "amqp://USER:PASSWORD@HOST/"
)
_SENTINEL_EXAMPLE = "sentinel://:PASSWORD@HOST:26379,HOST:26379/PRIMARY/0"
_DATABASE_EXAMPLE = "postgresql://USER:PASSWORD@HOST:5432/DATABASE"


def checked_database_url(value: str) -> str:
    """`value` with the driver that the service uses. Raises ValueError without repeating a password."""
    scheme, rest = _parts(value, _DATABASE_EXAMPLE)
    kind, _, driver = scheme.partition("+")
    if kind not in _DATABASES:
        raise ValueError(_other_scheme(kind, _DATABASES, f"must be a PostgreSQL URL such as {_DATABASE_EXAMPLE}"))
    if driver not in {"", "psycopg"}:
        raise ValueError(f"the driver {driver!r} is not used here: write postgresql:// in place of {scheme}://")
    _check_authority(rest)
    return f"postgresql+psycopg://{_hosts_in_query(rest)}"


def checked_broker_url(value: str) -> str:
    """`value` with the usual scheme of its kind of broker. Raises ValueError without repeating a password."""
    scheme, rest = _parts(value, _BROKER_EXAMPLE)
    scheme = _SAME_BROKER.get(scheme, scheme)
    if scheme in _REFUSED_BROKERS:
        raise ValueError(_REFUSED_BROKERS[scheme])
    if scheme not in BROKERS:
        raise ValueError(_other_scheme(scheme, BROKERS, f"must be one of {_BROKER_EXAMPLE}"))
    if ";" in rest and "://" in rest:
        raise ValueError("must be one URL: several brokers are not supported")
    if scheme == "sentinel":
        return _checked_sentinel_url(rest)
    if scheme == "redis+socket":
        if not rest.partition("?")[0].startswith("/"):
            raise ValueError("redis+socket:// needs the absolute path of the socket: redis+socket:///run/redis.sock")
        return f"{scheme}://{rest}"
    _check_authority(rest)
    database = rest.partition("?")[0].partition("/")[2]
    if scheme in {"redis", "rediss"} and database and not database.isdecimal():
        raise ValueError("a Redis URL ends with the number of its database, such as redis://HOST:6379/0")
    return f"{scheme}://{rest}"


@dataclass(frozen=True, slots=True)
class SentinelPath:
    """What follows the first sentinel in a checked URL: the primary's name, its database, and the other sentinels."""

    primary: str
    database: int
    more_sentinels: tuple[tuple[str, int], ...]


def sentinel_path(path: str) -> SentinelPath:
    """The path of a checked sentinel URL: `PRIMARY/DATABASE/HOST:PORT,HOST:PORT`, without a slash before it."""
    primary, database, more = f"{unquote(path)}//".split("/")[:3]
    pairs = (host.rpartition(":") for host in more.split(",") if host)
    return SentinelPath(primary, int(database or 0), tuple((host, int(port)) for host, _, port in pairs))


def _checked_sentinel_url(rest: str) -> str:
    """The URL with the first sentinel as its host and the others at the end of its path, the only form that kombu
    parses."""
    place, _, query = rest.partition("?")
    credentials, at, address = place.rpartition("@")
    if at and (any(character in credentials for character in "@/#[]") or _PERCENT.search(credentials)):
        raise ValueError(f"the user or password contains an unescaped character: {ESCAPES}")
    authority, _, path = address.partition("/")
    primary, database, more = f"{path}//".split("/")[:3]
    hosts = [host for host in (*authority.split(","), *more.split(",")) if host]
    if query or not hosts or not primary or not (database or "0").isdecimal():
        raise ValueError(
            "sentinel:// needs the sentinels, the name of their primary, and the number of a database: "
            f"{_SENTINEL_EXAMPLE}"
        )
    named = []
    for host in hosts:
        name, colon, port = host.partition(":")
        if not name or (colon and not (port.isdecimal() and 0 < int(port) < 65_536)):
            raise ValueError(f"a sentinel is HOST:PORT (an IPv6 address is not supported): {_SENTINEL_EXAMPLE}")
        named.append(f"{name}:{port or 26379}")
    return f"sentinel://{credentials}{at}{named[0]}/{primary}/{database or 0}/{','.join(named[1:])}"


def is_amqp(broker_url: str) -> bool:
    """True if the broker is RabbitMQ."""
    return broker_url.startswith("amqp")


def _hosts_in_query(rest: str) -> str:
    """Moves several hosts in libpq's notation (`a:1,b:2`) into the query, where SQLAlchemy expects them."""
    before, _, query = rest.partition("?")
    location, slash, database = before.partition("/")
    credentials, at, authority = location.rpartition("@")
    if "," not in authority:
        return rest
    hosts = [re.fullmatch(r"(\[.*\]|[^:]*)(?::(\d+))?", host) for host in authority.split(",")]
    named = [(found[1].strip("[]"), found[2] or "5432") for found in hosts if found is not None]
    listed = f"host={','.join(host for host, _ in named)}&port={','.join(port for _, port in named)}"
    return f"{credentials}{at}{slash or '/'}{database}?{listed}{'&' if query else ''}{query}"


def _parts(value: str, example: str) -> tuple[str, str]:
    if not value.strip():
        raise ValueError("is empty: set it, or unset it for an embedded server")
    if value != value.strip() or any(character.isspace() for character in value):
        raise ValueError("contains a space or a line end: remove it (in a password, a space is written %20)")
    scheme, separator, rest = value.partition("://")
    if not separator:
        raise ValueError(f"is not a URL: write it like {example}")
    return scheme.lower(), rest


def _other_scheme(scheme: str, known: tuple[str, ...], otherwise: str) -> str:
    near = difflib.get_close_matches(scheme, known, n=1)
    meant = f"did you mean {near[0]}://? It " if near else ""
    return f"{scheme}:// is not supported: {meant}{otherwise}"


def _check_authority(rest: str) -> None:
    """Raises ValueError if an unescaped character ends user or password too early, or if the port is not a number."""
    before_query, _, query = rest.partition("?")
    credentials, at, location = before_query.rpartition("@")
    if at and (any(character in credentials for character in "@/#[]") or _PERCENT.search(credentials)):
        raise ValueError(f"the user or password contains an unescaped character: {ESCAPES}")
    authority = location.partition("/")[0]
    # After an unescaped ? in the password, the rest of the URL looks like a query.
    if not at and "@" in query and ":" in authority and not authority.rpartition(":")[2].isdecimal():
        raise ValueError(f"the user or password contains an unescaped character: {ESCAPES}")
    if "," in authority:  # several hosts, which libpq accepts
        return
    _, colon, port = authority.rpartition("]")[2].partition(":")  # an IPv6 address in brackets holds colons
    if colon and not (port.isdecimal() and 0 < int(port) < 65_536):
        raise ValueError(
            "the port after the host must be a number from 1 to 65535 (put an IPv6 address in brackets; in a "
            f"password, {ESCAPES})"
        )
