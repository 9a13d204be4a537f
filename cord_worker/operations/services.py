"""PostgreSQL and Redis for commands that bring their own: the environment's where both are set, else embedded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from cord_worker import endpoints
from cord_worker.config import Settings
from cord_worker.local.services import Endpoints, LocalServices
from cord_worker.local.state import StateDir


@dataclass(frozen=True, slots=True)
class Services:
    """Where the services are, and whether this machine embeds them; logs go to the state folder in both cases."""

    endpoints: Endpoints
    embedded: bool
    state: StateDir


@contextmanager
def services_for(settings: Settings, say: Callable[[str], None]) -> Iterator[Services]:
    """The services for the length of a `with`; embedded ones are left as they were found. What does not suit in the
    broker of CORD_BROKER_URL is said.

    Raises LocalServiceError where an embedded server could not be started, BrokerError where the broker is away.
    """
    if settings.database_url is not None and settings.broker_url is not None:
        known = Endpoints(settings.database_url, settings.broker_url)
        _check_broker(settings.broker_url, settings.key_prefix, say)
        yield Services(known, embedded=False, state=StateDir.open(settings.state_dir))
        return
    if settings.broker_url is not None:
        _check_broker(settings.broker_url, settings.key_prefix, say)
    local = LocalServices(settings.state_dir)
    try:
        started = local.ensure_started()
        known = Endpoints(settings.database_url or started.database_url, settings.broker_url or started.broker_url)
        yield Services(known, embedded=True, state=local.state)
    finally:
        local.release()


def _check_broker(url: str, prefix: str, say: Callable[[str], None]) -> None:
    # Late: it imports the clients, which an embedded broker does not need here.
    from cord_worker.coordination.broker_check import check_broker, remarks_on

    check_broker(url, prefix)
    for remark in remarks_on(url, prefix):
        say(f"warning: the broker: {remark.found}. Advice: {remark.advice}")


def known_endpoints(settings: Settings) -> Endpoints:
    """Where services are that run already. Raises ConfigError where none are known."""
    return Endpoints(endpoints.database_url(settings), endpoints.broker_url(settings))
