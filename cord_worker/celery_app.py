"""The Celery application, for Celery's own commands: `celery -A cord_worker.celery_app flower`."""

from __future__ import annotations

from cord_worker.config import Settings
from cord_worker.coordination.celery.app import create_app
from cord_worker.endpoints import broker_url

_settings = Settings.from_environment()

app = create_app(broker_url(_settings), _settings)
