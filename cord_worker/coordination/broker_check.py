"""Whether the broker of CORD_BROKER_URL can be used, and in words why not; no message repeats a password."""

from __future__ import annotations

import re
import socket
import ssl
from urllib.parse import unquote, urlsplit

import amqp
import redis
from kombu import Connection

from cord_worker.errors import BrokerError, BrokerRefused
from cord_worker.service_urls import ESCAPES, is_amqp

_SECONDS = 5.0
_AMQP_NUMBERS = re.compile(r"^(?:[^:]*: )?\(\d+\) (?:[A-Z]+_[A-Z_]+ - )?")
_REDIS_TIMEOUTS = ("socket_timeout", "socket_connect_timeout")
_DEFAULT_PORTS = {"redis": 6379, "rediss": 6379, "amqp": 5672, "amqps": 5671}
_NO_SUCH_HOST = (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))
_NOT_REDIS = ("Protocol Error", "Invalid input", "AMQP", "HTTP/")
_TLS_ADVICE = "Write rediss:// or amqps:// only where the broker listens with TLS, with ssl_ca_certs=PATH for its CA"


def check_broker(url: str) -> str:
    """Connects once; returns what answers (`redis`, `RabbitMQ 4.0.5`).

    Raises BrokerRefused where trying again cannot help, else BrokerError.
    """
    place = _place(url)
    try:
        return _greeting(url)
    except (redis.AuthenticationError, amqp.AccessRefused) as error:
        raise BrokerRefused(
            f"the broker at {place} refuses the user or password of CORD_BROKER_URL ({_brief(error)}). Correct it "
            f"(in a password, {ESCAPES})"
        ) from None
    except amqp.NotAllowed:
        vhost = unquote(urlsplit(url).path.removeprefix("/")) or "/"
        raise BrokerRefused(
            f"RabbitMQ at {place} has no virtual host {vhost!r}, or its user may not enter it. Make it (rabbitmqctl "
            f"add_vhost {vhost}; rabbitmqctl set_permissions -p {vhost} USER '.*' '.*' '.*'), or correct the URL"
        ) from None
    except (TypeError, ValueError) as error:
        raise BrokerRefused(f"CORD_BROKER_URL is not understood: {_brief(error)}. Correct it") from None
    except redis.ResponseError as error:
        raise BrokerRefused(
            f"the broker at {place} refuses what CORD_BROKER_URL asks for: {_brief(error)}. Correct it"
        ) from None
    except (redis.RedisError, amqp.AMQPError, OSError) as error:
        raise _unreachable(error, place, encrypted=url.startswith(("rediss", "amqps"))) from None


def _greeting(url: str) -> str:
    options = {"read_timeout": _SECONDS} if is_amqp(url) else dict.fromkeys(_REDIS_TIMEOUTS, _SECONDS)
    transport = Connection(url, connect_timeout=_SECONDS, transport_options=options).transport
    established = transport.establish_connection()
    try:
        named = getattr(established, "server_properties", {})
        return f"{named.get('product', transport.driver_name)} {named.get('version', '')}".strip()
    finally:
        transport.close_connection(established)


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
        return BrokerRefused(f"what listens at {place} is no such broker: {_brief(error)}. Correct CORD_BROKER_URL")
    advice = f"Does it listen with TLS? {_TLS_ADVICE}" if encrypted else "Is CORD_BROKER_URL right?"
    return BrokerError(f"the broker at {place} cannot be reached: {_brief(error)}. {advice}")


def _place(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme == "redis+socket":
        return parts.path
    return f"{parts.hostname or 'localhost'}:{parts.port or _DEFAULT_PORTS[parts.scheme]}"


def _brief(error: BaseException) -> str:
    # py-amqp puts the method and the code before what the server says.
    text = _AMQP_NUMBERS.sub("", " ".join(str(error).split()))
    return text[:200].rstrip(". ") or type(error).__name__
