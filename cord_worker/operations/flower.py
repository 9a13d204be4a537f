"""Starts Flower, Celery's monitor, on the broker."""

from __future__ import annotations

import os
import socket
import sys
from typing import NoReturn

from cord_worker import endpoints
from cord_worker.config import Settings
from cord_worker.coordination.broker.broker_check import check_broker
from cord_worker.errors import ConfigError
from cord_worker.local import processes

_OPTIONS = (
    # Its memory is bounded by these; --persistent would pickle the history to a file that it also loses.
    "--max-tasks=5000",
    "--purge-offline-workers=600",
)


def exec_flower(settings: Settings, port: int) -> NoReturn:
    """Replaces this process by Flower on 127.0.0.1 only, because Flower serves some pages without credentials.

    Raises ConfigError if no broker is known or the port is taken, BrokerError if the broker is away.
    """
    broker = endpoints.broker_url(settings)
    check_broker(broker)
    _check_port(port)
    environment = {
        **processes.python_environment(),
        # Not an argument: every user of the machine can read a process's arguments.
        "CORD_BROKER_URL": broker,
        "CORD_STATE_DIR": str(settings.state_dir),
    }
    command = (sys.executable, "-P", "-m", "celery", "-A", "cord_worker.celery_app", "flower")
    sys.stdout.flush()
    os.execve(sys.executable, [*command, "--address=127.0.0.1", f"--port={port}", *_OPTIONS], environment)


def _check_port(port: int) -> None:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError as error:
        raise ConfigError(
            f"port {port} of 127.0.0.1 cannot be served: {os.strerror(error.errno or 0)}. Name another one "
            "(cordctl flower --port PORT)"
        ) from None
