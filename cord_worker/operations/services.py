"""PostgreSQL and Redis for `run` and `up`: those of the environment if they are set, else embedded ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from cord_worker import endpoints
from cord_worker.config import Settings
from cord_worker.local.services import Endpoints, LocalServices
from cord_worker.local.state import StateDir


@dataclass(frozen=True, slots=True)
class RunServices:
    """URLs of the services, whether one of them is embedded, and the state folder, which always gets the logs."""

    endpoints: Endpoints
    embedded: bool
    state: StateDir


@contextmanager
def services_for(settings: Settings, say: Callable[[str], None]) -> Iterator[RunServices]:
    """The services for the length of a `with`. After it, embedded ones are stopped unless another process uses them.
    `say` gets warnings about the broker of CORD_BROKER_URL.

    Raises LocalServiceError if an embedded server could not be started, BrokerError if the broker is unreachable.
    """
    if settings.database_url is not None and settings.broker_url is not None:
        known = Endpoints(settings.database_url, settings.broker_url)
        _check_broker(settings.broker_url, settings.key_prefix, say)
        yield RunServices(known, embedded=False, state=StateDir.open(settings.state_dir))
        return
    if settings.broker_url is not None:
        _check_broker(settings.broker_url, settings.key_prefix, say)
    local = LocalServices(settings.state_dir)
    try:
        started = local.ensure_started()
        known = Endpoints(settings.database_url or started.database_url, settings.broker_url or started.broker_url)
        yield RunServices(known, embedded=True, state=local.state)
    finally:
        local.release()


def _check_broker(url: str, prefix: str, say: Callable[[str], None]) -> None:
    # Imported here because it imports the broker's clients, which an embedded broker does not need.
    from cord_worker.coordination.broker.broker_check import broker_warnings, check_broker

    check_broker(url, prefix)
    for warning in broker_warnings(url, prefix):
        say(f"warning: the broker: {warning.found}. Advice: {warning.advice}")


def known_endpoints(settings: Settings) -> Endpoints:
    """URLs of services that run already. Raises ConfigError if none are known."""
    return Endpoints(endpoints.database_url(settings), endpoints.broker_url(settings))
