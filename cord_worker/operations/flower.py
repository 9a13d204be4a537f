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
    # These bound its memory. --persistent is left out, because it pickles the history to a file.
    "--max-tasks=5000",
    "--purge-offline-workers=600",
    # "args" are the problem and the step. There is no column for results, because tasks have none.
    "--tasks-columns=name,kwargs,state,worker,received,started,runtime",
)


def exec_flower(settings: Settings, port: int, *, read_write: bool = False) -> NoReturn:
    """Replaces this process with Flower, on 127.0.0.1 only, because Flower serves some pages without credentials.

    Without `read_write` it shows no buttons and refuses commands to workers.

    Raises ConfigError if no broker is known or the port is taken, BrokerError if the broker is unreachable.
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
    options = (f"--port={port}", f"--read-only={not read_write}", *_OPTIONS)
    os.execve(sys.executable, [*command, "--address=127.0.0.1", *options], environment)


def _check_port(port: int) -> None:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError as error:
        raise ConfigError(
            f"port {port} of 127.0.0.1 cannot be served: {os.strerror(error.errno or 0)}. Name another one "
            "(cordctl flower --port PORT)"
        ) from None
