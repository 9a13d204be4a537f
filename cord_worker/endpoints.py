"""Finds the URLs of the database and the broker: in the environment, else in the state folder with embedded servers."""

from __future__ import annotations

import json

from cord_worker.config import Settings
from cord_worker.errors import ConfigError


def database_url(settings: Settings | None = None) -> str:
    """SQLAlchemy URL of the database. Raises ConfigError if none is known."""
    settings = settings or Settings.from_environment()
    return settings.database_url or _embedded(settings, "postgres", "CORD_DATABASE_URL")


def broker_url(settings: Settings | None = None) -> str:
    """Celery broker URL. Raises ConfigError if none is known."""
    settings = settings or Settings.from_environment()
    return settings.broker_url or _embedded(settings, "redis", "CORD_BROKER_URL")


def _embedded(settings: Settings, server: str, variable: str) -> str:
    """URL of a running embedded server, from `services.json` in the state folder; does not create the folder."""
    from cord_worker.local.processes import ProcessId

    path = settings.state_dir / "services.json"
    try:
        recorded = json.loads(path.read_text(encoding="utf-8"))[server]
        url, process = recorded["url"], ProcessId(**recorded["process"])
    except (OSError, ValueError, KeyError, TypeError):
        url, process = None, None
    # The record survives a kill -9, so it counts only while that very process is alive.
    if not isinstance(url, str) or process is None or not process.is_alive():
        raise ConfigError(
            f"{variable} is not set and no embedded services run in {settings.state_dir}. Start them with "
            f"`cordctl up`, or set {variable}."
        )
    return url
