"""Processes of the service that start in milliseconds: forked from one that has imported it, as `cordctl run` does.

Importing costs two seconds of a processor, and a test needs four such processes; what runs in them is the same.
"""

from __future__ import annotations

import atexit
import functools
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from cord_worker.config import RunConfig
from cord_worker.local.fork_server import ForkedProcess, ForkServer, start_fork_server
from cord_worker.operations.fleet import preloaded_modules

SERVICE = (
    "cord_worker.coordination.process.main",
    "cord_worker.engines.instant",
    "celery.app.amqp",
    "celery.concurrency.thread",
    "celery.worker.consumer",
    "celery.worker.worker",
    "kombu.transport.redis",
    "psycopg_binary",
    "sqlalchemy.dialects.postgresql.psycopg",
)
"""What coordinators and workers of engines without a library of their own import."""
_SECONDS = 120.0


class Forked(ForkedProcess):
    """A forked process as `subprocess.Popen`, as far as tests use it."""

    @property
    def returncode(self) -> int | None:
        """Its exit code, as `poll` found it."""
        return self.poll()

    def kill(self) -> None:
        """SIGKILL, unless it has ended."""
        self.send_signal(9)

    def wait(self, timeout: float | None = None) -> int:
        """Waits for its end; returns the exit code. Raises TimeoutExpired after `timeout` seconds."""
        if timeout is None:
            return super().wait()
        deadline = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout)
            time.sleep(0.02)
        return code


def start(
    config: RunConfig, arguments: Sequence[str], environment: Mapping[str, str], log: Path
) -> Forked | subprocess.Popen[bytes]:
    """`cordctl arguments`, for a worker of `config` or a coordinator; its output is added to `log`."""
    with log.open("ab") as file:
        engines = {model.engine for model in config.models.values()}
        if "vllm" not in engines and sys.platform.startswith("linux"):
            modules = preloaded_modules(config) if "transformers" in engines else ()
            server = _server((*SERVICE, *modules))
            return Forked(server.fork("cord_worker.cli", arguments, environment, file.fileno()).pid)
        return subprocess.Popen(
            [sys.executable, "-m", "cord_worker.cli", *arguments],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
        )


@functools.cache
def _server(modules: tuple[str, ...]) -> ForkServer:
    server = start_fork_server(modules)
    assert server is not None
    atexit.register(server.close)
    if not server.wait_until_ready(_SECONDS):
        raise AssertionError(f"nothing can be forked: {server.failure}")
    return server
